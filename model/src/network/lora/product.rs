//! The product of A and B: added beside a frozen layer, merged into its weights, or into a copy of them for sampling.
//!
//! Legend: I inputs of a layer, O outputs, R rank, T tokens; A is [R, I], B is [O, R].

#![allow(non_snake_case)]

use tch::{Kind, Tensor};

use super::{AdapterPart, Lora};
use crate::error::Result;
use crate::weights::parameters::Parameters;

impl Lora {
    /// Adds `scale · drop(x) Aᵀ Bᵀ` of every adapted layer of a product to `y` in place: x [T, I], y [T, O].
    ///
    /// The outputs of a product's layers are concatenated in y. Their B form a block-diagonal matrix, so that
    /// one product adds all of them and no part of y is copied.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn add(&self, product: &str, x: &Tensor, mut y: Tensor) -> Result<Tensor> {
        let Some(parts) = self.products.get(product) else {
            return Ok(y);
        };
        let adapted = || parts.iter().filter_map(|part| part.adapted.as_ref());
        let a_all = adapted()
            .map(|(a, _)| self.parameters.leaf(a))
            .collect::<Result<Vec<_>>>()?;
        let low = self.low(x, &a_all)?.f_mul_scalar(self.config.scale())?;
        let b_all = match parts.as_slice() {
            [
                AdapterPart {
                    adapted: Some((_, b)),
                    ..
                },
            ] => self.parameters.leaf(b)?.shallow_clone(),
            parts => Tensor::f_block_diag(&self.beside(parts)?)?,
        };
        let _ = y.f_addmm_(&low, &b_all.f_tr()?)?;
        Ok(y)
    }

    /// Computes `drop(x) Aᵀ` of several layers, concatenated.
    fn low(&self, x: &Tensor, a_all: &[&Tensor]) -> Result<Tensor> {
        let dropped = self.noise.get().is_some();
        if let ([a_RI], false) = (a_all, dropped) {
            return Ok(x.f_linear(a_RI, None::<&Tensor>)?);
        }
        if !dropped {
            return Ok(x.f_linear(&Tensor::f_cat(a_all, 0)?, None::<&Tensor>)?);
        }
        // Each layer has a dropout mask of its own.
        let one = |a_RI: &&Tensor| -> Result<Tensor> {
            let x = match self.kept(x)? {
                Some(kept) => x.f_mul(&kept)?,
                None => x.shallow_clone(),
            };
            Ok(x.f_linear(a_RI, None::<&Tensor>)?)
        };
        Ok(Tensor::f_cat(
            &a_all.iter().map(one).collect::<Result<Vec<_>>>()?,
            1,
        )?)
    }

    /// Returns the B of each layer; [O, 0] for a layer that is not adapted.
    fn beside(&self, parts: &[AdapterPart]) -> Result<Vec<Tensor>> {
        let parts = parts.iter().map(|part| match &part.adapted {
            Some((_, b)) => Ok(self.parameters.leaf(b)?.shallow_clone()),
            None => {
                let like = self.parameters.leaves_like();
                Ok(Tensor::f_zeros([part.outs, 0], like)?)
            }
        });
        parts.collect()
    }

    /// Adds the product of B and A to the weights of the adapted layers.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn merge_into(&self, base: &Parameters) -> Result<()> {
        let named = self.parameters.named()?;
        tch::no_grad(|| {
            for part in self.products.values().flatten() {
                let Some((a, b)) = &part.adapted else { continue };
                let mut weight = base.value(&format!("{}.weight", part.module))?;
                self.add_product([&named[a], &named[b]], &mut weight)?;
            }
            base.refresh()
        })
    }

    /// Returns a product's weight, [O, I], with `scale · B A` of its adapted layers added: the numbers of
    /// [`Self::merge_into`] in the dtype of the weight, without dropout. A and B are those of the compute dtype, so
    /// that an adapter that is trained and one that was loaded for sampling give the same numbers.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub(crate) fn merged(&self, product: &str, weight_OI: Tensor) -> Result<Tensor> {
        let Some(parts) = self.products.get(product) else {
            return Ok(weight_OI);
        };
        tch::no_grad(|| {
            let weight_OI = weight_OI.f_detach()?;
            let mut merged_OI = weight_OI.f_empty_like()?;
            merged_OI.f_copy_(&weight_OI)?;
            let mut first = 0;
            for part in parts {
                if let Some((a, b)) = &part.adapted {
                    let pair = [self.parameters.leaf(a)?, self.parameters.leaf(b)?];
                    self.add_product(pair, &mut merged_OI.f_narrow(0, first, part.outs)?)?;
                }
                first += part.outs;
            }
            Ok(merged_OI)
        })
    }

    /// Adds `scale · B A` to the weight of a layer, [O, I], in f32, and rounds the sum to the weight's dtype.
    fn add_product(&self, [a_RI, b_OR]: [&Tensor; 2], weight_OI: &mut Tensor) -> Result<()> {
        let [a_RI, b_OR] = [a_RI.f_to_kind(Kind::Float)?, b_OR.f_to_kind(Kind::Float)?];
        let product_OI = b_OR.f_matmul(&a_RI)?.f_mul_scalar(self.config.scale())?;
        let sum_OI = weight_OI.f_to_kind(Kind::Float)?.f_add(&product_OI)?;
        Ok(weight_OI.f_copy_(&sum_OI)?)
    }
}
