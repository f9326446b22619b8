//! Sharding: the division of a flat master copy of the parameters over ranks, each of which owns a part.
//!
//! The master is cut only at multiples of [`CHUNK`] elements, so that a sum over a chunk does not depend on its owner.
//! There are two divisions:
//!
//! - [`ShardMap::in_ranges`]: every rank owns one contiguous range.
//! - [`ShardMap::of_groups`]: every rank owns a part of every group of weights. A group contains weights that are used
//!   together, and it is all-gathered from the parts when it is needed. A chunk that crosses the border of two groups
//!   is owned as a part of the first of them.
//!
//! - `gather.rs`: the interface of the all-gather;
//! - `leaves.rs`: the leaves of sharded weights.

pub mod gather;
pub mod leaves;

use tch::Tensor;

use crate::error::Result;

/// The number of elements of a chunk. The master is cut at multiples of it.
pub const CHUNK: i64 = 65_536;

/// A rank and the number of ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RankOf {
    /// The rank, from 0.
    pub rank: usize,
    /// The number of ranks.
    pub size: usize,
}

/// A contiguous range of elements that one rank owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The index of the first element in the flat master.
    pub start: i64,
    /// The number of elements.
    pub length: i64,
    /// The owner.
    pub rank: usize,
    /// The index of the first element in the owner's part, which holds the owner's segments one after the other.
    pub at: i64,
}

/// The map from elements to owners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardMap {
    own: RankOf,
    total: i64,
    segments: Vec<Segment>,
    /// The start and the end (exclusive) of each group.
    groups: Vec<(i64, i64)>,
}

impl ShardMap {
    /// Gives each rank one contiguous range. The ranges have equal lengths, except that the last ones may be shorter or
    /// empty.
    #[must_use]
    pub fn in_ranges(total: i64, own: RankOf) -> Self {
        let per = chunks(chunks(total, CHUNK), own.size as i64) * CHUNK;
        let cuts = (0..own.size).map(|rank| (rank, rank as i64 * per, (rank as i64 + 1) * per));
        Self::of(total, own, cuts, vec![(0, total)])
    }

    /// Gives each rank a part of each group. `lengths` are the numbers of elements of the groups. The parts of a group
    /// may differ in size, so the rank with the smallest part rotates from group to group.
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

    /// Returns the map of a tensor that has only some of the elements, in their order: `before(i)` of them come before
    /// the element i. Each rank owns those of its elements that the tensor has.
    #[must_use]
    pub fn thinned(&self, before: impl Fn(i64) -> i64) -> Self {
        let cut = |segment: &Segment| {
            let end = segment.start + segment.length;
            (segment.rank, before(segment.start), before(end))
        };
        let (cuts, total) = (self.segments.iter().map(cut), before(self.total));
        Self::of(total, self.own, cuts, vec![(0, total)])
    }

    /// Returns this process's rank and the number of ranks.
    #[must_use]
    pub fn own(&self) -> RankOf {
        self.own
    }

    /// Returns the number of all elements.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.total
    }

    /// Returns the number of elements that a rank owns.
    #[must_use]
    pub fn owned(&self, rank: usize) -> i64 {
        let own = self.segments.iter().filter(|segment| segment.rank == rank);
        own.map(|segment| segment.length).sum()
    }

    /// Returns the start and the end (exclusive) of each group.
    #[must_use]
    pub fn groups(&self) -> &[(i64, i64)] {
        &self.groups
    }

    /// Returns all segments, in the order of their elements.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Returns this rank's segments.
    pub fn own_segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments
            .iter()
            .filter(|segment| segment.rank == self.own.rank)
    }

    /// Returns the segments that overlap a range of elements, clipped to the range.
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

    /// Returns this rank's part of a tensor of all elements. It is a view if the part is contiguous, otherwise a copy.
    ///
    /// # Errors
    /// Any error libtorch reports.
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

    /// Copies the elements of `from` that this rank owns into this rank's part, `into`. The first element of `from` has
    /// the index `start` in the flat master.
    ///
    /// # Errors
    /// Any error libtorch reports.
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

/// Returns the number of pieces of `size` into which `count` elements are divided. The last piece may be smaller.
#[must_use]
pub(crate) fn chunks(count: i64, size: i64) -> i64 {
    (count + size - 1) / size
}
