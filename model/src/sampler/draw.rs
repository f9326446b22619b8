//! The draw of one token from each row of logits, with the model's confidence in it.
//!
//! On a CPU one kernel does the draw (`csrc/cached.cpp`). On other devices it is composed of libtorch's operators, so
//! that the logits never leave the device: only seven numbers a row are read back. The caller supplies the noise, one
//! uniform number per row, so that a draw does not depend on the other rows. Legend: N rows, V columns.

#![allow(non_snake_case)]

use tch::{Device, Kind, Tensor};

use crate::device::kernels::columns::measure;
#[cfg(fused)]
use crate::device::kernels::fused;
use crate::device::transfer::{self, Arrived, Packet, PacketPlace};
use crate::error::{ModelError, Result};

/// The largest uniform number of a draw: the f32 below 1. A number below 1 may round to 1 in f32, once in 2^25 times. No
/// cumulative sum exceeds that share, so the last column would be drawn, however improbable it is.
pub const LARGEST_UNIFORM: f32 = 1.0 - f32::EPSILON / 2.0;

/// The temperature and the random number that one row is drawn with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noise {
    /// The sampling temperature. 0 takes the arg-max. Any other value draws from softmax(logits / temperature), which
    /// is the distribution of the arg-max of logits plus temperature times Gumbel noise.
    pub temperature: f32,
    /// A uniform number in 0..1, for inverse-transform sampling: the drawn column is the one where the cumulative sum
    /// of the probabilities exceeds this share of their total. A larger number counts as [`LARGEST_UNIFORM`].
    pub uniform: f32,
}

/// The columns that may be drawn. The softmax still includes the other columns, so that a token's probability is the
/// same number as in training (L7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Writable {
    /// The end of the columns that may be drawn, exclusive.
    pub end: u32,
    /// A column before `end` that may not be drawn.
    pub shut: Option<u32>,
}

/// The result of the draw from one row.
///
/// Probabilities near 1 are f64 and differ down to 1e-16, as in the published code. In f32, tokens that the model is
/// sure of would all have probability 1, and their ranking would be by position alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    /// The drawn column.
    pub token: u32,
    /// The probability of the drawn column, without temperature.
    pub probability: f64,
    /// The probability of the likeliest column that may be drawn.
    pub best: f64,
    /// The probability of the second likeliest column that may be drawn.
    pub next: f32,
    /// The entropy of the row over all columns, in nats.
    pub entropy: f32,
}

impl Drawn {
    /// Reads the measures of a row, whose columns [`measure`] names. For a probability above 0.5, the sum of all other
    /// probabilities (`REST`) is the more exact number, so the probability is computed from it.
    fn new(measures: &[f32]) -> Self {
        let exact = |share: f32, rest: f32| {
            if share > 0.5 {
                1.0 - f64::from(rest)
            } else {
                f64::from(share)
            }
        };
        Self {
            token: column(measures[measure::TOKEN]),
            probability: exact(measures[measure::PROBABILITY], measures[measure::REST]),
            best: exact(measures[measure::BEST], measures[measure::BEST_REST]),
            next: measures[measure::NEXT],
            entropy: measures[measure::ENTROPY],
        }
    }
}

/// Converts a column index that the measures hold as f32.
fn column(told: f32) -> u32 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let column = told as u32;
    column
}

/// The number of measures of a row.
pub(super) const MEASURES: i64 = measure::COLUMNS as i64;

/// Draws one token from each of the N rows.
///
/// # Errors
/// [`ModelError::Refused`] if logits are not finite, or any error libtorch reports.
pub fn draw(logits_NV: &Tensor, noise: &[Noise], writable: Writable) -> Result<Vec<Drawn>> {
    if noise.is_empty() {
        return Ok(Vec::new());
    }
    let mut packet = Packet::new();
    let planned = PlannedNoise::new(noise, logits_NV.device(), &mut packet);
    let noise = planned.arrive(&packet.send(logits_NV.device())?);
    fetched(&measures(logits_NV, &noise, writable)?)
}

/// Reads the measures of N rows, [N, 7], from the device.
///
/// # Errors
/// The errors of [`draw`].
pub(super) fn fetched(measures_N7: &Tensor) -> Result<Vec<Drawn>> {
    let measures = transfer::read_f32(measures_N7)?;
    measures
        .chunks_exact(MEASURES as usize)
        .map(|measures| {
            finite(measures[measure::PROBABILITY])?;
            Ok(Drawn::new(measures))
        })
        .collect()
}

/// The noise of the rows, on their device.
#[derive(Debug)]
pub(super) struct RowNoise {
    /// Whether any row has a temperature above 0.
    warm: bool,
    /// Temperatures and uniform numbers, [N] each. Absent if no row has a temperature and the CPU's kernel, which
    /// always takes both, is not used.
    values_N: Option<(Tensor, Tensor)>,
}

/// The noise of the rows, in a packet that has not been sent yet.
#[derive(Debug)]
pub(super) struct PlannedNoise {
    warm: bool,
    values: Option<(PacketPlace, PacketPlace)>,
}

impl PlannedNoise {
    pub fn new(noise: &[Noise], device: Device, packet: &mut Packet) -> Self {
        let warm = noise.iter().any(|noise| noise.temperature > 0.0);
        let temperatures = noise.iter().map(|noise| noise.temperature);
        let uniforms = noise.iter().map(|noise| noise.uniform.min(LARGEST_UNIFORM));
        Self {
            warm,
            // The CPU's kernel always takes both tensors.
            values: (warm || device == Device::Cpu)
                .then(|| (packet.floats(temperatures), packet.floats(uniforms))),
        }
    }

    pub fn arrive(self, arrived: &Arrived) -> RowNoise {
        RowNoise {
            warm: self.warm,
            values_N: self
                .values
                .map(|(of, uniforms)| (arrived.get(of), arrived.get(uniforms))),
        }
    }
}

/// Checks a row's probability: it is not finite if a logit is NaN or the highest logit is infinite.
fn finite(probability: f32) -> Result<()> {
    if probability.is_finite() {
        return Ok(());
    }
    Err(ModelError::Refused(
        "the model's logits are not finite, so its weights are unusable; return to an earlier checkpoint"
            .into(),
    ))
}

/// Draws from each of the N rows and returns the measures, [N, 7], on the device of the logits. [`fetched`] reads them.
///
/// # Errors
/// Any error libtorch reports.
pub(super) fn measures(logits_NV: &Tensor, noise: &RowNoise, writable: Writable) -> Result<Tensor> {
    let values = noise
        .values_N
        .as_ref()
        .map(|(temperatures, uniforms)| (temperatures, uniforms));
    #[cfg(fused)]
    if let Some((temperatures, uniforms)) = values
        && fused::applies(logits_NV)
    {
        return kernel::draw(logits_NV, temperatures, uniforms, writable);
    }
    Ok(composed(logits_NV, values.filter(|_| noise.warm), writable)?.1)
}

/// Takes the likeliest token of each row. Returns the tokens, [N], and their measures, [N, 7], on the device of the
/// logits.
///
/// # Errors
/// Any error libtorch reports.
pub(super) fn likeliest(logits_NV: &Tensor, writable: Writable) -> Result<(Tensor, Tensor)> {
    composed(logits_NV, None, writable)
}

/// Draws with libtorch's operators. Without noise (temperatures and uniform numbers) it takes the likeliest column.
fn composed(
    logits_NV: &Tensor,
    noise: Option<(&Tensor, &Tensor)>,
    writable: Writable,
) -> Result<(Tensor, Tensor)> {
    let wide_NV = logits_NV.f_to_kind(Kind::Float)?;
    // The sum leaves the highest column out: next to its 1, small terms would lose their digits.
    let (top_N1, surest_N1) = wide_NV.f_max_dim(-1, true)?;
    let below_NV = wide_NV.f_sub(&top_N1)?;
    let sum = |x: &Tensor| x.f_sum_dim_intlist(&[-1i64][..], true, Kind::Float);
    let others_N1 = sum(&below_NV
        .f_scatter_value(-1, &surest_N1, f64::NEG_INFINITY)?
        .f_exp()?)?;
    let log_p_NV = below_NV.f_sub(&others_N1.f_log1p()?)?;
    // 0 log 0 counts as 0: a column of probability 0 gives NaN here.
    let entropy_N1 = sum(&log_p_NV
        .f_exp()?
        .f_mul(&log_p_NV)?
        .f_nan_to_num(0.0, None, None)?)?
    .f_neg()?;
    let rest_N1 = others_N1.f_div(&others_N1.f_add_scalar(1.0)?)?;
    let columns = i64::from(writable.end).min(log_p_NV.size()[1]);
    let open_NV = log_p_NV.f_narrow(1, 0, columns)?;
    if let Some(shut) = writable.shut.map(i64::from).filter(|&shut| shut < columns) {
        let _ = open_NV.f_narrow(1, shut, 1)?.f_fill_(f64::NEG_INFINITY)?;
    }
    let (top_N2, _) = open_NV.f_topk(2.min(columns), -1, true, true)?;
    // Of equal columns the first one is taken, as the kernel does; libtorch's top-k promises no order among equals.
    let number_V = Tensor::f_arange(columns, (Kind::Int, open_NV.device()))?;
    let lower_NV = open_NV.f_lt_tensor(&top_N2.f_narrow(1, 0, 1)?)?;
    let likeliest_N1 = number_V
        .f_unsqueeze(0)?
        .f_expand(open_NV.size(), false)?
        .f_masked_fill(&lower_NV, columns - 1)?
        .f_amin(&[-1i64][..], true)?
        .f_to_kind(Kind::Int64)?;
    let token_N1 = match noise {
        None => likeliest_N1.shallow_clone(),
        Some(noise) => stopped(&open_NV, &likeliest_N1, noise)?,
    };
    let probability_N1 = open_NV.f_gather(1, &token_N1, false)?.f_exp()?;
    // If the highest logit is infinite, inf - inf makes the probability NaN, which `finite` refuses.
    let probability_N1 = probability_N1.f_add(&top_N1.f_sub(&top_N1)?)?;
    let best_N1 = top_N2.f_narrow(1, 0, 1)?.f_exp()?;
    let next_N1 = match columns {
        1 => best_N1.f_zeros_like()?,
        _ => top_N2.f_narrow(1, 1, 1)?.f_exp()?,
    };
    // `rest` is exact for the highest column only. Any other column has a rest far from 0, where 1 - p is exact enough.
    let left_to_others = |column_N1: &Tensor, share_N1: &Tensor| -> Result<Tensor> {
        let surest_N1 = column_N1.f_eq_tensor(&surest_N1)?;
        Ok(rest_N1.f_where_self(&surest_N1, &share_N1.f_neg()?.f_add_scalar(1.0)?)?)
    };
    let rests = [
        left_to_others(&token_N1, &probability_N1)?,
        left_to_others(&likeliest_N1, &best_N1)?,
    ];
    // In the order of `measure`.
    let measures: [&Tensor; measure::COLUMNS] = [
        &probability_N1,
        &best_N1,
        &next_N1,
        &entropy_N1,
        &rests[0],
        &rests[1],
        &token_N1.f_to_kind(Kind::Float)?,
    ];
    Ok((token_N1.f_squeeze_dim(1)?, Tensor::f_cat(&measures, 1)?))
}

/// The number of columns in a piece of a row: the search for the drawn column first finds its piece, then its place
/// there.
const PIECE: i64 = 1024;

/// Finds the first column, [N, 1], where the cumulative sum of a row's probabilities exceeds the row's uniform share of
/// the total. A row with temperature 0 gets its likeliest column. The sums are f64; searching in two levels keeps only
/// one of them per piece and one per column of a single piece.
fn stopped(
    open_NV: &Tensor,
    likeliest_N1: &Tensor,
    (temperatures, uniforms): (&Tensor, &Tensor),
) -> Result<Tensor> {
    let (rows, columns) = open_NV.size2()?;
    let temperature_N1 = temperatures.f_unsqueeze(1)?;
    let cold_N1 = temperature_N1.f_le(0.0)?;
    let warm_NV = open_NV
        .f_div(&temperature_N1.f_masked_fill(&cold_N1, 1.0)?)?
        .f_softmax(-1, Kind::Float)?;
    // First level: find the piece in which the cumulative sum passes the share.
    let pieces = (columns + PIECE - 1) / PIECE;
    let warm_NCP = warm_NV
        .f_constant_pad_nd([0, pieces * PIECE - columns])?
        .f_view([rows, pieces, PIECE])?;
    let running_NC = warm_NCP
        .f_sum_dim_intlist(&[-1i64][..], false, Kind::Double)?
        .f_cumsum(-1, Kind::Double)?;
    let share_N1 = uniforms.f_to_kind(Kind::Double)?.f_unsqueeze(1)?;
    let stop_N1 = running_NC.f_narrow(1, -1, 1)?.f_mul(&share_N1)?;
    let passed = |running: &Tensor, most: i64| -> Result<Tensor> {
        let below = running.f_le_tensor(&stop_N1)?;
        Ok(below
            .f_sum_dim_intlist(&[-1i64][..], true, Kind::Int64)?
            .f_clamp_max(most - 1)?)
    };
    let piece_N1 = passed(&running_NC, pieces)?;
    let before_N1 = running_NC
        .f_constant_pad_nd([1, 0])?
        .f_gather(1, &piece_N1, false)?;
    // Second level: find the column within that piece, starting from the sum of the pieces before it.
    let stands_N1P = piece_N1.f_unsqueeze(2)?.f_expand([rows, 1, PIECE], false)?;
    let running_NP = warm_NCP
        .f_gather(1, &stands_N1P, false)?
        .f_squeeze_dim(1)?
        .f_cumsum(-1, Kind::Double)?
        .f_add(&before_N1)?;
    let within_N1 = passed(&running_NP, PIECE)?;
    let warm_N1 = piece_N1
        .f_mul_scalar(PIECE)?
        .f_add(&within_N1)?
        .f_clamp_max(columns - 1)?;
    Ok(likeliest_N1.f_where_self(&cold_N1, &warm_N1)?)
}

#[cfg(fused)]
mod kernel {
    use std::ffi::c_int;

    use tch::{Device, Kind, Tensor};

    use super::Writable;
    use crate::device::kernels::ffi::{Handle, check, handle};
    use crate::error::Result;

    unsafe extern "C" {
        fn demask_draw(
            logits: Handle,
            temperatures: Handle,
            uniforms: Handle,
            end: i64,
            shut: i64,
            measures: Handle,
        ) -> c_int;
    }

    pub(super) fn draw(
        logits: &Tensor,
        temperatures: &Tensor,
        uniforms: &Tensor,
        writable: Writable,
    ) -> Result<Tensor> {
        let (rows, _) = logits.size2()?;
        let measures = Tensor::f_empty([rows, super::MEASURES], (Kind::Float, Device::Cpu))?;
        // SAFETY: the handles are live tensors; the kernel checks their lengths and writes the result whole.
        check(unsafe {
            demask_draw(
                handle(logits),
                handle(temperatures),
                handle(uniforms),
                i64::from(writable.end),
                writable.shut.map_or(-1, i64::from),
                handle(&measures),
            )
        })?;
        Ok(measures)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_kernel_draws_what_the_operators_draw() {
        let logits = (Tensor::arange(7 * 33, (Kind::Float, Device::Cpu)) * 0.7).sin() * 3.0;
        let logits = logits.view([7, 33]);
        let noise: Vec<Noise> = (0..7u8)
            .map(|row| Noise {
                temperature: f32::from(row % 3) * 0.5,
                uniform: f32::from(row) / 7.0 + 0.01,
            })
            .collect();
        for (end, shut) in [(33, None), (20, Some(5))] {
            let writable = Writable { end, shut };
            let ours = draw(&logits, &noise, writable).unwrap();
            let theirs = draw(&logits.to_kind(Kind::Double), &noise, writable).unwrap();
            for (a, b) in ours.iter().zip(&theirs) {
                assert_eq!(a.token, b.token);
                assert!(a.token < end && Some(a.token) != shut);
                for (a, b) in [
                    (a.probability, b.probability),
                    (a.best, b.best),
                    (a.next.into(), b.next.into()),
                    (a.entropy.into(), b.entropy.into()),
                ] {
                    assert!((a - b).abs() < 1e-5, "{a} and {b}");
                }
            }
        }
    }

    /// Rows span several pieces; the highest, the drawn and the shut column may each lie in any piece.
    #[test]
    fn rows_of_several_pieces_are_drawn_as_in_f64() {
        let (rows, columns) = (12, 2 * 1024 + 300);
        let wave = Tensor::arange(rows * columns, (Kind::Double, Device::Cpu)) * 0.37;
        let logits = (wave.sin() * 4.0 + (wave * 0.013).cos() * 4.0).view([rows, columns]);
        for kind in [Kind::Float, Kind::BFloat16] {
            let logits = logits.to_kind(kind);
            let exact = logits.to_kind(Kind::Double);
            let p = exact.log_softmax(-1, Kind::Double);
            let entropy = -(p.exp() * &p).sum_dim_intlist(&[-1i64][..], false, Kind::Double);
            for (end, shut) in [(2348, None), (2000, Some(1500)), (1024, Some(0)), (1025, None)] {
                let noise: Vec<Noise> = (0..rows as u8)
                    .map(|row| Noise {
                        temperature: f32::from(row % 4) * 0.4,
                        uniform: f32::from(row) / 12.0 + 0.02,
                    })
                    .collect();
                let drawn = draw(&logits, &noise, Writable { end, shut }).unwrap();
                let composed = draw(&exact, &noise, Writable { end, shut }).unwrap();
                let open = exact.narrow(1, 0, end.into()).copy();
                if let Some(shut) = shut {
                    let _ = open.narrow(1, shut.into(), 1).fill_(f64::NEG_INFINITY);
                }
                let (top_N2, best_N2) = open.topk(2, -1, true, true);
                for (row, (a, b)) in (0..rows).zip(drawn.iter().zip(&composed)) {
                    assert_eq!(a.token, b.token, "row {row} of {kind:?} to {end}");
                    let top = top_N2.double_value(&[row, 0]);
                    let first = open
                        .get(row)
                        .eq(top)
                        .to_kind(Kind::Int64)
                        .argmax(-1, false)
                        .int64_value(&[]);
                    if row % 4 == 0 {
                        assert_eq!(i64::from(a.token), first);
                    }
                    let at = |column: i64| p.double_value(&[row, column]).exp();
                    let next = best_N2.int64_value(&[row, 1]);
                    for (got, wanted) in [
                        (a.probability, at(a.token.into())),
                        (a.best, at(first)),
                        (a.next.into(), at(next)),
                        (a.entropy.into(), entropy.double_value(&[row])),
                    ] {
                        assert!(
                            (got / wanted - 1.0).abs() < 2e-5,
                            "row {row} of {kind:?} to {end}: {got} and {wanted}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn there_is_nothing_to_draw_from_where_the_highest_is_no_number() {
        for wrong in [f32::NAN, f32::INFINITY] {
            let logits = Tensor::from_slice(&[0.0, 1.0, wrong, 2.0]).view([1, 4]);
            for temperature in [0.0, 1.0] {
                let uniform = 0.4;
                let noise = [Noise { temperature, uniform }];
                for end in [2, 4] {
                    let writable = Writable { end, shut: None };
                    assert!(
                        draw(&logits, &noise, writable).is_err(),
                        "{wrong} {temperature} {end}"
                    );
                    assert!(draw(&logits.to_kind(Kind::Double), &noise, writable).is_err());
                }
            }
        }
    }

    /// A number next to 1 that rounds to 1 draws a column that has a share of the total, not the last one.
    #[test]
    fn a_uniform_number_that_rounds_to_one_draws_no_impossible_column() {
        #[allow(clippy::cast_possible_truncation)]
        let uniform = (1.0 - f64::EPSILON) as f32;
        let logits = Tensor::from_slice(&[10f32, 0.0, -200.0]).view([1, 3]);
        let noise = [Noise {
            temperature: 1.0,
            uniform,
        }];
        for logits in [logits.shallow_clone(), logits.to_kind(Kind::Double)] {
            for (end, shut) in [(3, None), (3, Some(2))] {
                let drawn = draw(&logits, &noise, Writable { end, shut }).unwrap()[0];
                assert_eq!(drawn.token, 1, "{shut:?}");
            }
        }
    }

    #[test]
    fn of_equals_the_first_is_likeliest_and_of_one_there_is_no_next() {
        let logits = Tensor::from_slice(&[1f32, 3.0, 3.0, 3.0]).view([1, 4]);
        let cold = [Noise {
            temperature: 0.0,
            uniform: 0.0,
        }];
        for logits in [logits.shallow_clone(), logits.to_kind(Kind::Double)] {
            let of = |end, shut| draw(&logits, &cold, Writable { end, shut }).unwrap()[0];
            assert_eq!(
                (of(4, None).token, of(4, Some(1)).token, of(2, Some(3)).token),
                (1, 2, 1)
            );
            assert_eq!((of(1, None).token, of(1, None).next), (0, 0.0));
        }
    }

    /// Tokens that the model is sure of have different probabilities, as in f64.
    #[test]
    fn probabilities_next_to_one_keep_their_digits() {
        let ahead = [14.0f64, 17.0, 21.0, 25.0, 30.0];
        let rows: Vec<f32> = ahead.iter().flat_map(|&top| [0.0, top as f32, 1.0]).collect();
        let logits = Tensor::from_slice(&rows).view([5, 3]);
        let cold = vec![
            Noise {
                temperature: 0.0,
                uniform: 0.0
            };
            5
        ];
        let writable = Writable { end: 3, shut: None };
        for logits in [logits.shallow_clone(), logits.to_kind(Kind::Double)] {
            for (drawn, top) in draw(&logits, &cold, writable).unwrap().iter().zip(ahead) {
                let others = (-top).exp() + (1.0 - top).exp();
                let rest = others / (1.0 + others);
                for sure in [drawn.probability, drawn.best] {
                    assert!(((1.0 - sure) / rest - 1.0).abs() < 1e-3, "{sure}, {rest}");
                }
                let entropy =
                    others.ln_1p() + ((-top).exp() * top + (1.0 - top).exp() * (top - 1.0)) / (1.0 + others);
                assert!(
                    (f64::from(drawn.entropy) / entropy - 1.0).abs() < 1e-3,
                    "{}, {entropy}",
                    drawn.entropy
                );
            }
        }
    }
}
