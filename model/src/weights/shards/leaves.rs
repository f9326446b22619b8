//! Leaves of weights of which each rank keeps a part: a buffer for each group that is computed with together, whose memory is there only
//! while the group is gathered, and the leaves as views of it, which stay.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tch::{Device, Kind, Tensor};

use crate::device::storage;
use crate::error::{ModelError, Result};
use crate::weights::shards::{Segment, ShardMap};

/// Leaves, by group.
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
    /// All their values, one after the other, in the compute dtype.
    buffer: Tensor,
    /// Whether they are there; a twin asks the same.
    here: Arc<AtomicBool>,
    /// Each with where it begins in the flat master.
    leaves: Vec<(i64, Tensor)>,
}

/// Gradients of a group on their way to the owners of its numbers.
#[derive(Debug)]
pub struct OutgoingGradients {
    /// Owner by owner, in the leaves' dtype.
    pub flat: Tensor,
    /// How many numbers of it each rank owns.
    pub lengths: Vec<i64>,
}

impl ShardedLeaves {
    /// Leaves of these shapes, each with where it begins in the flat master; and the leaves in their order.
    ///
    /// # Errors
    /// A leaf over the border of two groups (a fault of this crate); libtorch's.
    pub fn new(
        map: ShardMap,
        shapes: &[(i64, Vec<i64>)],
        (compute, device): (Kind, Device),
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
                        "a parameter over the border of two groups".into(),
                    ));
                }
                let view = buffer.f_narrow(0, at - start, length)?.f_view(&shape[..])?;
                let leaf = view.f_detach()?.f_set_requires_grad(true)?;
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

    /// Who owns which numbers.
    #[must_use]
    pub fn map(&self) -> &ShardMap {
        &self.map
    }

    /// Whether the weights of a group are there.
    #[must_use]
    pub fn are_here(&self, group: usize) -> bool {
        self.groups[group].here.load(Ordering::Acquire)
    }

    /// Whether all weights are there.
    #[must_use]
    pub fn are_all_here(&self) -> bool {
        (0..self.groups.len()).all(|group| self.are_here(group))
    }

    /// Whether a leaf can be read.
    #[must_use]
    pub fn is_readable(&self, leaf: usize) -> bool {
        self.group_of.get(leaf).is_none_or(|&group| self.are_here(group))
    }

    /// Has memory for a group, with what this rank owns of it in its place; and where what others own goes, each piece with its
    /// owner. `master`: what this rank owns, back to back.
    ///
    /// # Errors
    /// libtorch's, out of memory among them.
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

    /// Says that a group's weights have come.
    pub fn arrived(&self, group: usize) {
        self.groups[group].here.store(true, Ordering::Release);
    }

    /// Lets a group's weights go.
    ///
    /// # Errors
    /// libtorch's.
    pub fn let_go(&self, group: usize) -> Result<()> {
        self.groups[group].here.store(false, Ordering::Release);
        storage::clear(&self.groups[group].buffer)
    }

    /// The gradients of a group, owner by owner, zeros where there are none; the leaves have none any more. `spare`: a tensor that is
    /// needed no more, for them where it is as long.
    ///
    /// # Errors
    /// libtorch's.
    pub fn take_gradients(&self, group: usize, spare: Option<Tensor>) -> Result<OutgoingGradients> {
        let own = &self.groups[group];
        let segments = self.map.within(self.map.groups()[group]);
        let mut lengths = vec![0; self.map.own().size];
        for segment in &segments {
            lengths[segment.rank] += segment.length;
        }
        let place = (own.buffer.kind(), own.buffer.device());
        let count: i64 = lengths.iter().sum();
        // The leaves of a group are all of its numbers, so each is written.
        let flat = match spare.filter(|spare| spare.numel() as i64 == count) {
            Some(spare) => spare,
            None => Tensor::f_empty([count], place)?,
        };
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

    /// Drops all gradients.
    pub fn drop_gradients(&self) {
        for (_, leaf) in self.groups.iter().flat_map(|group| &group.leaves) {
            storage::drop_grad(leaf).ok();
        }
    }

    /// The same groups for other leaves on the same memory, in the order of these: a twin's, whose gradients are its own.
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
