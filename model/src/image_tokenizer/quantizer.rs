//! Look-up-free quantisation (LFQ): the sign of each latent channel is one bit of the code (`mmada.md` 7.4).
//!
//! Channel 0 is the most significant bit. A latent of 0 counts as -1. The grid is read row by row.

#![allow(non_snake_case)]

use tch::{Kind, Tensor};

use crate::error::Result;

/// Computes the codes, [B, rows x columns], of latents, [B, Z, rows, columns].
///
/// # Errors
/// Any error libtorch reports.
pub fn codes_of(latents: &Tensor) -> Result<Tensor> {
    let bits = latents.size()[1];
    let powers: Vec<i64> = (0..bits).map(|channel| 1 << (bits - 1 - channel)).collect();
    let powers = Tensor::f_from_slice(&powers)?
        .f_view([1, bits, 1, 1])?
        .f_to_device(latents.device())?;
    let set = latents.f_gt(0.0)?.f_to_kind(Kind::Int64)?;
    Ok(set
        .f_mul(&powers)?
        .f_sum_dim_intlist(&[1i64][..], false, Kind::Int64)?
        .f_flatten(1, 2)?)
}

/// Computes the signs in {-1, 1}, [B, Z, rows, columns], of the codes of a grid, [B, rows x columns].
///
/// # Errors
/// Any error libtorch reports.
pub fn signs_of(codes_BN: &Tensor, bits: i64, (rows, columns): (i64, i64)) -> Result<Tensor> {
    let shifts: Vec<i64> = (0..bits).map(|channel| bits - 1 - channel).collect();
    let shifts = Tensor::f_from_slice(&shifts)?
        .f_view([1, 1, bits])?
        .f_to_device(codes_BN.device())?;
    let set = codes_BN
        .f_unsqueeze(-1)?
        .f_bitwise_right_shift(&shifts)?
        .f_bitwise_and(1)?;
    let signs = set.f_to_kind(Kind::Float)?.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?;
    Ok(signs.f_transpose(1, 2)?.f_reshape([-1, bits, rows, columns])?)
}

/// Computes the signs in {-1, 1} of latents, with the straight-through gradient.
///
/// # Errors
/// Any error libtorch reports.
pub fn straight_through(latents: &Tensor) -> Result<Tensor> {
    let signs = latents
        .f_gt(0.0)?
        .f_to_kind(Kind::Float)?
        .f_mul_scalar(2.0)?
        .f_sub_scalar(1.0)?;
    Ok(latents.f_add(&signs.f_sub(latents)?.f_detach()?)?)
}
