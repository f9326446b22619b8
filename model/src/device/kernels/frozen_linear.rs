//! The product with a frozen weight that is kept in another form: the weight is made for the forward pass, forgotten,
//! and made again for the backward pass, which takes the gradient of the input alone. A build without our C++ keeps the
//! made weight until then.
//!
//! Legend: T rows, I inputs, O outputs.

#![allow(non_snake_case)]

use std::fmt::Debug;
use std::sync::Arc;

use tch::Tensor;

use crate::error::Result;

/// A frozen weight, made when a product needs it: with the same bits each time.
pub trait FrozenWeight: Debug + Send + Sync {
    /// The weight [O, I], in the dtype and on the device of the inputs, of which nothing is kept.
    ///
    /// # Errors
    /// libtorch's, out of memory among them.
    fn made(&self) -> Result<Tensor>;
}

/// `x wᵀ + bias` of rows x [T, I]: [T, O].
///
/// # Errors
/// The weight's; libtorch's.
pub fn linear(x_TI: &Tensor, weight: &Arc<dyn FrozenWeight>, bias_O: Option<&Tensor>) -> Result<Tensor> {
    #[cfg(fused)]
    return library::linear(x_TI, weight, bias_O);
    #[cfg(not(fused))]
    Ok(x_TI.f_linear(&weight.made()?, bias_O)?)
}

#[cfg(fused)]
mod library {
    use std::ffi::{c_char, c_int, c_void};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::ptr::null_mut;
    use std::sync::Arc;

    use tch::Tensor;

    use super::FrozenWeight;
    use crate::device::kernels::ffi::{Handle, check, handle, take};
    use crate::error::Result;

    type Owner = Arc<dyn FrozenWeight>;
    type Make = extern "C" fn(*const c_void, *mut Handle, *mut c_char, usize) -> c_int;
    type Drop = extern "C" fn(*mut c_void);

    unsafe extern "C" {
        fn demask_frozen_linear(
            x: Handle,
            owner: *mut c_void,
            make: Make,
            drop: Drop,
            bias: Handle,
            y: *mut Handle,
        ) -> c_int;
    }

    pub(super) fn linear(x: &Tensor, weight: &Owner, bias: Option<&Tensor>) -> Result<Tensor> {
        let owner = Box::into_raw(Box::new(Arc::clone(weight))).cast();
        let (bias, mut y) = (bias.map_or(null_mut(), handle), null_mut());
        // SAFETY: the handles are live tensors for the call; the owner is a box of ours, which `dropped` takes back,
        // once.
        check(unsafe { demask_frozen_linear(handle(x), owner, made, dropped, bias, &mut y) })?;
        Ok(take(y))
    }

    /// Makes the weight for the C++ half; no panic crosses.
    extern "C" fn made(owner: *const c_void, to: *mut Handle, words: *mut c_char, room: usize) -> c_int {
        // SAFETY: the owner is the box of `linear`, which lives until `dropped`.
        let weight = unsafe { &*owner.cast::<Owner>() };
        let why = match catch_unwind(AssertUnwindSafe(|| weight.made())) {
            Ok(Ok(tensor)) => {
                // SAFETY: the C++ half takes the tensor over, whose own drop is forgotten.
                unsafe { to.write(handle(&tensor)) };
                std::mem::forget(tensor);
                return 0;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "dequantising the weight panicked".to_owned(),
        };
        let length = why.len().min(room.saturating_sub(1));
        // SAFETY: there are `room` bytes behind `words`, of which the last one stays for the end.
        unsafe {
            std::ptr::copy_nonoverlapping(why.as_ptr().cast(), words, length);
            words.add(length).write(0);
        }
        1
    }

    extern "C" fn dropped(owner: *mut c_void) {
        // SAFETY: the box of `linear`, given back once.
        drop(unsafe { Box::from_raw(owner.cast::<Owner>()) });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tch::{Device, Kind};

    use super::*;
    use crate::error::ModelError;

    /// A weight that counts its dequantisations, and fails after a given number of them.
    #[derive(Debug)]
    struct Counted(AtomicUsize, usize);

    impl FrozenWeight for Counted {
        fn made(&self) -> Result<Tensor> {
            if self.0.fetch_add(1, Ordering::Relaxed) >= self.1 {
                return Err(ModelError::Refused("out of memory, say".into()));
            }
            let numbers = Tensor::arange(12, (Kind::Float, Device::Cpu));
            Ok((numbers * 0.7).cos().view([3, 4]))
        }
    }

    fn weight(most: usize) -> (Arc<Counted>, Arc<dyn FrozenWeight>) {
        let counted = Arc::new(Counted(AtomicUsize::new(0), most));
        let same: Arc<dyn FrozenWeight> = counted.clone();
        (counted, same)
    }

    #[test]
    fn value_and_gradient_are_those_of_a_plain_product() {
        let (counted, weight) = weight(usize::MAX);
        let leaf = || {
            (Tensor::arange(20, (Kind::Float, Device::Cpu)) * 0.3)
                .sin()
                .view([5, 4])
        };
        let bias = Tensor::from_slice(&[0.5f32, -1.0, 2.0]);
        let slope = leaf().narrow(1, 0, 3) * 3.0;
        for bias in [None, Some(&bias)] {
            let [ours, plain] = [leaf(), leaf()].map(|x| x.set_requires_grad(true));
            let y = linear(&ours, &weight, bias).unwrap();
            let expected = plain.linear(&counted.made().unwrap(), bias);
            assert!(y.equal(&expected));
            for y in [y, expected] {
                (y * &slope).sum(Kind::Float).backward();
            }
            assert!(ours.grad().equal(&plain.grad()));
        }
    }

    #[test]
    #[cfg(fused)]
    fn it_is_made_again_for_the_backward_pass_and_forgotten_at_the_end() {
        let (counted, weight) = weight(usize::MAX);
        let x = Tensor::ones([2, 4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let y = linear(&x, &weight, None).unwrap();
        assert_eq!(counted.0.load(Ordering::Relaxed), 1);
        y.sum(Kind::Float).backward();
        assert_eq!(counted.0.load(Ordering::Relaxed), 2);
        drop((weight, y));
        assert_eq!(Arc::strong_count(&counted), 1, "the graph let go of it");
    }

    #[test]
    #[cfg(fused)]
    fn why_it_could_not_be_made_comes_back_from_both_passes() {
        for most in [0, 1] {
            let (_, weight) = weight(most);
            let x = Tensor::ones([2, 4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
            let done = linear(&x, &weight, None).and_then(|y| Ok(y.sum(Kind::Float).f_backward()?));
            let error = done.unwrap_err();
            assert!(error.is_out_of_memory(), "{error}");
        }
    }
}
