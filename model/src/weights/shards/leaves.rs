//! The leaves of sharded weights. Each group of weights that is used together has one buffer, whose memory exists only
//! while the group is gathered. The leaves are permanent views of the buffer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tch::{Device, Kind, Tensor};

use crate::device::storage;
use crate::error::{ModelError, Result};
use crate::weights::shards::{Segment, ShardMap};

/// The leaves of sharded weights, by group.
#[derive(Debug)]
pub struct ShardedLeaves {
    map: ShardMap,
    groups: Vec<LeafGroup>,
    /// The group of each leaf.
    group_of: Vec<usize>,
}

/// Leaves that are gathered together.
#[derive(Debug)]
struct LeafGroup {
    /// The values of all leaves of the group, one after the other, in the compute dtype.
    buffer: Tensor,
    /// Whether the group is gathered. Twins share this flag.
    here: Arc<AtomicBool>,
    /// The leaves, each with its offset in the flat master.
    leaves: Vec<(i64, Tensor)>,
}

/// The gradients of a group, arranged for the exchange with the owners of its elements.
#[derive(Debug)]
pub struct OutgoingGradients {
    /// The gradients, owner by owner, in the dtype of the leaves.
    pub flat: Tensor,
    /// The number of elements of the group that each rank owns.
    pub lengths: Vec<i64>,
}

impl ShardedLeaves {
    /// Creates leaves from their offsets in the flat master and their shapes; `learns` says whether they have
    /// gradients. Also returns the leaves in the same order. No group is gathered at first.
    ///
    /// # Errors
    /// [`ModelError::Refused`] if a leaf crosses the border of two groups (a bug in this crate), or any error libtorch
    /// reports.
    pub fn new(
        map: ShardMap,
        shapes: &[(i64, Vec<i64>)],
        (compute, device): (Kind, Device),
        learns: bool,
    ) -> Result<(Self, Vec<Tensor>)> {
        let mut groups = Vec::with_capacity(map.groups().len());
        let (mut group_of, mut all) = (Vec::with_capacity(shapes.len()), Vec::with_capacity(shapes.len()));
        for (number, &(start, end)) in map.groups().iter().enumerate() {
            let buffer = Tensor::f_empty([end - start], (compute, device))?;
            let mut leaves = Vec::new();
            for (at, shape) in shapes.iter().filter(|(at, _)| (start..end).contains(at)) {
                let length: i64 = shape.iter().product();
                if at + length > end {
                    return Err(ModelError::Refused(
                        "a parameter crosses the border of two groups".into(),
                    ));
                }
                let view = buffer.f_narrow(0, at - start, length)?.f_view(&shape[..])?;
                let leaf = view.f_detach()?.f_set_requires_grad(learns)?;
                all.push(leaf.shallow_clone());
                leaves.push((*at, leaf));
                group_of.push(number);
            }
            storage::clear(&buffer)?;
            let here = Arc::new(AtomicBool::new(false));
            groups.push(LeafGroup { buffer, here, leaves });
        }
        Ok((
            Self {
                map,
                groups,
                group_of,
            },
            all,
        ))
    }

    /// Returns the map from elements to owners.
    #[must_use]
    pub fn map(&self) -> &ShardMap {
        &self.map
    }

    /// Returns whether a group is gathered.
    #[must_use]
    pub fn are_here(&self, group: usize) -> bool {
        self.groups[group].here.load(Ordering::Acquire)
    }

    /// Returns whether all groups are gathered.
    #[must_use]
    pub fn are_all_here(&self) -> bool {
        (0..self.groups.len()).all(|group| self.are_here(group))
    }

    /// Returns whether a leaf can be read, which is the case while its group is gathered.
    #[must_use]
    pub fn is_readable(&self, leaf: usize) -> bool {
        self.group_of.get(leaf).is_none_or(|&group| self.are_here(group))
    }

    /// Allocates the buffer of a group and copies this rank's part into it. `master` contains all elements that this
    /// rank owns, one segment after the other. Returns every segment of the group with its piece of the buffer, for the
    /// broadcast from its owner.
    ///
    /// # Errors
    /// Any error libtorch reports, for example if there is not enough memory.
    pub fn make_room(&self, group: usize, master: &Tensor) -> Result<Vec<(Segment, Tensor)>> {
        let buffer = &self.groups[group].buffer;
        storage::fill(buffer)?;
        let begins = self.map.groups()[group].0;
        let mut pieces = Vec::new();
        for segment in self.map.within(self.map.groups()[group]) {
            let mut piece = buffer.f_narrow(0, segment.start - begins, segment.length)?;
            if segment.rank == self.map.own().rank {
                let own = master.f_narrow(0, segment.at, segment.length)?;
                tch::no_grad(|| piece.f_copy_(&own))?;
            }
            pieces.push((segment, piece));
        }
        Ok(pieces)
    }

    /// Marks a group as gathered.
    pub fn arrived(&self, group: usize) {
        self.groups[group].here.store(true, Ordering::Release);
    }

    /// Frees the buffer of a group.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn let_go(&self, group: usize) -> Result<()> {
        self.groups[group].here.store(false, Ordering::Release);
        storage::clear(&self.groups[group].buffer)
    }

    /// Moves the gradients of a group out of its leaves, arranged owner by owner. A leaf without a gradient counts as
    /// zeros. `spare` is a tensor that is no longer needed. It is reused for the gradients if its length fits.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn take_gradients(&self, group: usize, spare: Option<Tensor>) -> Result<OutgoingGradients> {
        let own = &self.groups[group];
        let segments = self.map.within(self.map.groups()[group]);
        let mut lengths = vec![0; self.map.own().size];
        for segment in &segments {
            lengths[segment.rank] += segment.length;
        }
        let place = (own.buffer.kind(), own.buffer.device());
        let count: i64 = lengths.iter().sum();
        // The leaves cover all elements of the group, so the loop below writes every element of `flat`.
        let flat = match spare.filter(|spare| spare.numel() as i64 == count) {
            Some(spare) => spare,
            None => Tensor::f_empty([count], place)?,
        };
        // The next free offset in each owner's part of `flat`, and from it the offset of each segment.
        let mut ends: Vec<i64> = lengths
            .iter()
            .scan(0, |end, length| Some(std::mem::replace(end, *end + length)))
            .collect();
        let places: Vec<i64> = segments
            .iter()
            .map(|segment| {
                let end = &mut ends[segment.rank];
                std::mem::replace(end, *end + segment.length)
            })
            .collect();
        // Leaves and segments have different borders, so each leaf is cut at the borders of the segments.
        for (at, leaf) in &own.leaves {
            let grad = leaf.f_grad()?;
            let end = at + leaf.numel() as i64;
            for (segment, place) in segments.iter().zip(&places) {
                let from = segment.start.max(*at);
                let length = (segment.start + segment.length).min(end) - from;
                if length <= 0 {
                    continue;
                }
                let mut to = flat.f_narrow(0, place + from - segment.start, length)?;
                if grad.defined() {
                    let part = grad.f_reshape([-1])?.f_narrow(0, from - at, length)?;
                    tch::no_grad(|| to.f_copy_(&part))?;
                } else {
                    let _ = to.f_zero_()?;
                }
            }
            storage::drop_grad(leaf)?;
        }
        Ok(OutgoingGradients { flat, lengths })
    }

    /// Frees all gradients.
    pub fn drop_gradients(&self) {
        for (_, leaf) in self.groups.iter().flat_map(|group| &group.leaves) {
            storage::drop_grad(leaf).ok();
        }
    }

    /// Creates the groups of a twin, which has its own gradients. `leaves` are the twin's leaves, on the same memory
    /// and in the same order.
    #[must_use]
    pub fn twin(&self, leaves: &[Tensor]) -> Self {
        let mut leaves = leaves.iter().map(Tensor::shallow_clone);
        let group = |group: &LeafGroup| LeafGroup {
            buffer: group.buffer.shallow_clone(),
            here: Arc::clone(&group.here),
            leaves: group.leaves.iter().map(|(at, _)| *at).zip(&mut leaves).collect(),
        };
        Self {
            map: self.map.clone(),
            groups: self.groups.iter().map(group).collect(),
            group_of: self.group_of.clone(),
        }
    }
}
