//! The class of a drawn picture, by the nearest class mean of the training pictures.
//!
//! This is the simplest possible classifier, and independent of the model. On Fashion-MNIST's own test pictures it is
//! right about two times in three, so the result of drawn pictures must be read beside that of real ones.

use std::collections::BTreeMap;

use demask_api::Picture;
use demask_datasets::example::{Check, Example};

/// A mean picture for each class.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassMeans {
    means: BTreeMap<String, Vec<f32>>,
}

impl ClassMeans {
    /// Computes the means of examples with a class and a picture; other examples are ignored.
    #[must_use]
    pub fn of<'a>(examples: impl IntoIterator<Item = &'a Example>) -> Self {
        let mut sums: BTreeMap<String, (Vec<f32>, f32)> = BTreeMap::new();
        for example in examples {
            let (Check::Class { class }, Some(picture)) = (&example.check, &example.picture) else {
                continue;
            };
            let (sum, count) = sums
                .entry(class.clone())
                .or_insert_with(|| (vec![0.0; picture.rgb.len()], 0.0));
            if sum.len() == picture.rgb.len() {
                sum.iter_mut()
                    .zip(&picture.rgb)
                    .for_each(|(sum, &byte)| *sum += f32::from(byte));
                *count += 1.0;
            }
        }
        let mean =
            |(sum, count): (Vec<f32>, f32)| sum.into_iter().map(|value| value / count.max(1.0)).collect();
        Self {
            means: sums.into_iter().map(|(class, sum)| (class, mean(sum))).collect(),
        }
    }

    /// Returns the class whose mean is nearest (squared distance); `None` without classes of that size.
    #[must_use]
    pub fn classify(&self, picture: &Picture) -> Option<&str> {
        self.means
            .iter()
            .filter(|(_, mean)| mean.len() == picture.rgb.len())
            .map(|(class, mean)| {
                let far: f32 = mean
                    .iter()
                    .zip(&picture.rgb)
                    .map(|(mean, &byte)| (mean - f32::from(byte)).powi(2))
                    .sum();
                (far, class.as_str())
            })
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, class)| class)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use demask_datasets::example::{Kind, Split};
    use demask_datasets::tabletop::Tabletop;

    use super::*;

    #[test]
    fn a_picture_is_of_the_class_that_it_is_nearest_to() {
        let example = |grey: u8, class: &str| Example {
            picture: Some(Picture::filled(4, 4, [grey; 3])),
            check: Check::Class { class: class.into() },
            ..Tabletop::new(1).example(Kind::TextToImage, Split::Train, 0)
        };
        let given = [example(10, "dark"), example(30, "dark"), example(200, "light")];
        let means = ClassMeans::of(&given);
        assert_eq!(means.classify(&Picture::filled(4, 4, [100; 3])), Some("dark"));
        assert_eq!(means.classify(&Picture::filled(4, 4, [120; 3])), Some("light"));
        assert_eq!(means.classify(&Picture::filled(8, 8, [120; 3])), None);
        assert_eq!(
            ClassMeans::default().classify(&Picture::filled(4, 4, [0; 3])),
            None
        );
    }
}
