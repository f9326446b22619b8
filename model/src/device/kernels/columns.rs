//! The columns of the tables that Rust and C++ exchange. `csrc/columns.h` names the same columns for C++.

/// The part of a row that attention computes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkRow {
    /// The cache slot of its keys and values.
    pub slot: usize,
    /// The index of its first computed position among all of the forward pass.
    pub first: usize,
    /// The number of computed positions.
    pub count: usize,
    /// The number of places of the row. Queries attend to all of them.
    pub keys: usize,
    /// The number of leading places that are soft padding ([`Chunk`](crate::network::chunk::Chunk)).
    pub soft_pad: usize,
}

impl ChunkRow {
    /// The number of columns.
    pub const COLUMNS: i64 = 5;

    /// Returns the columns in the order of the header.
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
    /// The cache slot of its key and value.
    pub slot: usize,
    /// The place in the slot.
    pub in_slot: usize,
    /// The position for the rotary embedding.
    pub position: usize,
}

impl PlaceRow {
    /// The number of columns.
    pub const COLUMNS: i64 = 3;

    /// Returns the columns in the order of the header.
    pub fn columns(self) -> [i64; Self::COLUMNS as usize] {
        let Self {
            slot,
            in_slot,
            position,
        } = self;
        [slot, in_slot, position].map(|value| value as i64)
    }
}

/// The columns of the measures: the result of a draw from a row of logits, f32.
pub(crate) mod measure {
    /// The probability of the drawn column, without temperature.
    pub const PROBABILITY: usize = 0;
    /// The probability of the likeliest column that may be drawn.
    pub const BEST: usize = 1;
    /// The probability of the second likeliest column that may be drawn.
    pub const NEXT: usize = 2;
    /// The entropy of the row, in nats.
    pub const ENTROPY: usize = 3;
    /// The sum of the probabilities of all columns but the drawn one; it has full precision if it is small.
    pub const REST: usize = 4;
    /// The sum of the probabilities of all columns but the likeliest one.
    pub const BEST_REST: usize = 5;
    /// The drawn column, which f32 holds exactly up to 2^24.
    pub const TOKEN: usize = 6;
    /// The number of columns.
    pub const COLUMNS: usize = 7;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the names of an enum in the header, in order, without their prefix.
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
