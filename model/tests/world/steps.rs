//! Law L11: training takes the same steps for any number of ranks, bit for bit.

use std::rc::Rc;
use std::time::Duration;

use demask_api::{EstimatorConfig, ObjectiveConfig, Sequence, Shard, Spacing, StepSettings, UniGrpo};
use demask_model::training::optimizer::AdamW;
use demask_model::training::ranks::{RankOptions, Reduction, Share};
use demask_model::weights::shards::RankOf;
use demask_model::world::World;
use demask_model::{Backbone, policy, training};
use tch::{Device, Kind, Tensor};

use crate::calls::membership;
use crate::common::{self, sequence};
use crate::processes::{Meeting, PLACE, start};

const LONG: Duration = Duration::from_secs(600);

/// Runs the part of a rank in a scene. Returns false if this file has no such scene.
pub fn play(scene: &str) -> bool {
    let state = RankOptions::default();
    let weights = RankOptions {
        shard: Shard::Weights,
        ..state
    };
    let fast = RankOptions {
        reduction: Reduction::Fast,
        ..state
    };
    let (threads, options) = match scene {
        "steps" => (1, state),
        "steps with two threads" => (2, state),
        "fast steps" => (1, fast),
        "sharded steps" => (1, weights),
        "sharded steps with two threads" => (2, weights),
        "steps in bf16" => (1, state),
        "sharded steps in bf16" => (1, weights),
        "faults" | "sharded faults" => {
            let options = if scene == "faults" { state } else { weights };
            faults(&mut Learner::join(1, options, Kind::Float));
            return true;
        }
        _ => return false,
    };
    let kind = if scene.ends_with("bf16") {
        Kind::BFloat16
    } else {
        Kind::Float
    };
    let mut learner = Learner::join(threads, options, kind);
    let steps = learner.steps();
    let place = std::env::var(PLACE).unwrap();
    std::fs::write(format!("{place}/rank-{}", learner.world.rank()), steps).unwrap();
    true
}

/// A rank's model, whose parameters fill five whole chunks and part of a sixth.
struct Learner {
    world: Rc<World>,
    backbone: Backbone,
    optimizer: AdamW,
}

impl Learner {
    fn join(threads: i32, options: RankOptions, kind: Kind) -> Self {
        tch::set_num_threads(threads);
        let world = Rc::new(World::join_within(membership(), Device::Cpu, LONG, LONG).unwrap());
        let config = demask_api::BackboneConfig {
            d_model: 128,
            mlp_hidden_size: Some(256),
            ..common::config()
        };
        let part = (options.shard == Shard::Weights).then_some(RankOf {
            rank: world.rank(),
            size: world.size(),
        });
        let backbone = Backbone::fresh_on(&config, 3, (Device::Cpu, kind), part).unwrap();
        let share = Share::of(&world, &backbone, options.reduction).unwrap();
        let optimizer = if part.is_some() {
            let mut own = AdamW::new(backbone.parameters()).unwrap();
            own.join(share);
            own
        } else {
            AdamW::shared(share, backbone.trained()).unwrap()
        };
        Self {
            world,
            backbone,
            optimizer,
        }
    }

    fn settings(seed: u64) -> StepSettings {
        StepSettings {
            // A norm small enough that clipping applies at every step.
            clip_norm: 0.05,
            ema: 0.9,
            ..common::settings(seed)
        }
    }

    fn train(&mut self, rows: &[Vec<Sequence>], seed: u64) -> demask_model::Result<demask_api::TrainReport> {
        training::train(
            &mut self.backbone,
            &mut self.optimizer,
            rows,
            &Self::settings(seed),
        )
    }

    /// Returns a digest of all weights. If the weights are sharded, only rank 0 returns a digest; the other
    /// ranks return an empty string.
    fn weights(&self) -> String {
        let parameters = self.backbone.parameters();
        if parameters.sharded().is_none() {
            return digest(parameters.master());
        }
        let share = self.optimizer.share().unwrap();
        let whole = share.whole_weights(parameters).unwrap();
        whole.map_or_else(String::new, |whole| digest(&whole))
    }

    /// Returns the losses and gradient norms of five training steps and two policy steps, then digests of
    /// weights and optimizer state.
    fn steps(&mut self) -> String {
        let mut said = String::new();
        for seed in 0..5 {
            let report = self.train(&[rows(22), rows(13)], seed).unwrap();
            assert!(report.finite && report.grad_norm > 0.05, "{report:?}");
            let tasks: Vec<f64> = report.task_losses.iter().map(|(_, loss)| *loss).collect();
            said += &format!(
                "{:?} {:?} {tasks:?} {}\n",
                report.loss,
                report.grad_norm,
                self.weights()
            );
        }
        let groups = [
            common::group(&[1.0, -0.5, 0.0, 0.5, -1.0]),
            common::group(&[0.3, 0.3, -0.6, 0.1, -0.1]),
            common::group(&[-0.3, 0.2, 0.4, -0.2, -0.1]),
        ];
        let estimator = EstimatorConfig::from(UniGrpo {
            spacing: Spacing::Cyclic,
        });
        let objective = ObjectiveConfig {
            inner_steps: 2,
            ..ObjectiveConfig::default()
        };
        for seed in 5..7 {
            let report = policy::train(
                &mut self.backbone,
                &mut self.optimizer,
                None,
                &groups,
                &estimator,
                &objective,
                &Self::settings(seed),
            )
            .unwrap();
            assert!(report.finite, "{report:?}");
            said += &format!("{:?} {:?} {}\n", report.losses, report.grad_norm, self.weights());
        }
        let own = self.optimizer.numbers();
        assert_eq!(own, self.backbone.parameters().count());
        // Only rank 0 has the whole optimizer state; the other ranks sent it their shards.
        let state = self.optimizer.state("state").unwrap();
        if self.world.rank() == 0 {
            let state: Vec<String> = state
                .iter()
                .map(|(name, flat)| format!("{name} {}", digest(flat)))
                .collect();
            assert_eq!(state.len(), 4);
            said += &state.join("\n");
        }
        said
    }
}

fn digest(tensor: &Tensor) -> String {
    let numbers: Vec<u8> = common::numbers(tensor)
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    blake3::hash(&numbers).to_hex().to_string()
}

fn rows(count: u32) -> Vec<Sequence> {
    (0..count)
        .map(|row| sequence(row, 10 + row as usize % 14, row as usize % 3))
        .collect()
}

/// Returns what each rank of a world of `size` ranks reports about its steps.
fn said(scene: &str, size: usize) -> Vec<String> {
    let place = tempfile::tempdir().unwrap();
    start(scene, (size, size), place.path(), Meeting::File).succeed();
    let left = |rank| std::fs::read_to_string(place.path().join(format!("rank-{rank}"))).unwrap();
    (0..size).map(left).collect()
}

#[test]
fn l11_any_number_of_ranks_takes_the_same_steps_bit_for_bit() {
    let alone = said("steps", 1).remove(0);
    // The two micro-batches have 5 + 3 units of work. With 3 or 4 ranks some ranks have no unit in a last
    // round, and rank 3 owns no parameter.
    for size in [2, 3, 4] {
        let ranks = said("steps", size);
        assert_eq!(ranks[0], alone, "{size} ranks");
        for (rank, said) in ranks.iter().enumerate().skip(1) {
            assert_eq!(
                alone
                    .strip_prefix(said.as_str())
                    .map(|state| state.lines().count()),
                Some(4),
                "rank {rank} of {size}"
            );
        }
    }
    assert_eq!(said("steps with two threads", 1)[0], alone, "threads");
    assert_eq!(said("steps with two threads", 2)[0], alone, "threads and ranks");
}

/// Sharded weights give the same steps, also in a world of one rank. The groups of parameters are only one or
/// two chunks long, so some ranks own nothing of a group.
#[test]
fn l11_weights_sharded_over_any_number_of_ranks_take_the_same_steps_bit_for_bit() {
    let alone = said("steps", 1).remove(0);
    for size in [1, 2, 3, 4] {
        assert_eq!(said("sharded steps", size)[0], alone, "{size} ranks");
    }
    assert_eq!(said("sharded steps with two threads", 2)[0], alone, "threads");
    // Gathered and sent in bf16, summed in f32.
    let alone = said("steps in bf16", 1).remove(0);
    assert_eq!(said("sharded steps in bf16", 3)[0], alone, "bf16");
}

#[test]
fn l11_is_not_kept_where_a_faster_sum_is_asked_for() {
    let (exact, fast) = (said("steps", 4).remove(0), said("fast steps", 4).remove(0));
    assert_ne!(exact, fast);
}

/// Plays "faults": a fault on one rank leaves the weights of all ranks as they were, and the world goes on.
fn faults(learner: &mut Learner) {
    let sharded = learner.backbone.parameters().sharded().is_some();
    learner.train(&[rows(22)], 1).unwrap();
    let before = learner.weights();
    if learner.world.rank() == 1 {
        learner.backbone.room().pretend(1);
    }
    let message = learner.train(&[rows(22)], 2).unwrap_err().to_string();
    assert!(
        message.contains("rank 1") && message.contains("out of memory"),
        "{message}"
    );
    assert_eq!(learner.weights(), before);
    learner.backbone.room().pretend(usize::MAX);

    if sharded {
        assert!(learner.train(&[rows(22)], 3).unwrap().finite);
        return;
    }

    // A token id that occurs in one row, and so on one rank, has an embedding of NaN.
    let mut poisoned = rows(22);
    let first = poisoned[5].left_pad;
    poisoned[5].ids[first] = 15;
    let embedding = learner
        .backbone
        .parameters()
        .value("model.transformer.wte.weight")
        .unwrap();
    let row = embedding.get(15);
    let kept = row.copy();
    let _ = tch::no_grad(|| row.shallow_clone().fill_(f64::NAN));
    let before = learner.optimizer.step_count();
    let report = learner.train(&[poisoned], 3).unwrap();
    assert!(!report.finite, "{report:?}");
    assert_eq!(learner.optimizer.step_count(), before);
    tch::no_grad(|| row.shallow_clone().copy_(&kept));
    assert!(learner.train(&[rows(22)], 4).unwrap().finite);

    let muon = StepSettings {
        adam: demask_api::Adam {
            muon: true,
            ..demask_api::Adam::default()
        },
        ..Learner::settings(5)
    };
    let refused = training::train(&mut learner.backbone, &mut learner.optimizer, &[rows(8)], &muon);
    assert!(refused.unwrap_err().to_string().contains("muon over ranks"));
    assert!(learner.train(&[rows(22)], 6).unwrap().finite);
}

#[test]
fn a_fault_of_one_rank_leaves_all_as_they_were() {
    let place = tempfile::tempdir().unwrap();
    start("faults", (3, 3), place.path(), Meeting::File).succeed();
    let place = tempfile::tempdir().unwrap();
    start("sharded faults", (3, 3), place.path(), Meeting::File).succeed();
}
