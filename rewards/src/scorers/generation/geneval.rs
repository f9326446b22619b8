//! GenEval's decisions: from a detector's boxes and a classifier's colours to right or wrong, with the reason.
//!
//! Source: `evaluate_images.py`. Boxes are single-precision floats, as the detector gives them; thresholds are compared
//! in single precision too.

use serde_json::{Map, Value, json};

use super::super::ScoreError;
use super::super::case::{Case, number};
use super::classes::{CLASSES, COLORS};

/// A detected object: left, top, right, bottom, score, and the colour classifier's result.
#[derive(Debug, Clone)]
struct DetectedObject {
    corners: [f32; 4],
    score: f32,
    color: String,
}

/// The script's `--options`.
struct GenevalOptions {
    threshold: f32,
    counting_threshold: f32,
    max_objects: usize,
    max_overlap: f32,
    position_threshold: f32,
}

/// Decides whether a picture's detections match a line of the prompts' metadata.
///
/// # Errors
/// An error if a field is missing, or if a box is not five numbers and a colour.
pub fn verdict(case: &Case<'_>) -> Result<Value, ScoreError> {
    let detections = case.object(&["prediction"])?;
    let metadata = case.object(&["reference"])?;
    let options = GenevalOptions::read(case);
    let is_counting = metadata.get("tag").and_then(Value::as_str) == Some("counting");
    let threshold = if is_counting {
        options.counting_threshold
    } else {
        options.threshold
    };
    let mut kept: Vec<(&str, Vec<DetectedObject>)> = Vec::new();
    for class in CLASSES {
        if let Some(boxes) = detections.get(class).and_then(Value::as_array) {
            let objects = boxes.iter().map(object).collect::<Option<Vec<_>>>();
            let objects = objects.ok_or_else(|| {
                ScoreError::wrong(&["prediction"], "class → [[x1, y1, x2, y2, score, colour], …]")
            })?;
            let objects = keep(objects, threshold, &options);
            if !objects.is_empty() {
                kept.push((class, objects));
            }
        }
    }
    let reasons = reasons(&kept, metadata, &options);
    let shown: Map<String, Value> = kept
        .iter()
        .map(|(class, objects)| ((*class).to_owned(), objects.iter().map(shown).collect()))
        .collect();
    Ok(json!({ "correct": reasons.is_empty(), "reason": reasons.join("\n"), "kept": shown }))
}

impl GenevalOptions {
    fn read(case: &Case<'_>) -> Self {
        let said = case.find(&["options"]);
        let option = |name: &str, default: f64| {
            said.and_then(|said| said.get(name))
                .and_then(number)
                .unwrap_or(default)
        };
        Self {
            threshold: option("threshold", 0.3) as f32,
            counting_threshold: option("counting_threshold", 0.9) as f32,
            max_objects: option("max_objects", 16.0) as usize,
            max_overlap: option("max_overlap", 1.0) as f32,
            position_threshold: option("position_threshold", 0.1) as f32,
        }
    }
}

fn object(value: &Value) -> Option<DetectedObject> {
    let fields = value.as_array()?;
    let at = |i: usize| fields.get(i).and_then(number).map(|value| value as f32);
    Some(DetectedObject {
        corners: [at(0)?, at(1)?, at(2)?, at(3)?],
        score: at(4)?,
        color: fields
            .get(5)
            .and_then(Value::as_str)
            .unwrap_or("white")
            .to_owned(),
    })
}

fn shown(object: &DetectedObject) -> Value {
    let numbers = object
        .corners
        .iter()
        .chain([&object.score])
        .map(|value| Value::from(f64::from(*value)));
    numbers.collect()
}

/// Keeps the objects above the threshold, best first, up to the limit, without those that overlap a kept one.
fn keep(mut objects: Vec<DetectedObject>, threshold: f32, options: &GenevalOptions) -> Vec<DetectedObject> {
    objects.sort_by(|a, b| {
        let by_place = || {
            a.corners
                .iter()
                .zip(&b.corners)
                .map(|(a, b)| a.total_cmp(b))
                .find(|order| order.is_ne())
        };
        b.score
            .total_cmp(&a.score)
            .then_with(|| by_place().unwrap_or(std::cmp::Ordering::Equal))
    });
    objects.retain(|object| object.score > threshold);
    objects.truncate(options.max_objects);
    let mut kept: Vec<DetectedObject> = Vec::new();
    for object in objects {
        if options.max_overlap == 1.0
            || kept
                .iter()
                .all(|other| overlap(other, &object) < options.max_overlap)
        {
            kept.push(object);
        }
    }
    kept
}

/// Computes intersection over union, with edges counted as pixels.
fn overlap(a: &DetectedObject, b: &DetectedObject) -> f32 {
    let area = |c: [f32; 4]| (c[2] - c[0] + 1.0).max(0.0) * (c[3] - c[1] + 1.0).max(0.0);
    let (a, b) = (a.corners, b.corners);
    let shared = area([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
    let union = area(a) + area(b) - shared;
    if union == 0.0 { 0.0 } else { shared / union }
}

/// Returns the reasons why detections do not match the metadata, none if they match. As in the official script, the
/// position is checked only if the number and the colour are right, and an object that does not match cannot be the
/// reference of a later position.
fn reasons(
    kept: &[(&str, Vec<DetectedObject>)],
    metadata: &Map<String, Value>,
    options: &GenevalOptions,
) -> Vec<String> {
    let found = |class: &str| {
        kept.iter()
            .find(|(kept, _)| *kept == class)
            .map_or(&[][..], |(_, objects)| objects)
    };
    let list = |field: &str| {
        metadata
            .get(field)
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice)
    };
    let mut reasons = Vec::new();
    let mut groups: Vec<Option<&[DetectedObject]>> = Vec::new();
    for wanted in list("include") {
        let (class, count) = class_and_count(wanted);
        let objects = found(class);
        let objects = &objects[..count.min(objects.len())];
        let before = reasons.len();
        if objects.len() < count {
            reasons.push(format!("expected {class}>={count}, found {}", objects.len()));
        } else {
            reasons.extend(color_reason(wanted, class, count, objects));
            if reasons.len() == before {
                reasons.extend(position_reason(wanted, class, objects, &groups, options));
            }
        }
        groups.push((reasons.len() == before).then_some(objects));
    }
    for unwanted in list("exclude") {
        let (class, count) = class_and_count(unwanted);
        let objects = found(class);
        if objects.len() >= count {
            reasons.push(format!("expected {class}<{count}, found {}", objects.len()));
        }
    }
    reasons
}

fn class_and_count(wanted: &Value) -> (&str, usize) {
    let class = wanted.get("class").and_then(Value::as_str).unwrap_or("");
    (
        class,
        wanted.get("count").and_then(Value::as_u64).unwrap_or(1) as usize,
    )
}

fn color_reason(wanted: &Value, class: &str, count: usize, objects: &[DetectedObject]) -> Option<String> {
    let color = wanted.get("color")?.as_str()?;
    let count_of = |color: &str| objects.iter().filter(|object| object.color == color).count();
    if count_of(color) >= count {
        return None;
    }
    let all: Vec<String> = COLORS
        .iter()
        .filter(|color| count_of(color) > 0)
        .map(|color| format!("{} {color}", count_of(color)))
        .collect();
    Some(format!(
        "expected {color} {class}>={count}, found {} {color}; and {}",
        count_of(color),
        all.join(", ")
    ))
}

fn position_reason(
    wanted: &Value,
    class: &str,
    objects: &[DetectedObject],
    groups: &[Option<&[DetectedObject]>],
    options: &GenevalOptions,
) -> Option<String> {
    let position = wanted.get("position")?;
    let relation = position.get(0)?.as_str()?;
    let place = position.get(1)?.as_i64()?;
    // A negative index counts from the end, as in Python.
    let place = if place < 0 {
        groups.len().checked_sub(place.unsigned_abs() as usize)?
    } else {
        place as usize
    };
    let Some(targets) = groups.get(place).copied().flatten() else {
        return Some(format!("no target for {class} to be {relation}"));
    };
    let pairs = objects
        .iter()
        .flat_map(|object| targets.iter().map(move |target| (object, target)));
    let found = pairs
        .map(|(object, target)| relations(object, target, options.position_threshold))
        .find(|found| !found.contains(&relation))?;
    Some(format!(
        "expected {class} {relation} target, found {} target",
        found.join(" and ")
    ))
}

/// Returns the position of `a` relative to `b`: no, one or two relations. All in single precision.
fn relations(a: &DetectedObject, b: &DetectedObject, position_threshold: f32) -> Vec<&'static str> {
    let center = |c: &[f32; 4], axis: usize| (c[axis] + c[axis + 2]) / 2.0;
    let size = |c: &[f32; 4], axis: usize| (c[axis + 2] - c[axis]).abs();
    let offset: Vec<f32> = (0..2)
        .map(|axis| center(&a.corners, axis) - center(&b.corners, axis))
        .collect();
    let revised: Vec<f32> = (0..2)
        .map(|axis| {
            let slack = position_threshold * (size(&a.corners, axis) + size(&b.corners, axis));
            let sign = if offset[axis] == 0.0 {
                0.0
            } else {
                offset[axis].signum()
            };
            (offset[axis].abs() - slack).max(0.0) * sign
        })
        .collect();
    if revised.iter().all(|part| part.abs() < 1e-3) {
        return Vec::new();
    }
    let norm = (offset[0] * offset[0] + offset[1] * offset[1]).sqrt();
    let (dx, dy) = (revised[0] / norm, revised[1] / norm);
    let tests = [
        (dx < -0.5, "left of"),
        (dx > 0.5, "right of"),
        (dy < -0.5, "above"),
        (dy > 0.5, "below"),
    ];
    let mut found: Vec<&str> = tests
        .into_iter()
        .filter(|(is_so, _)| *is_so)
        .map(|(_, name)| name)
        .collect();
    // The official order is that of a Python set, which is arbitrary; this one is sorted.
    found.sort_unstable();
    found
}
