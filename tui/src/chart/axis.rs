//! An axis: its range, the position of a value, and labelled ticks.

/// An axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    /// The lower end.
    pub low: f64,
    /// The upper end, above the lower end.
    pub high: f64,
    /// Whether the scale is logarithmic.
    pub log: bool,
    /// Whether only integers are labelled, as for steps.
    pub whole: bool,
}

impl Axis {
    /// Makes an axis between two values, slightly wider if they are equal. A logarithmic axis needs values above 0.
    #[must_use]
    pub fn new(low: f64, high: f64, log: bool) -> Self {
        // Values that differ only by rounding count as equal.
        let (low, high) = match high - low > 1e-9 * high.abs().max(low.abs()) {
            true => (low, high),
            false if log => (low / 1.1, low * 1.1),
            false => {
                let room = if low == 0.0 { 1.0 } else { 0.05 * low.abs() };
                (low - room, low + room)
            }
        };
        let whole = false;
        Self {
            low,
            high,
            log,
            whole,
        }
    }

    /// Returns the axis with integer labels only.
    #[must_use]
    pub fn whole(self) -> Self {
        Self { whole: true, ..self }
    }

    /// Returns the axis slightly longer on both sides, so that no line touches the frame.
    #[must_use]
    pub fn roomy(self) -> Self {
        const ROOM: f64 = 0.04;
        let (low, high) = match self.log {
            true => {
                let factor = (self.high / self.low).powf(ROOM);
                (self.low / factor, self.high * factor)
            }
            false => {
                let room = ROOM * (self.high - self.low);
                (self.low - room, self.high + room)
            }
        };
        Self { low, high, ..self }
    }

    /// Makes the axis of values; `None` if none is finite.
    #[must_use]
    pub fn around(values: impl Iterator<Item = f64>, log: bool) -> Option<Self> {
        let ends = values
            .filter(|value| value.is_finite())
            .fold(None, |ends, value| {
                let (low, high): (f64, f64) = ends.unwrap_or((value, value));
                Some((low.min(value), high.max(value)))
            });
        ends.map(|(low, high)| Self::new(low, high, log))
    }

    /// Returns the position of a value, 0 at the lower end and 1 at the upper; `None` outside the range.
    #[must_use]
    pub fn place(&self, value: f64) -> Option<f64> {
        if !(self.low..=self.high).contains(&value) {
            return None;
        }
        let scale = |value: f64| if self.log { value.ln() } else { value };
        let (low, high) = (scale(self.low), scale(self.high));
        Some((scale(value) - low) / (high - low))
    }

    /// Returns at most `most` round values on the axis with their labels.
    #[must_use]
    pub fn ticks(&self, most: usize) -> Vec<(f64, String)> {
        let most = most.max(2);
        let decades = if self.log { self.decades(most) } else { Vec::new() };
        if decades.len() >= 2 {
            return decades
                .into_iter()
                .map(|value| (value, number(value, value)))
                .collect();
        }
        let step = step(self.high - self.low, most);
        let step = if self.whole { step.max(1.0) } else { step };
        let first = (self.low / step - 1e-9).ceil();
        let values = (0..=most).map(|at| (first + at as f64) * step);
        // Values that are 0 up to rounding are labelled 0.
        let values = values.map(|value| if value.abs() < step * 1e-6 { 0.0 } else { value });
        values
            .filter(|value| *value <= self.high + step * 1e-6)
            .take(most)
            .map(|value| (value.clamp(self.low, self.high), number(value, step)))
            .collect()
    }

    /// Returns powers of ten on the axis, or 1, 2 and 5 times them if there is space.
    fn decades(&self, most: usize) -> Vec<f64> {
        #[allow(clippy::cast_possible_truncation)]
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let within = |factors: &[f64]| -> Vec<f64> {
            let all = (first..=last)
                .flat_map(|power| factors.iter().map(move |factor| factor * 10_f64.powi(power)));
            all.filter(|value| (self.low..=self.high).contains(value))
                .collect()
        };
        let fine = within(&[1.0, 2.0, 5.0]);
        if fine.len() <= most {
            return fine;
        }
        let powers = within(&[1.0]);
        let every = powers.len().div_ceil(most).max(1);
        powers.into_iter().step_by(every).collect()
    }
}

/// Returns the smallest of 1, 2, 5 and 10 times a power of ten at which at most `most` ticks cover `width`.
fn step(width: f64, most: usize) -> f64 {
    let least = width / most as f64;
    let power = 10_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|factor| factor * power >= least);
    factor.unwrap_or(10.0) * power
}

/// Returns the power of ten of a number's first digit, however the number was rounded.
fn power(value: f64) -> f64 {
    (value.abs().log10() + 1e-9).floor()
}

/// Formats a number with the digits that distinguish it from the next tick.
#[must_use]
pub fn number(value: f64, step: f64) -> String {
    let large = value.abs().max(step.abs());
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e6).contains(&large) {
        // 1.05e6 and 1.10e6 differ in their third digit, 1e6 and 2e6 in their first.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let digits = (power(value) - power(step)).clamp(1.0, 7.0) as usize;
        let text = format!("{value:.digits$e}");
        return text.replace(".0e", "e");
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let digits = (-step.abs().log10().floor()).clamp(0.0, 7.0) as usize;
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(axis: &Axis, most: usize) -> Vec<String> {
        axis.ticks(most).into_iter().map(|tick| tick.1).collect()
    }

    #[test]
    fn ticks_are_round_numbers_within_the_axis() {
        assert_eq!(
            numbers(&Axis::new(0.0, 190.0, false), 5),
            ["0", "50", "100", "150"]
        );
        assert_eq!(
            numbers(&Axis::new(-0.12, 0.31, false), 5),
            ["-0.1", "0.0", "0.1", "0.2", "0.3"].map(|text| { if text == "0.0" { "0" } else { text } })
        );
        assert_eq!(numbers(&Axis::new(0.004, 3.0, true), 4), ["0.01", "0.1", "1"]);
        assert_eq!(numbers(&Axis::new(3.0, 3.0, false), 3), ["2.9", "3.0", "3.1"]);
    }

    #[test]
    fn labels_of_large_and_small_numbers_differ_like_the_numbers() {
        assert_eq!(
            numbers(&Axis::new(1e6, 1.2e6, false), 5),
            ["1.00e6", "1.05e6", "1.10e6", "1.15e6", "1.20e6"]
        );
        assert_eq!(
            numbers(&Axis::new(2e-5, 2.2e-5, false), 3),
            ["2e-5", "2.1e-5", "2.2e-5"]
        );
        assert_eq!(numbers(&Axis::new(0.0, 4e6, false), 3), ["0", "2e6", "4e6"]);
    }

    #[test]
    fn a_place_is_a_share_of_the_way_and_none_beyond() {
        let axis = Axis::new(1.0, 100.0, true);
        assert!((axis.place(10.0).unwrap_or(0.0) - 0.5).abs() < 1e-12);
        assert_eq!(axis.place(0.5), None);
        assert_eq!(axis.place(f64::NAN), None);
    }
}
