//! Reads a drawn table back into a scene: for each cell, the nearest of all drawable boxes.
//!
//! A cell that is far from all of them (a smear, a mix of two things) is unknown, and a picture with an unknown cell is
//! never right. The detector plays the part of GenEval's object detector.

use demask_api::Picture;
use demask_datasets::scene::table::{CELLS, Object, Scene};
use demask_datasets::tabletop::render::{BOX, CellPicture, cell_picture, cut};

/// The largest mean squared difference per channel at which a box still matches its template.
const FAR: f64 = 2200.0;

/// The drawn boxes of all possible cell contents.
#[derive(Clone, Debug)]
pub struct TabletopDetector {
    templates: Vec<(Option<Object>, CellPicture)>,
}

/// A reading of a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The scene; unknown cells are empty in it.
    pub scene: Scene,
    /// The number of cells that match no template.
    pub unknown: usize,
}

impl Default for TabletopDetector {
    fn default() -> Self {
        let contents = std::iter::once(None).chain(Object::all().map(Some));
        Self {
            templates: contents.map(|content| (content, cell_picture(content))).collect(),
        }
    }
}

impl TabletopDetector {
    /// Reads a picture.
    #[must_use]
    pub fn read(&self, picture: &Picture) -> Reading {
        let mut reading = Reading {
            scene: Scene::default(),
            unknown: 0,
        };
        for cell in 0..CELLS {
            let seen = cut(picture, cell);
            let nearest = self
                .templates
                .iter()
                .map(|(content, template)| (distance(&seen, template), *content));
            let (far, content) = nearest
                .min_by(|a, b| a.0.total_cmp(&b.0))
                .unwrap_or((f64::MAX, None));
            if far > FAR {
                reading.unknown += 1;
            } else {
                reading.scene.cells[cell] = content;
            }
        }
        reading
    }
}

fn distance(a: &CellPicture, b: &CellPicture) -> f64 {
    let sum: i64 = a
        .iter()
        .zip(b)
        .flat_map(|(a, b)| a.iter().zip(b))
        .map(|(&a, &b)| (i64::from(a) - i64::from(b)).pow(2))
        .sum();
    sum as f64 / (3 * BOX * BOX) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use demask_datasets::tabletop::render::render;

    #[test]
    fn every_object_is_read_back_in_every_cell() {
        let detector = TabletopDetector::default();
        for object in Object::all() {
            for cell in 0..CELLS {
                let mut scene = Scene::default();
                scene.cells[cell] = Some(object);
                assert_eq!(detector.read(&render(&scene)), Reading { scene, unknown: 0 });
            }
        }
    }

    #[test]
    fn noise_is_unknown() {
        let rgb = (0..32 * 32 * 3)
            .map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        assert!(
            TabletopDetector::default()
                .read(&Picture {
                    width: 32,
                    height: 32,
                    rgb
                })
                .unknown
                > 4
        );
    }
}
