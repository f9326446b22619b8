//! How the numbers of a flat master are cut over ranks, each of which owns some of them.
//!
//! Cuts lie at multiples of [`CHUNK`] numbers of the whole, so that sums over chunks do not depend on who owns them. Either every rank
//! owns one range ([`ShardMap::in_ranges`]), or every rank a part of every group of weights that are computed with together
//! ([`ShardMap::of_groups`]): then each brings its part when a group is gathered. A chunk over the border of two groups belongs to
//! the one that it begins in.

pub mod gather;
pub mod leaves;

use tch::Tensor;

use crate::error::Result;

/// Cuts lie at multiples of so many numbers.
pub const CHUNK: i64 = 65_536;

/// A process's number, of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RankOf {
    /// From 0.
    pub rank: usize,
    /// Of how many.
    pub size: usize,
}

/// Numbers side by side that one rank owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The first one's place in the whole.
    pub start: i64,
    /// How many.
    pub length: i64,
    /// Whose.
    pub rank: usize,
    /// The first one's place in what its rank owns, back to back.
    pub at: i64,
}

/// Who owns which numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardMap {
    own: RankOf,
    total: i64,
    segments: Vec<Segment>,
    /// Where each group begins and ends.
    groups: Vec<(i64, i64)>,
}

impl ShardMap {
    /// A range for each rank, of equal length but for the last ones, which may have less or nothing.
    #[must_use]
    pub fn in_ranges(total: i64, own: RankOf) -> Self {
        let per = chunks(chunks(total, CHUNK), own.size as i64) * CHUNK;
        let cuts = (0..own.size).map(|rank| (rank, rank as i64 * per, (rank as i64 + 1) * per));
        Self::of(total, own, cuts, vec![(0, total)])
    }

    /// Of each group of so many numbers a part for each rank. Which rank has the smaller part goes round with the groups.
    #[must_use]
    pub fn of_groups(lengths: &[i64], own: RankOf) -> Self {
        let mut groups = Vec::with_capacity(lengths.len());
        let mut end = 0;
        for length in lengths {
            groups.push((end, end + length));
            end += length;
        }
        let size = own.size as i64;
        let cuts = groups.iter().enumerate().flat_map(|(number, &(start, end))| {
            let (first, behind) = (chunks(start, CHUNK), chunks(end, CHUNK));
            let per = chunks(behind - first, size);
            (0..size).map(move |part| {
                let cut = |part: i64| (first + part * per).min(behind) * CHUNK;
                let rank = (part + number as i64) % size;
                (usize::try_from(rank).unwrap_or(0), cut(part), cut(part + 1))
            })
        });
        let cuts: Vec<_> = cuts.collect();
        Self::of(end, own, cuts, groups)
    }

    fn of(
        total: i64,
        own: RankOf,
        cuts: impl IntoIterator<Item = (usize, i64, i64)>,
        groups: Vec<(i64, i64)>,
    ) -> Self {
        let mut owned = vec![0; own.size];
        let mut segments = Vec::new();
        for (rank, start, end) in cuts {
            let (start, end) = (start.min(total), end.min(total));
            if start < end {
                let (length, at) = (end - start, owned[rank]);
                owned[rank] += length;
                segments.push(Segment {
                    start,
                    length,
                    rank,
                    at,
                });
            }
        }
        Self {
            own,
            total,
            segments,
            groups,
        }
    }

    /// This process, of how many.
    #[must_use]
    pub fn own(&self) -> RankOf {
        self.own
    }

    /// All numbers.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.total
    }

    /// How many of them a rank owns.
    #[must_use]
    pub fn owned(&self, rank: usize) -> i64 {
        let own = self.segments.iter().filter(|segment| segment.rank == rank);
        own.map(|segment| segment.length).sum()
    }

    /// Where each group begins and ends.
    #[must_use]
    pub fn groups(&self) -> &[(i64, i64)] {
        &self.groups
    }

    /// All segments, in the order of their numbers.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// This rank's segments.
    pub fn own_segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments
            .iter()
            .filter(|segment| segment.rank == self.own.rank)
    }

    /// The segments of some numbers, cut where these begin and end.
    #[must_use]
    pub fn within(&self, (start, end): (i64, i64)) -> Vec<Segment> {
        let cut = |segment: &Segment| {
            let from = segment.start.max(start);
            let length = (segment.start + segment.length).min(end) - from;
            (length > 0).then_some(Segment {
                start: from,
                length,
                rank: segment.rank,
                at: segment.at + from - segment.start,
            })
        };
        self.segments.iter().filter_map(cut).collect()
    }

    /// What this rank owns of a flat tensor of all numbers: a view where it is one range, else a copy.
    ///
    /// # Errors
    /// libtorch's.
    pub fn cut(&self, whole: &Tensor) -> Result<Tensor> {
        let whole = whole.f_reshape([-1])?;
        let own = self.own_segments();
        let parts: Vec<Tensor> = own
            .map(|segment| whole.f_narrow(0, segment.start, segment.length))
            .collect::<std::result::Result<_, _>>()?;
        Ok(match parts.as_slice() {
            [] => whole.f_narrow(0, 0, 0)?,
            [only] => only.shallow_clone(),
            several => Tensor::f_cat(several, 0)?,
        })
    }

    /// Copies what this rank owns of the numbers that `from` holds, which begin at `start`, to their places in what it owns.
    ///
    /// # Errors
    /// libtorch's.
    pub fn take(&self, from: &Tensor, start: i64, into: &Tensor) -> Result<()> {
        let from = from.f_reshape([-1])?;
        for segment in self.within((start, start + from.numel() as i64)) {
            if segment.rank == self.own.rank {
                let part = from.f_narrow(0, segment.start - start, segment.length)?;
                into.f_narrow(0, segment.at, segment.length)?.f_copy_(&part)?;
            }
        }
        Ok(())
    }
}

/// Pieces of a size that so many are cut into, the last one perhaps smaller.
#[must_use]
pub(crate) fn chunks(count: i64, size: i64) -> i64 {
    (count + size - 1) / size
}
