//! Collective calls of several ranks: every dtype, and peers that die or hang.

use std::time::{Duration, Instant};

use demask_model::ModelError;
use demask_model::world::{Membership, Reduce, World, exit};
use tch::{Device, Kind, Tensor};

use crate::processes::{Meeting, end_of, start, start_generation};

/// A timeout longer than any test: a call that returns earlier did not wait for the timeout.
pub const LONG: Duration = Duration::from_secs(600);
pub const SHORT: Duration = Duration::from_secs(1);

pub fn membership() -> Membership {
    Membership::from_variables(&|name| std::env::var(name).ok()).unwrap()
}

pub fn join(step: Duration) -> World {
    tch::set_num_threads(1);
    World::join_within(membership(), Device::Cpu, LONG, step).unwrap()
}

/// Runs the part of this rank in a scene; false if it is none of these.
pub fn play(scene: &str) -> bool {
    match scene {
        "calls" => calls(&join(LONG)),
        "killed" => killed(&join(LONG)),
        "hangs" => hangs(&join(SHORT)),
        "watched" => watched(&join(LONG)),
        "on a gpu" => on_a_gpu(),
        "patient" => patient(&join(SHORT)),
        _ => return false,
    }
    true
}

fn of(values: &[i64], kind: Kind) -> Tensor {
    Tensor::from_slice(values).to_kind(kind)
}

fn calls(world: &World) {
    let (group, rank, size) = (world.group(Device::Cpu), world.rank() as i64, world.size() as i64);
    for kind in [
        Kind::Float,
        Kind::Double,
        Kind::BFloat16,
        Kind::Half,
        Kind::Int64,
        Kind::Int,
        Kind::Uint8,
    ] {
        let own = of(&[rank + 1, 2 * rank], kind);
        group.broadcast(&own, world.size() - 1).unwrap();
        assert!(own.equal(&of(&[size, 2 * size - 2], kind)), "{kind:?}");

        let sum = of(&[1, rank], kind);
        group.all_reduce(&sum, Reduce::Sum).unwrap();
        assert!(sum.equal(&of(&[size, size * (size - 1) / 2], kind)), "{kind:?}");
        for (how, expected) in [(Reduce::Least, 3), (Reduce::Most, size + 2)] {
            let value = of(&[rank + 3], kind);
            group.all_reduce(&value, how).unwrap();
            assert!(value.equal(&of(&[expected], kind)), "{kind:?} {how:?}");
        }

        // Rank a sends the number 10 a + b to rank b.
        let numbers = |from: bool| -> Vec<i64> {
            let other = 0..size;
            other
                .map(|other| {
                    if from {
                        10 * rank + other
                    } else {
                        10 * other + rank
                    }
                })
                .collect()
        };
        let got = of(&numbers(true), kind).zeros_like();
        group.all_to_all(&got, &of(&numbers(true), kind)).unwrap();
        assert!(got.equal(&of(&numbers(false), kind)), "{kind:?}");

        // Rank r contributes r numbers, so rank 0 contributes none.
        let pieces: Vec<Tensor> = (0..size)
            .map(|of| Tensor::full([of], if of == rank { of } else { 99 }, (kind, Device::Cpu)))
            .collect();
        group.all_gather(&pieces).unwrap();
        for (number, piece) in pieces.iter().enumerate() {
            let number = number as i64;
            assert!(
                piece.equal(&Tensor::full([number], number, (kind, Device::Cpu))),
                "{kind:?}"
            );
        }
    }
    let flags = Tensor::from_slice(&[rank == 0]);
    group.broadcast(&flags, 0).unwrap();
    assert!(bool::try_from(flags.get(0)).unwrap());
    // A collective bumps the version counter of its tensor, so that caches derived from the tensor are
    // invalidated.
    let watched = Tensor::zeros([4], (Kind::Float, Device::Cpu));
    let before = watched.internal_version();
    group.broadcast(&watched, 0).unwrap();
    assert!(watched.internal_version() > before);
    assert!(matches!(group.all_gather(&[]), Err(ModelError::Refused(_))));
    group.barrier().unwrap();
}

#[test]
fn every_call_gives_its_values_in_every_dtype() {
    for size in [1, 2, 4] {
        let place = tempfile::tempdir().unwrap();
        start("calls", (size, size), place.path(), Meeting::File).succeed();
    }
}

#[test]
fn ranks_meet_on_a_socket_of_the_starter_that_listens_on_the_loopback_alone() {
    let place = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    start("calls", (2, 2), place.path(), Meeting::Socket(listener)).succeed();
}

#[test]
fn l1_a_world_that_is_started_again_in_the_same_store_reads_nothing_of_the_dead_one() {
    let place = tempfile::tempdir().unwrap();
    for generation in 0..3 {
        start_generation("calls", (2, 2), place.path(), Meeting::File, generation).succeed();
    }
}

/// Plays "killed": the rank in the middle of the world is killed before its fourth call. Each other rank leaves
/// when a call fails.
fn killed(world: &World) {
    let group = world.group(Device::Cpu);
    let numbers = Tensor::ones([1000], (Kind::Float, Device::Cpu));
    for round in 0.. {
        if round == 3 && world.rank() == world.size() / 2 {
            // SAFETY: the signal goes to this process itself.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
        if let Err(error) = group.all_reduce(&numbers, Reduce::Sum) {
            assert!(matches!(error, ModelError::World(_)), "{error}");
            assert!(!error.to_string().contains("frame #"), "{error}");
            exit::leave(exit::PEER_LOST, &error);
        }
    }
}

#[test]
fn l10_a_rank_that_is_killed_takes_all_others_with_it_long_before_the_limit() {
    for size in [2, 4] {
        let place = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let ended = start("killed", (size, size), place.path(), Meeting::File).end();
        assert!(began.elapsed() < LONG);
        for (rank, status) in ended.into_iter().enumerate() {
            let expected = if rank == size / 2 {
                None
            } else {
                Some(exit::PEER_LOST)
            };
            assert_eq!(status.code(), expected, "rank {rank} of {size}: {status}");
        }
    }
}

/// Plays "hangs": rank 1 stops responding, as in an endless loop. Rank 0 sees its call fail at the timeout.
fn hangs(world: &World) {
    let group = world.group(Device::Cpu);
    group.barrier().unwrap();
    if world.rank() == 1 {
        loop {
            std::thread::park();
        }
    }
    let began = Instant::now();
    let numbers = Tensor::ones([10], (Kind::Float, Device::Cpu));
    let error = group.all_reduce(&numbers, Reduce::Sum).unwrap_err();
    assert!(began.elapsed() < LONG);
    exit::leave(exit::PEER_LOST, &error);
}

#[test]
fn l10_a_rank_that_hangs_is_given_up_at_the_limit() {
    let place = tempfile::tempdir().unwrap();
    let mut scene = start("hangs", (2, 2), place.path(), Meeting::File);
    assert_eq!(end_of(&mut scene.ranks[0]).code(), Some(exit::PEER_LOST));
}

/// Plays "watched": as "hangs", but the group's own limit is longer than the test waits, so that only the watch ends
/// rank 0, as it does where a call hangs in NCCL.
fn watched(world: &World) {
    let mut group = world.another_group(Device::Cpu).unwrap();
    group.watch(SHORT).unwrap();
    let numbers = Tensor::ones([10], (Kind::Float, Device::Cpu));
    // Calls that end are forgotten.
    for _ in 0..100 {
        group.all_reduce(&numbers, Reduce::Most).unwrap();
    }
    group
        .exchange((&numbers, &[5, 5]), (&numbers.copy(), &[5, 5]))
        .unwrap();
    group.barrier().unwrap();
    if world.rank() == 1 {
        loop {
            std::thread::park();
        }
    }
    group.all_reduce(&numbers, Reduce::Most).unwrap();
    panic!("the call ended without rank 1");
}

#[test]
fn l10_a_call_that_nothing_else_ends_is_given_up_by_the_watch_with_the_code_of_a_lost_peer() {
    let place = tempfile::tempdir().unwrap();
    let mut scene = start("watched", (2, 2), place.path(), Meeting::File);
    assert_eq!(end_of(&mut scene.ranks[0]).code(), Some(exit::PEER_LOST));
}

/// Plays "on a gpu": a rank without a GPU that is to train on one fails when it uses it first, before its group over NCCL
/// is made. By then it has told libtorch to leave the end of the process to us.
fn on_a_gpu() {
    let joined = World::join_within(membership(), Device::Cuda(0), LONG, LONG);
    assert!(joined.is_err() || demask_model::device::cuda::open_cuda());
    for (name, value) in [("TORCH_NCCL_BLOCKING_WAIT", "1"), ("TORCH_FR_BUFFER_SIZE", "0")] {
        assert_eq!(std::env::var(name).as_deref(), Ok(value), "{name}");
    }
}

#[test]
fn libtorch_is_told_to_watch_no_call_before_a_group_over_nccl_is_made() {
    let place = tempfile::tempdir().unwrap();
    start("on a gpu", (1, 1), place.path(), Meeting::File).succeed();
}

/// Plays "patient": rank 0 is suspended while rank 1 waits for it with the limit of half an hour.
fn patient(world: &World) {
    let group = world.group(Device::Cpu);
    group.barrier().unwrap();
    if world.rank() == 0 {
        // SAFETY: the signal goes to this thread, which does no more then. One to the process may first stop another thread.
        unsafe { libc::raise(libc::SIGSTOP) };
    }
    let error = world.patiently(|| group.barrier()).unwrap_err();
    exit::leave(exit::FAULT, &error);
}

#[test]
fn l10_a_rank_that_waits_for_files_leaves_when_rank_0_shows_no_sign_of_life() {
    let place = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut scene = start("patient", (2, 2), place.path(), Meeting::Socket(listener));
    assert_eq!(end_of(&mut scene.ranks[1]).code(), Some(exit::PEER_LOST));
}
