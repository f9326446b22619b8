//! An axis: its ends, where a value lies on it, and its ticks with their numbers.

/// An axis from its lower to its upper end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    /// The lower end.
    pub low: f64,
    /// The upper end, above the lower.
    pub high: f64,
    /// Equal ways are equal factors.
    pub log: bool,
    /// Only whole numbers are on it: steps.
    pub whole: bool,
}

impl Axis {
    /// An axis between two values; a little wider where they are one. A logarithmic one needs values above 0.
    #[must_use]
    pub fn new(low: f64, high: f64, log: bool) -> Self {
        // What only rounding tells apart is one value.
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

    /// As it is, with only whole numbers on it.
    #[must_use]
    pub fn whole(self) -> Self {
        Self { whole: true, ..self }
    }

    /// A little longer on both sides, so that no line touches the frame.
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

    /// The axis of these values; none where there is none.
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

    /// Where a value lies, 0 at the lower end and 1 at the upper; none beyond them.
    #[must_use]
    pub fn place(&self, value: f64) -> Option<f64> {
        if !(self.low..=self.high).contains(&value) {
            return None;
        }
        let scale = |value: f64| if self.log { value.ln() } else { value };
        let (low, high) = (scale(self.low), scale(self.high));
        Some((scale(value) - low) / (high - low))
    }

    /// Round values on the axis, at most so many, each with its number.
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
        // What is nearly 0 is 0.
        let values = values.map(|value| if value.abs() < step * 1e-6 { 0.0 } else { value });
        values
            .filter(|value| *value <= self.high + step * 1e-6)
            .take(most)
            .map(|value| (value.clamp(self.low, self.high), number(value, step)))
            .collect()
    }

    /// Powers of ten on the axis, or 1, 2 and 5 times them where they have room.
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

/// The smallest of 1, 2 and 5 times a power of ten by which so many ticks cover a width.
fn step(width: f64, most: usize) -> f64 {
    let least = width / most as f64;
    let power = 10_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|factor| factor * power >= least);
    factor.unwrap_or(10.0) * power
}

/// A number with the digits that tell it from the next tick.
#[must_use]
pub fn number(value: f64, step: f64) -> String {
    let large = value.abs().max(step.abs());
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e6).contains(&large) {
        let text = format!("{value:.1e}");
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
    fn a_place_is_a_share_of_the_way_and_none_beyond() {
        let axis = Axis::new(1.0, 100.0, true);
        assert!((axis.place(10.0).unwrap_or(0.0) - 0.5).abs() < 1e-12);
        assert_eq!(axis.place(0.5), None);
        assert_eq!(axis.place(f64::NAN), None);
    }
}
