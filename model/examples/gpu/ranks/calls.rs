//! The collective calls of a world of one: every call of the engine with its values, the order of streams, and the
//! time that groups take.
//!
//! In a world of one most calls leave a tensor as it is, but an exchange copies one tensor into another on the group's
//! own stream. It therefore shows whether that stream waits for the work that computes what is sent, and whether the
//! caller's stream waits for what is received.

use std::time::Instant;

use anyhow::ensure;
use demask_model::world::group::chunk_squares;
use demask_model::world::{ProcessGroup, Reduce, World};
use tch::{Device, Kind, Tensor};

use super::{CALLING, attempt, join_alone};
use crate::clock::wait;
use crate::figure::Teller;
use crate::options::Options;
use crate::programs::Home;

/// The dtypes of what ranks exchange.
const KINDS: [Kind; 5] = [
    Kind::Float,
    Kind::BFloat16,
    Kind::Double,
    Kind::Int64,
    Kind::Uint8,
];
/// The numbers that are exchanged. Each of them is exact in every dtype.
const NUMBERS: [i64; 4] = [3, 0, 7, 100];

/// Joins a world of one and checks each of its calls.
///
/// # Errors
/// Returns an error if the world cannot be joined.
pub fn world(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let place = options.place("auto")?;
    let device = place.device;
    let home = Home::fresh("world")?;
    let began = Instant::now();
    let world = join_alone(home.path(), device)?;
    let fabric = if device.is_cuda() { "Gloo and NCCL" } else { "Gloo" };
    let seconds = began.elapsed().as_secs_f64();
    teller.found("joining a world of one", seconds, "s", fabric);
    let group = world.group(device);
    for kind in KINDS {
        attempt(teller, &format!("every call, {kind:?}"), || {
            calls(group, (device, kind))
        });
    }
    attempt(teller, "a call waits for the work before it", || {
        ordered(options, teller, group, (device, place.kind))
    });
    attempt(teller, "sums of squares by chunks", || squares(device));
    attempt(teller, "a second group", || second(teller, &world, device));
    Ok(())
}

/// Makes every call that the engine uses, and returns their names.
fn calls(group: &ProcessGroup, (device, kind): (Device, Kind)) -> anyhow::Result<String> {
    let numbers = || -> anyhow::Result<Tensor> {
        Ok(Tensor::f_from_slice(&NUMBERS)?
            .f_to_kind(kind)?
            .f_to_device(device)?)
    };
    let tensor = numbers()?;
    group.broadcast(&tensor, 0)?;
    same("broadcast", &tensor)?;
    for (name, how) in [
        ("sum", Reduce::Sum),
        ("minimum", Reduce::Least),
        ("maximum", Reduce::Most),
    ] {
        group.all_reduce(&tensor, how)?;
        same(name, &tensor)?;
    }
    if kind == Kind::Float {
        group.all_reduce(&tensor, Reduce::Mean)?;
        same("mean", &tensor)?;
    }
    group.all_gather(&[tensor.shallow_clone()])?;
    same("all-gather", &tensor)?;
    group.begin_gather(&[(0, tensor.shallow_clone())])?.wait()?;
    same("all-gather in the background", &tensor)?;
    let rows = [1, NUMBERS.len() as i64];
    let (sent, received) = (numbers()?.f_view(rows)?, tensor.f_zeros_like()?.f_view(rows)?);
    group.all_to_all(&received, &sent)?;
    same("all-to-all", &received)?;
    let (received, lengths) = (tensor.f_zeros_like()?, [NUMBERS.len() as i64]);
    group.exchange((&received, &lengths), (&tensor, &lengths))?;
    same("exchange", &received)?;
    // As around the reading and writing of files.
    group.set_limit(CALLING)?;
    group.barrier()?;
    Ok("broadcast, reductions, all-gather, all-to-all, exchange, barrier, another limit".into())
}

fn same(call: &str, tensor: &Tensor) -> anyhow::Result<()> {
    let found = tensor
        .f_to_device(Device::Cpu)?
        .f_to_kind(Kind::Double)?
        .f_reshape([-1])?;
    let found = Vec::<f64>::try_from(found)?;
    let expected = NUMBERS.map(|number| number as f64);
    ensure!(
        found == expected,
        "{call}: found {found:?}, expected {expected:?}"
    );
    Ok(())
}

/// Queues matrix products whose result is known, sends a part of the result right behind them, and reads what was
/// received without another wait. The host is not to wait for the products before it reads.
fn ordered(
    options: &Options,
    teller: &Teller,
    group: &ProcessGroup,
    (device, kind): (Device, Kind),
) -> anyhow::Result<String> {
    let (side, products) = if options.small { (64, 5) } else { (8192, 60) };
    let ones = Tensor::f_eye(side, (kind, device))?;
    // The first row of this matrix to the power k has its one in column k.
    let shift = ones.f_roll([1], [1])?;
    let mut power = ones.f_matmul(&shift)?;
    wait(device);
    let began = Instant::now();
    for _ in 1..products {
        power = power.f_matmul(&shift)?;
    }
    let sent = power.f_select(0, 0)?.f_contiguous()?;
    let received = sent.f_zeros_like()?;
    let queued = began.elapsed().as_secs_f64();
    let pending = group.begin_exchange((&received, &[side]), (&sent, &[side]))?;
    pending.wait()?;
    let called = began.elapsed().as_secs_f64();
    let column = received.f_argmax(0, false)?.f_int64_value(&[])?;
    let read = began.elapsed().as_secs_f64();
    ensure!(
        column == products % side,
        "the one is in column {column}, expected {products}: what was sent was not computed yet, or what was read had \
         not come yet"
    );
    for (figure, seconds, note) in [
        ("host time to queue products", queued, ""),
        (
            "host time of an exchange behind them",
            called - queued,
            "begun and waited for",
        ),
        ("until what came is read", read, "the products themselves"),
    ] {
        teller.found(figure, seconds * 1e3, "ms", note);
    }
    Ok(format!("{products} products of side {side} before it"))
}

/// Compares the sums of squares from which the norm of a gradient is computed with sums by libtorch. The last chunk is
/// not full.
fn squares(device: Device) -> anyhow::Result<String> {
    const CHUNK: i64 = 1000;
    let count = 70 * CHUNK + 123;
    let numbers = Tensor::f_arange(count, (Kind::Float, device))?.f_sin()?;
    let sums = Vec::<f64>::try_from(chunk_squares(&numbers, CHUNK)?.f_to_device(Device::Cpu)?)?;
    ensure!(sums.len() == 71, "found {} sums, expected 71", sums.len());
    let mut worst = 0.0_f64;
    for (at, sum) in (0..count).step_by(CHUNK as usize).zip(&sums) {
        let part = numbers.f_narrow(0, at, CHUNK.min(count - at))?;
        let expected = part
            .f_to_kind(Kind::Double)?
            .f_square()?
            .f_sum(Kind::Double)?
            .f_double_value(&[])?;
        worst = worst.max((sum - expected).abs() / expected);
    }
    ensure!(worst < 1e-12, "they differ by {worst:.1e} of the sum");
    Ok(format!("they differ by at most {worst:.1e} of the sum"))
}

/// Opens another group, as sharded weights do, and closes it.
fn second(teller: &Teller, world: &World, device: Device) -> anyhow::Result<String> {
    let began = Instant::now();
    let group = world.another_group(device)?;
    group.barrier()?;
    let opened = began.elapsed().as_secs_f64();
    drop(group);
    let closed = began.elapsed().as_secs_f64() - opened;
    teller.found(
        "opening a second group",
        opened * 1e3,
        "ms",
        "with its first call",
    );
    teller.found("closing it", closed * 1e3, "ms", "");
    // The first group is not disturbed by it.
    let numbers = Tensor::f_from_slice(&NUMBERS)?.f_to_device(device)?;
    world.group(device).all_reduce(&numbers, Reduce::Sum)?;
    same("a call of the first group", &numbers)?;
    Ok("the first one goes on".into())
}
