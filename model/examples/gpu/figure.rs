//! A figure and its verdict. A section prints each figure as a JSON line on its standard output.

use serde::{Deserialize, Serialize};

/// The verdict on a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The requirement is met, or there is none.
    #[serde(rename = "ok")]
    Ok,
    /// The result is right, but slower or larger than required.
    #[serde(rename = "below")]
    Below,
    /// The result is wrong or could not be obtained.
    #[serde(rename = "FAIL")]
    Fail,
    /// The figure was not measured; the note says why.
    #[serde(rename = "skipped")]
    Skipped,
}

impl Verdict {
    /// Returns the verdict as it is printed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Below => "below",
            Self::Fail => "FAIL",
            Self::Skipped => "skipped",
        }
    }
}

/// A figure that was measured or checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The section that the figure belongs to.
    pub section: String,
    /// The name of the figure.
    pub figure: String,
    /// The verdict.
    pub verdict: Verdict,
    /// The required value, in `unit`.
    #[serde(default)]
    pub asked: Option<f64>,
    /// The target value, in `unit`.
    #[serde(default)]
    pub aim: Option<f64>,
    /// The measured value, in `unit`.
    #[serde(default)]
    pub reached: Option<f64>,
    /// The unit of all three values.
    #[serde(default)]
    pub unit: String,
    /// Any other remarks.
    #[serde(default)]
    pub note: String,
}

/// Prints the figures of a section.
pub struct Teller {
    section: String,
}

/// The required and the target value of a figure, or `None` if the shape or the device is not the one they
/// are for.
pub type Asked = Option<(f64, f64)>;

impl Teller {
    /// Creates the printer for the section `section`.
    pub fn new(section: &str) -> Self {
        Self {
            section: section.to_owned(),
        }
    }

    /// Prints a figure that has no requirement.
    pub fn found(&self, figure: &str, reached: f64, unit: &str, note: &str) {
        let (figure, verdict) = (figure.to_owned(), finite(reached));
        self.tell(Figure {
            reached: Some(reached),
            unit: unit.to_owned(),
            note: note.to_owned(),
            ..self.figure(figure, verdict)
        });
    }

    /// Prints a figure that must be at most the required value.
    pub fn at_most(&self, figure: &str, reached: f64, unit: &str, asked: Asked) {
        self.measured(figure, reached, unit, asked, |asked| reached <= asked);
    }

    /// Prints a figure that must be at least the required value.
    pub fn at_least(&self, figure: &str, reached: f64, unit: &str, asked: Asked) {
        self.measured(figure, reached, unit, asked, |asked| reached >= asked);
    }

    /// Prints a check that passes or fails.
    pub fn check(&self, figure: &str, right: bool, note: &str) {
        let verdict = if right { Verdict::Ok } else { Verdict::Fail };
        self.tell(Figure {
            note: note.to_owned(),
            ..self.figure(figure.to_owned(), verdict)
        });
    }

    /// Prints a difference with its tolerance, and whether it is acceptable.
    pub fn difference(&self, figure: &str, difference: f64, tolerance: f64, right: bool, note: &str) {
        let verdict = if right { Verdict::Ok } else { Verdict::Fail };
        self.tell(Figure {
            asked: Some(tolerance),
            reached: Some(difference),
            unit: "relative".to_owned(),
            note: note.to_owned(),
            ..self.figure(figure.to_owned(), verdict)
        });
    }

    /// Prints a figure that was skipped.
    pub fn skipped(&self, figure: &str, why: &str) {
        self.tell(Figure {
            note: why.to_owned(),
            ..self.figure(figure.to_owned(), Verdict::Skipped)
        });
    }

    fn measured(&self, figure: &str, reached: f64, unit: &str, asked: Asked, enough: impl Fn(f64) -> bool) {
        let verdict = match asked {
            Some((asked, _)) if reached.is_finite() && !enough(asked) => Verdict::Below,
            _ => finite(reached),
        };
        self.tell(Figure {
            asked: asked.map(|(asked, _)| asked),
            aim: asked.map(|(_, aim)| aim),
            reached: Some(reached),
            unit: unit.to_owned(),
            ..self.figure(figure.to_owned(), verdict)
        });
    }

    fn figure(&self, figure: String, verdict: Verdict) -> Figure {
        Figure {
            section: self.section.clone(),
            figure,
            verdict,
            asked: None,
            aim: None,
            reached: None,
            unit: String::new(),
            note: String::new(),
        }
    }

    fn tell(&self, figure: Figure) {
        println!("{}", serde_json::json!(figure));
    }
}

fn finite(reached: f64) -> Verdict {
    if reached.is_finite() {
        Verdict::Ok
    } else {
        Verdict::Fail
    }
}
