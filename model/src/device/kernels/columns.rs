//! Columns of the tables that Rust and C++ exchange, as `csrc/columns.h` names them for C++.

/// What attention computes of one row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkRow {
    /// Where its keys and values are kept.
    pub slot: usize,
    /// First of its computed positions among all of the forward pass.
    pub first: usize,
    /// How many are computed.
    pub count: usize,
    /// How many places the row has, all of them keys.
    pub keys: usize,
    /// How many of them, from the first on, are padding that is merely weaker.
    pub soft_pad: usize,
}

impl ChunkRow {
    /// How many columns it has.
    pub const COLUMNS: i64 = 5;

    /// In the order of the header.
    pub fn columns(self) -> [i64; Self::COLUMNS as usize] {
        let Self {
            slot,
            first,
            count,
            keys,
            soft_pad,
        } = self;
        [slot, first, count, keys, soft_pad].map(|value| value as i64)
    }
}

/// A computed position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlaceRow {
    /// Where its key and value are kept.
    pub slot: usize,
    /// At which place there.
    pub in_slot: usize,
    /// Position of the rotary embedding.
    pub position: usize,
}

impl PlaceRow {
    /// How many columns it has.
    pub const COLUMNS: i64 = 3;

    /// In the order of the header.
    pub fn columns(self) -> [i64; Self::COLUMNS as usize] {
        let Self {
            slot,
            in_slot,
            position,
        } = self;
        [slot, in_slot, position].map(|value| value as i64)
    }
}

/// What is drawn from a row of logits, f32.
pub(crate) mod measure {
    /// Probability of the drawn column, without temperature.
    pub const PROBABILITY: usize = 0;
    /// Probability of the likeliest column that may be drawn.
    pub const BEST: usize = 1;
    /// Probability of the next likeliest.
    pub const NEXT: usize = 2;
    /// Entropy of the row, nats.
    pub const ENTROPY: usize = 3;
    /// What the drawn column leaves to all others, exact where that is little.
    pub const REST: usize = 4;
    /// What the likeliest column leaves to all others.
    pub const BEST_REST: usize = 5;
    /// The drawn column, which an f32 holds exactly up to 2^24.
    pub const TOKEN: usize = 6;
    /// How many there are.
    pub const COLUMNS: usize = 7;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of an enum of the header, in order, without their prefix.
    fn names(prefix: &str) -> Vec<&'static str> {
        let header = include_str!("../../../csrc/columns.h").lines();
        let named =
            header.filter_map(|line| line.strip_prefix("  ")?.split(',').next()?.strip_prefix(prefix));
        named.collect()
    }

    #[test]
    fn the_header_has_the_same_columns_in_the_same_order() {
        assert_eq!(
            names("CHUNK_"),
            ["SLOT", "FIRST", "COUNT", "KEYS", "SOFT_PAD", "COLUMNS"]
        );
        let chunk = ChunkRow {
            slot: 0,
            first: 1,
            count: 2,
            keys: 3,
            soft_pad: 4,
        };
        assert_eq!(chunk.columns(), [0, 1, 2, 3, 4]);
        assert_eq!(names("PLACE_"), ["SLOT", "IN_SLOT", "POSITION", "COLUMNS"]);
        let place = PlaceRow {
            slot: 0,
            in_slot: 1,
            position: 2,
        };
        assert_eq!(place.columns(), [0, 1, 2]);
        let ours = [
            ("PROBABILITY", measure::PROBABILITY),
            ("BEST", measure::BEST),
            ("NEXT", measure::NEXT),
            ("ENTROPY", measure::ENTROPY),
            ("REST", measure::REST),
            ("BEST_REST", measure::BEST_REST),
            ("TOKEN", measure::TOKEN),
            ("COLUMNS", measure::COLUMNS),
        ];
        let theirs: Vec<(&str, usize)> = names("MEASURE_").into_iter().zip(0..).collect();
        assert_eq!(theirs, ours);
    }
}
