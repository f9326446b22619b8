//! AdamW on the flat master weights, with decoupled weight decay on every parameter as published: the
//! optimizer's state, and a step that is taken completely or not at all. With Muon the blocks' matrices take
//! another update.

use std::collections::BTreeMap;

use demask_api::{Adam, MomentKind, StepSettings, plan};
use tch::{Device, Kind, Tensor};

use crate::device::kernels::fused;
use crate::device::transfer;
use crate::error::{ModelError, Result};
use crate::training::optimizer::average::MovingAverage;
use crate::training::optimizer::clip;
use crate::training::optimizer::moments::{MomentLayout, Moments, copied};
use crate::training::optimizer::update::Update;
use crate::training::ranks::Share;
use crate::weights::parameters::Parameters;
use crate::weights::shards::ShardMap;

/// The end of the name of the second moments in a stored state.
pub(crate) const SECOND: &str = ".second";

/// The number of elements of a stored tensor, and the map that this rank's part is cut from it by.
type StoredLength = (i64, Option<ShardMap>);

/// The optimizer state of one network.
#[derive(Debug)]
pub struct AdamW {
    step: u64,
    layout: MomentLayout,
    /// The moments; `None` before the first step, whose settings determine their form.
    moments: Option<Moments>,
    /// The gradient accumulator, which is zero between steps.
    grad: Tensor,
    average: MovingAverage,
    /// This rank's share if several ranks train together. All fields above then hold this rank's shard only.
    share: Option<Share>,
}

/// The outcome of a step.
#[derive(Clone, Copy, Debug)]
pub struct Stepped {
    /// The gradient norm before clipping.
    pub grad_norm: f64,
    /// Whether loss and gradient norm were finite. If not, nothing was changed.
    pub finite: bool,
}

/// A copy of the weights and the optimizer state.
#[derive(Debug)]
pub struct Snapshot {
    master: Tensor,
    step: u64,
    moments: Option<Moments>,
    average: Option<Tensor>,
}

impl Snapshot {
    /// Returns the weights, flat, f32.
    pub fn master(&self) -> &Tensor {
        &self.master
    }
}

impl AdamW {
    /// Returns a fresh state.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn new(parameters: &Parameters) -> Result<Self> {
        let layout = match parameters.sharded() {
            Some(sharded) => MomentLayout::new(parameters.slots(), sharded.map().clone()),
            None => MomentLayout::alone(parameters.slots()),
        };
        Self::of(layout, parameters.master())
    }

    /// Returns a fresh state of the numbers that the layout says, whose weights are `master`.
    fn of(layout: MomentLayout, master: &Tensor) -> Result<Self> {
        Ok(Self {
            step: 0,
            layout,
            moments: None,
            grad: master.f_zeros_like()?,
            average: MovingAverage::default(),
            share: None,
        })
    }

    /// Returns a fresh state of this rank's shard of the parameters. All ranks take its steps together.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn shared(share: Share, parameters: &Parameters) -> Result<Self> {
        let layout = MomentLayout::new(parameters.slots(), share.map().clone());
        let own = Self::of(layout, share.own(parameters)?.master())?;
        Ok(Self {
            share: Some(share),
            ..own
        })
    }

    /// Makes this state, which belongs to a shard of the weights, take its steps together with the other
    /// ranks.
    pub fn join(&mut self, share: Share) {
        self.share = Some(share);
    }

    /// Returns this rank's share, if several ranks train together.
    #[must_use]
    pub fn share(&self) -> Option<&Share> {
        self.share.as_ref()
    }

    /// Returns the gradient accumulator, which holds this rank's shard if several ranks train together.
    pub(in crate::training) fn accumulator(&self) -> &Tensor {
        &self.grad
    }

    /// Returns the number of steps so far.
    #[must_use]
    pub fn step_count(&self) -> u64 {
        self.step
    }

    /// Returns the number of bytes that a step with these settings needs in addition: gradients in the
    /// leaves, moments that do not exist yet, and temporaries of the update.
    #[must_use]
    pub fn aside(&self, adam: &Adam) -> u64 {
        let own = self.layout.numbers;
        let width = match adam.moments {
            MomentKind::F32 => 4,
            MomentKind::Bf16 => 2,
        };
        let home = self.home(adam);
        let are_there = |moments: &Moments| moments.first.device() == home;
        let moments = if home != self.grad.device() || self.moments.as_ref().is_some_and(are_there) {
            0
        } else {
            width * (own + self.layout.seconds(adam.muon))
        };
        let update = self.update_bytes(adam);
        let leaves = self.share.as_ref().map_or(self.numbers(), Share::leaf_numbers);
        4 * leaves + u64::try_from(moments).unwrap_or(u64::MAX) + update
    }

    /// Returns the number of trained parameters, over all ranks.
    #[must_use]
    pub fn numbers(&self) -> u64 {
        let own = u64::try_from(self.layout.numbers).unwrap_or(0);
        self.share.as_ref().map_or(own, Share::numbers)
    }

    /// Returns the number of bytes of the temporaries of an update with libtorch's operators.
    fn update_bytes(&self, adam: &Adam) -> u64 {
        let own = u64::try_from(self.layout.numbers).unwrap_or(0);
        plan::update_bytes((own, self.numbers()), adam.muon)
    }

    /// Adds the leaves' gradients to the accumulator.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn accumulate(&mut self, parameters: &mut Parameters) -> Result<()> {
        parameters.gather_grads(&mut self.grad)
    }

    /// Drops the accumulated gradient, and what a failed backward pass left in the leaves.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn discard(&mut self, parameters: &mut Parameters) -> Result<()> {
        parameters.clear_grads();
        let _ = self.grad.f_zero_()?;
        Ok(())
    }

    /// Takes a step with the accumulated gradient, whose norm ([`Self::norm`]) and loss are given. If either
    /// is not finite, weights and state stay as they were. The accumulator is empty afterwards in both cases.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn step_on(
        &mut self,
        (loss, grad_norm): (f64, f64),
        parameters: &mut Parameters,
        settings: &StepSettings,
        ema: f64,
    ) -> Result<Stepped> {
        if loss.is_finite() {
            let (rate, clip) = (settings.learning_rate, settings.clip_norm);
            return tch::no_grad(|| {
                let figures = (clip, grad_norm);
                let Some(share) = self.share.clone() else {
                    return self.step_inner(parameters, &settings.adam, rate, figures, ema);
                };
                share.step(parameters, |own| {
                    self.step_inner(own, &settings.adam, rate, figures, ema)
                })
            });
        }
        self.discard(parameters)?;
        Ok(Stepped {
            grad_norm,
            finite: false,
        })
    }

    /// Computes the norm of the accumulated gradient, [1] f64. It stays on the device, so that one transfer
    /// reads it together with the losses.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn norm(&self) -> Result<Tensor> {
        match &self.share {
            Some(share) => share.norm(&self.grad),
            None => clip::norm(&self.grad),
        }
    }

    /// Takes a step with the accumulated gradient. If its norm is not finite, weights and state stay as they
    /// were.
    ///
    /// # Errors
    /// Returns libtorch's errors; nothing was changed in that case.
    pub fn step(
        &mut self,
        parameters: &Parameters,
        adam: &Adam,
        learning_rate: f64,
        clip_norm: f64,
        ema: f64,
    ) -> Result<Stepped> {
        tch::no_grad(|| {
            let grad_norm = transfer::read(&self.norm()?)?[0];
            self.step_inner(parameters, adam, learning_rate, (clip_norm, grad_norm), ema)
        })
    }

    fn step_inner(
        &mut self,
        parameters: &Parameters,
        adam: &Adam,
        rate: f64,
        (clip, grad_norm): (f64, f64),
        ema: f64,
    ) -> Result<Stepped> {
        if !grad_norm.is_finite() {
            let _ = self.grad.f_zero_()?;
            return Ok(Stepped {
                grad_norm,
                finite: false,
            });
        }
        self.ready(adam)?;
        let master = parameters.master();
        let begins = self.average.reserve(ema, master, self.home(adam))?;
        let Some(moments) = &self.moments else {
            return Err(ModelError::Refused("the optimizer has no moments".into()));
        };
        self.step += 1;
        let update = Update {
            adam,
            rate,
            clipped: clip::factor(clip, grad_norm),
            step: self.step,
        };
        if self.is_fused(adam) {
            update.fused(&self.grad, moments, master)?;
        } else {
            let whose = (&self.layout, self.share.as_ref());
            update.composed(&self.grad, moments, master, whose)?;
        }
        self.average.follow(ema, master, begins)?;
        parameters.refresh()?;
        Ok(Stepped {
            grad_norm,
            finite: true,
        })
    }

    /// Returns the device of moments and average: the weights' device, or host memory if they are offloaded.
    fn home(&self, adam: &Adam) -> Device {
        if adam.offload {
            Device::Cpu
        } else {
            self.grad.device()
        }
    }

    /// Returns whether the CPU kernel takes the step.
    fn is_fused(&self, adam: &Adam) -> bool {
        !adam.muon
            && adam.moments == MomentKind::F32
            && fused::applies_to(self.grad.device(), self.grad.kind())
    }

    /// Converts the moments to the form that the step needs, and allocates the memory of its temporaries
    /// once, before anything changes: a device that is out of memory then fails with the state intact.
    fn ready(&mut self, adam: &Adam) -> Result<()> {
        let made = match &self.moments {
            None => Some(Moments::zeros(
                &self.layout,
                (adam.moments, adam.muon),
                self.home(adam),
            )?),
            Some(moments) => moments.wanted(&self.layout, (adam.moments, adam.muon), self.home(adam))?,
        };
        if let Some(made) = made {
            self.moments = Some(made);
        }
        if !self.is_fused(adam) {
            let bytes = i64::try_from(self.update_bytes(adam)).unwrap_or(i64::MAX);
            drop(Tensor::f_empty([bytes], (Kind::Uint8, self.grad.device()))?);
        }
        Ok(())
    }

    /// Copies weights and state, to be restored by [`Self::put_back`].
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn snapshot(&self, parameters: &Parameters) -> Result<Snapshot> {
        tch::no_grad(|| {
            Ok(Snapshot {
                master: copied(parameters.master())?,
                step: self.step,
                moments: self.moments.as_ref().map(Moments::copied).transpose()?,
                average: self.average.values().map(copied).transpose()?,
            })
        })
    }

    /// Restores weights and state from a snapshot, and empties the accumulator.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn put_back(&mut self, parameters: &mut Parameters, snapshot: Snapshot) -> Result<()> {
        self.discard(parameters)?;
        parameters.set(&snapshot.master)?;
        self.step = snapshot.step;
        self.moments = snapshot.moments;
        self.average = MovingAverage::of(snapshot.average);
        Ok(())
    }

    /// Returns the accumulated gradient by parameter name.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn named_grads(&self, parameters: &Parameters) -> Result<BTreeMap<String, Tensor>> {
        parameters.named_like(&self.grad)
    }

    /// Returns the state as named tensors. If several ranks train together, this is a collective call of all
    /// ranks, and rank 0 receives the state of all of them.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn state(&self, prefix: &str) -> Result<BTreeMap<String, Tensor>> {
        if let Some(share) = &self.share {
            return share.whole_state(self.own_state(prefix), &|name| self.map_of(name));
        }
        self.own_state(prefix)
    }

    /// The state of this rank's part as named tensors.
    ///
    /// # Errors
    /// libtorch's.
    pub(crate) fn own_state(&self, prefix: &str) -> Result<BTreeMap<String, Tensor>> {
        let step = i64::try_from(self.step).unwrap_or(i64::MAX);
        let (first, second) = match &self.moments {
            Some(moments) => (moments.first.shallow_clone(), moments.second.shallow_clone()),
            None => (self.grad.f_zeros_like()?, self.grad.f_zeros_like()?),
        };
        let mut state = BTreeMap::from([
            (format!("{prefix}.first"), first),
            (format!("{prefix}.second"), second),
            (format!("{prefix}.step"), Tensor::f_from_slice(&[step])?),
        ]);
        if let Some(average) = self.average.values() {
            state.insert(format!("{prefix}.average"), average.shallow_clone());
        }
        Ok(state)
    }

    /// Returns the owners of the numbers of a tensor of the state, by its name as in [`Self::own_state`].
    pub(crate) fn map_of(&self, name: &str) -> &ShardMap {
        let beside_muon = self
            .moments
            .as_ref()
            .is_some_and(|moments| moments.is_beside_muon);
        self.layout.seconds_map(beside_muon && name.ends_with(SECOND))
    }

    /// Returns the owners of the second moments in a stored state, given the number of its second moments.
    pub(crate) fn stored_seconds(&self, numbers: i64) -> &ShardMap {
        self.layout.seconds_map(self.is_beside_muon(numbers))
    }

    /// Returns whether a state with this number of second moments, over all ranks, has none for Muon's matrices.
    fn is_beside_muon(&self, seconds: i64) -> bool {
        seconds != self.layout.map.total() && seconds == self.layout.seconds_beside_muon.total()
    }

    /// Restores a state that [`Self::state`] returned: moments in f32 or bf16, second ones of all numbers or only of
    /// those that Muon leaves to Adam. The next step converts them to the form that it needs.
    ///
    /// # Errors
    /// [`ModelError::Refused`] naming what is missing or has another length.
    pub fn restore(&mut self, prefix: &str, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let seconds = state.get(&format!("{prefix}{SECOND}"));
        let seconds = seconds.map_or(0, |second| second.numel() as i64);
        let map = |map: &ShardMap| (map.total(), self.share.is_some().then(|| map.clone()));
        let maps = (map(&self.layout.map), map(self.stored_seconds(seconds)));
        self.restored(prefix, state, self.is_beside_muon(seconds), &maps)
    }

    /// Restores this rank's part of a state, which has `seconds` second moments over all ranks.
    ///
    /// # Errors
    /// The errors of [`Self::restore`].
    pub(crate) fn restore_part(
        &mut self,
        prefix: &str,
        state: &BTreeMap<String, Tensor>,
        seconds: i64,
    ) -> Result<()> {
        let own = |map: &ShardMap| (map.owned(map.own().rank), None);
        let maps = (own(&self.layout.map), own(self.stored_seconds(seconds)));
        self.restored(prefix, state, self.is_beside_muon(seconds), &maps)
    }

    /// Restores a state whose tensors have these numbers of elements, first of all parameters and then of the second
    /// moments, and are cut by the maps beside them.
    fn restored(
        &mut self,
        prefix: &str,
        state: &BTreeMap<String, Tensor>,
        is_beside_muon: bool,
        (all, seconds): &(StoredLength, StoredLength),
    ) -> Result<()> {
        let get = |what: &str| {
            let name = format!("{prefix}.{what}");
            state
                .get(&name)
                .ok_or_else(|| ModelError::Refused(format!("the optimizer state lacks {name}")))
        };
        let like = |tensor: &Tensor, (expected, map): &StoredLength, kind: Kind| -> Result<Tensor> {
            let found = tensor.numel() as i64;
            if found != *expected {
                let message = format!("the optimizer state has {found} numbers, expected {expected}");
                return Err(ModelError::Refused(message));
            }
            let tensor = match map {
                Some(map) => &map.cut(tensor)?,
                None => tensor,
            };
            // The tensor stays on the device that it was read to; the next step moves it.
            Ok(tensor.f_to_kind(kind)?.copy())
        };
        let kind = match get("first")?.kind() {
            Kind::BFloat16 => Kind::BFloat16,
            _ => Kind::Float,
        };
        let moments = Moments {
            first: like(get("first")?, all, kind)?,
            second: like(get("second")?, seconds, kind)?,
            is_beside_muon,
        };
        let average = get("average").ok().map(|average| like(average, all, Kind::Float));
        let average = MovingAverage::of(average.transpose()?);
        self.step = u64::try_from(get("step")?.f_int64_value(&[0])?).unwrap_or(0);
        (self.moments, self.average) = (Some(moments), average);
        Ok(())
    }
}
