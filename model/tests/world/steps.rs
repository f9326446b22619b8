//! Law L11: training takes the same steps for any number of ranks, bit for bit.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use demask_api::{
    Adam, EstimatorConfig, LINEAR_LAYERS, LoadOptions, LoraConfig, MomentKind, ObjectiveConfig, Sequence,
    Shard, Spacing, StepSettings, UniGrpo,
};
use demask_model::engine::checkpoint::LoadedModel;
use demask_model::training::optimizer::AdamW;
use demask_model::training::ranks::{RankOptions, Reduction, Share};
use demask_model::weights::shards::RankOf;
use demask_model::world::World;
use demask_model::{Backbone, Parameters, policy, training};
use tch::{Device, Kind, Tensor};

use crate::calls::membership;
use crate::common::{self, sequence};
use crate::processes::{Meeting, PLACE, start};

const LONG: Duration = Duration::from_secs(600);
/// The folder of the weights below an adapter.
const BASE: &str = "base";

/// Runs the part of a rank in a scene. Returns false if this file has no such scene.
pub fn play(scene: &str) -> bool {
    let options = RankOptions {
        reduction: if scene.contains("fast") {
            Reduction::Fast
        } else {
            Reduction::Exact
        },
        shard: if scene.contains("sharded") {
            Shard::Weights
        } else {
            Shard::State
        },
    };
    match scene {
        "sharded scores" => scores(&mut Learner::join(scene, options)),
        "large weights" => large_weights(),
        "faults" | "sharded faults" => faults(&mut Learner::join(scene, options)),
        _ if scene.contains("steps") => {
            let mut learner = Learner::join(scene, options);
            let steps = learner.steps();
            let place = std::env::var(PLACE).unwrap();
            std::fs::write(format!("{place}/rank-{}", learner.world.rank()), steps).unwrap();
        }
        _ => return false,
    }
    true
}

/// The shape of the model, whose parameters fill five whole chunks and part of a sixth.
fn shape(scene: &str) -> demask_api::BackboneConfig {
    demask_api::BackboneConfig {
        d_model: 128,
        mlp_hidden_size: Some(256),
        weight_tying: scene.contains("tied"),
        ..common::config()
    }
}

/// An adapter that fills two whole chunks and part of a third.
fn lora() -> LoraConfig {
    LoraConfig {
        rank: 32,
        alpha: 32.0,
        dropout: 0.25,
        target_modules: LINEAR_LAYERS.map(str::to_owned).to_vec(),
        seed: 5,
        ..LoraConfig::default()
    }
}

/// A rank's model.
struct Learner {
    world: Rc<World>,
    backbone: Backbone,
    optimizer: AdamW,
    adam: Adam,
}

impl Learner {
    fn join(scene: &str, options: RankOptions) -> Self {
        tch::set_num_threads(if scene.contains("two threads") { 2 } else { 1 });
        let world = Rc::new(World::join_within(membership(), Device::Cpu, LONG, LONG).unwrap());
        let kind = if scene.contains("in bf16") {
            Kind::BFloat16
        } else {
            Kind::Float
        };
        let part = (options.shard == Shard::Weights).then_some(RankOf {
            rank: world.rank(),
            size: world.size(),
        });
        let place = (Device::Cpu, kind);
        let mut model = if scene.contains("adapter") {
            let base = Path::new(&std::env::var(PLACE).unwrap()).join(BASE);
            let options = LoadOptions {
                lora: Some(lora()),
                ..LoadOptions::default()
            };
            LoadedModel::load_on(&base, false, &options, place, part).unwrap()
        } else {
            let backbone = Backbone::fresh_on(&shape(scene), 3, place, part).unwrap();
            LoadedModel {
                optimizer: AdamW::new(backbone.parameters()).unwrap(),
                backbone,
                tokenizer: None,
            }
        };
        model.share(&world, options.reduction).unwrap();
        let moments = if scene.contains("moments") {
            MomentKind::Bf16
        } else {
            MomentKind::F32
        };
        Self {
            world,
            backbone: model.backbone,
            optimizer: model.optimizer,
            adam: Adam {
                moments,
                muon: scene.contains("muon"),
                ..Adam::default()
            },
        }
    }

    fn settings(&self, seed: u64) -> StepSettings {
        StepSettings {
            // A norm small enough that clipping applies at every step.
            clip_norm: 0.05,
            ema: 0.9,
            adam: self.adam.clone(),
            ..common::settings(seed)
        }
    }

    fn train(&mut self, rows: &[Vec<Sequence>], seed: u64) -> demask_model::Result<demask_api::TrainReport> {
        let settings = self.settings(seed);
        training::train(&mut self.backbone, &mut self.optimizer, rows, &settings)
    }

    /// Returns a digest of all weights. If the weights are sharded, only rank 0 returns a digest; the other
    /// ranks return an empty string.
    fn weights(&self) -> String {
        let parameters = self.backbone.trained();
        if parameters.sharded().is_none() {
            return digest(parameters.master());
        }
        let share = self.optimizer.share().unwrap();
        let whole = whole_weights(share, parameters);
        whole.map_or_else(String::new, |whole| digest(&whole))
    }

    /// A policy step on so many groups.
    fn align(
        &mut self,
        groups: usize,
        inner_steps: usize,
        learning_rate: f64,
    ) -> demask_model::Result<demask_api::PolicyReport> {
        let groups: Vec<_> = (0..groups)
            .map(|_| common::group(&[1.0, -0.5, 0.0, 0.5, -1.0]))
            .collect();
        let objective = ObjectiveConfig {
            inner_steps,
            ..ObjectiveConfig::default()
        };
        let estimator = EstimatorConfig::from(UniGrpo {
            spacing: Spacing::Cyclic,
        });
        let settings = StepSettings {
            learning_rate,
            ..self.settings(7)
        };
        policy::train(
            &mut self.backbone,
            &mut self.optimizer,
            None,
            &groups,
            &estimator,
            &objective,
            &settings,
        )
    }

    /// What this rank has of a row of the embedding, where it lies in the master.
    fn own_of_embedding(&self, row: i64) -> Vec<Tensor> {
        let parameters = self.backbone.parameters();
        let before = parameters
            .slots()
            .iter()
            .take_while(|slot| slot.name != "model.transformer.wte.weight");
        let start: i64 = before.map(|slot| slot.shape.iter().product::<i64>()).sum();
        let start = start + row * 128;
        let own = match parameters.sharded() {
            None => vec![(start, 128)],
            Some(sharded) => sharded
                .map()
                .within((start, start + 128))
                .into_iter()
                .filter(|segment| segment.rank == self.world.rank())
                .map(|segment| (segment.at, segment.length))
                .collect(),
        };
        own.into_iter()
            .map(|(at, length)| parameters.master().narrow(0, at, length))
            .collect()
    }

    /// Returns the losses and gradient norms of five training steps and two policy steps, then digests of
    /// weights and optimizer state. In bf16, which is slow on a CPU, the steps are two and one.
    fn steps(&mut self) -> String {
        let (steps, policy_steps) = match self.backbone.kind() {
            Kind::Float => (0..5, 5..7),
            _ => (0..2, 5..6),
        };
        let mut said = String::new();
        for seed in steps {
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
        // The reference of an adapter has the same frozen weights below it, also where they are sharded.
        let adapted = self.backbone.lora().is_some();
        let reference = adapted.then(|| self.backbone.frozen_copy().unwrap());
        for seed in policy_steps {
            let settings = self.settings(seed);
            let report = policy::train(
                &mut self.backbone,
                &mut self.optimizer,
                reference.as_ref(),
                &groups,
                &estimator,
                &objective,
                &settings,
            )
            .unwrap();
            assert!(report.finite, "{report:?}");
            said += &format!("{:?} {:?} {}\n", report.losses, report.grad_norm, self.weights());
        }
        let own = self.optimizer.numbers();
        assert_eq!(own, self.backbone.trained().count());
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

/// Saves weights that an adapter is put on.
fn save_base(dir: &Path, config: &demask_api::BackboneConfig) {
    let backbone = Backbone::fresh(config, 3, Device::Cpu, Kind::Float).unwrap();
    let model = LoadedModel {
        optimizer: AdamW::new(backbone.parameters()).unwrap(),
        backbone,
        tokenizer: None,
    };
    model.save(dir, &BTreeMap::new(), false).unwrap();
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
    if scene.contains("adapter") {
        save_base(&place.path().join(BASE), &shape(scene));
    }
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
    assert_eq!(said("steps, two threads", 1)[0], alone, "threads");
    assert_eq!(said("steps, two threads", 2)[0], alone, "threads and ranks");
}

/// Sharded weights give the same steps, also in a world of one rank. The groups of parameters are only one or
/// two chunks long, so some ranks own nothing of a group.
#[test]
fn l11_weights_sharded_over_any_number_of_ranks_take_the_same_steps_bit_for_bit() {
    let alone = said("steps", 1).remove(0);
    for size in [1, 2, 3, 4] {
        assert_eq!(said("sharded steps", size)[0], alone, "{size} ranks");
    }
    assert_eq!(said("sharded steps, two threads", 2)[0], alone, "threads");
    // Gathered and sent in bf16, summed in f32.
    let alone = said("steps, in bf16", 1).remove(0);
    assert_eq!(said("sharded steps, in bf16", 3)[0], alone, "bf16");
}

/// Asserts that a scene and the same with sharded weights end alike for any number of ranks, and differ from another.
fn are_alike(scene: &str, other: &str) {
    let alone = said(scene, 1).remove(0);
    assert_ne!(alone, said(other, 1)[0], "{scene} and {other}");
    for size in [2, 3, 4] {
        assert_eq!(said(scene, size)[0], alone, "{scene}, {size} ranks");
    }
    let sharded = format!("sharded {scene}");
    for size in [2, 3, 4] {
        assert_eq!(said(&sharded, size)[0], alone, "{sharded}, {size} ranks");
    }
}

/// The dither of moments in bf16 is a function of a number's place in the whole model.
#[test]
fn l11_moments_in_bf16_are_rounded_alike_on_any_number_of_ranks() {
    are_alike("steps, moments", "steps");
}

/// Matrices of which several ranks own parts are updated as wholes. Two batches of them, of which with three and four
/// ranks some compute none.
#[test]
fn l11_muon_takes_the_same_steps_on_any_number_of_ranks() {
    are_alike("steps, muon", "steps");
    let both = "steps, muon, moments";
    let alone = said(both, 1).remove(0);
    assert_eq!(said(&format!("sharded {both}"), 3)[0], alone);
    assert_eq!(said(&format!("{both}, two threads"), 2)[0], alone);
}

/// An adapter is whole on every rank, and its dropout is drawn by unit. The frozen weights below it are gathered block
/// by block where they are sharded.
#[test]
fn l11_an_adapter_with_dropout_takes_the_same_steps_on_any_number_of_ranks() {
    are_alike("steps, adapter", "steps");
    // A matrix library may divide a product of as few rows as an adapter has by threads, and then round otherwise than on
    // one thread: MKL does on some processors. So worlds with equal threads are compared.
    let alone = said("steps, adapter, two threads", 1).remove(0);
    assert_eq!(said("steps, adapter, two threads", 2)[0], alone, "threads");
    let alone = said("steps, adapter, in bf16", 1).remove(0);
    assert_eq!(said("sharded steps, adapter, in bf16", 3)[0], alone, "bf16");
    let alone = said("steps, adapter, tied, muon", 1).remove(0);
    assert_eq!(
        said("sharded steps, adapter, tied, muon", 3)[0],
        alone,
        "tied, muon"
    );
}

/// A head that is the embedding is gathered once for both, and the gradients of both uses are added in one order.
#[test]
fn l11_a_head_that_is_the_embedding_takes_the_same_steps_on_any_number_of_ranks() {
    are_alike("steps, tied", "steps");
    let alone = said("steps, tied, in bf16", 1).remove(0);
    assert_eq!(said("sharded steps, tied, in bf16", 3)[0], alone, "bf16");
}

/// What is elementwise rounds alike wherever a tensor is cut: ranks cut matrices at any place.
#[test]
fn l11_an_elementwise_operation_rounds_alike_in_any_part_of_a_tensor() {
    tch::set_num_threads(1);
    let numbers = |seed: i64| {
        let steps = Tensor::arange(10_007, (Kind::Float, Device::Cpu));
        ((steps * 0.37 + seed) * 12.9898).sin()
    };
    let (from, to) = (numbers(1), numbers(2));
    let made = |from: &Tensor, to: &Tensor| {
        let moved = from.lerp(to, 0.1);
        let second = from.square().lerp(&to.square(), 0.05);
        &moved / (second.sqrt() * 1.3 + 1e-8)
    };
    let whole = made(&from, &to);
    for (start, length) in [(0, 3), (1, 17), (5, 1_001), (33, 9_974), (4_095, 4_097)] {
        let part = made(&from.narrow(0, start, length), &to.narrow(0, start, length));
        assert!(
            part.equal(&whole.narrow(0, start, length)),
            "{length} from {start}"
        );
    }
}

#[test]
fn l11_is_not_kept_where_a_faster_sum_is_asked_for() {
    let (exact, fast) = (said("steps", 4).remove(0), said("fast steps", 4).remove(0));
    assert_ne!(exact, fast);
}

/// Plays "faults": a fault on one rank leaves the weights of all ranks as they were, and the world goes on.
fn faults(learner: &mut Learner) {
    learner.train(&[rows(22)], 1).unwrap();
    let before = (learner.weights(), learner.optimizer.step_count());
    let is_alone = |message: String| {
        assert!(
            message.contains("rank 1") && message.contains("out of memory"),
            "{message}"
        );
    };
    if learner.world.rank() == 1 {
        learner.backbone.room().pretend(1);
    }
    is_alone(learner.train(&[rows(22)], 2).unwrap_err().to_string());
    assert_eq!((learner.weights(), learner.optimizer.step_count()), before);
    // Where it scores the views that all score.
    is_alone(learner.align(2, 2, 1e-3).unwrap_err().to_string());
    assert_eq!((learner.weights(), learner.optimizer.step_count()), before);
    learner.backbone.room().pretend(usize::MAX);
    assert!(learner.train(&[rows(22)], 3).unwrap().finite);

    // A token id that occurs in one row, and so on one rank, has an embedding of NaN.
    let mut poisoned = rows(22);
    let first = poisoned[5].left_pad;
    poisoned[5].ids[first] = 15;
    let row = learner.own_of_embedding(15);
    let kept: Vec<Tensor> = row.iter().map(Tensor::copy).collect();
    let before = (learner.weights(), learner.optimizer.step_count());
    let put = |value: &dyn Fn(usize) -> Tensor| {
        tch::no_grad(|| {
            for (number, part) in row.iter().enumerate() {
                part.shallow_clone().copy_(&value(number));
            }
        });
    };
    put(&|number| row[number].full_like(f64::NAN));
    let report = learner.train(&[poisoned], 3).unwrap();
    assert!(!report.finite, "{report:?}");
    put(&|number| kept[number].shallow_clone());
    assert_eq!((learner.weights(), learner.optimizer.step_count()), before);
    assert!(learner.train(&[rows(22)], 4).unwrap().finite);

    // The first inner step leaves weights that the second finds to be no numbers: both are taken back.
    let before = (learner.weights(), learner.optimizer.step_count());
    let report = learner.align(2, 2, f64::MAX).unwrap();
    assert!(!report.finite && report.losses.len() == 2, "{report:?}");
    assert_eq!((learner.weights(), learner.optimizer.step_count()), before);
    assert!(learner.align(2, 2, 1e-3).unwrap().finite);

    assert!(learner.train(&[rows(22)], 6).unwrap().finite);
}

#[test]
fn a_fault_of_one_rank_leaves_all_as_they_were() {
    let place = tempfile::tempdir().unwrap();
    start("faults", (3, 3), place.path(), Meeting::File).succeed();
    let place = tempfile::tempdir().unwrap();
    start("sharded faults", (3, 3), place.path(), Meeting::File).succeed();
}

/// Twice as many parts of a batch, one for each rank, are scored on weights that come no more often.
fn scores(learner: &mut Learner) {
    let mut came = |groups| {
        let report = learner.align(groups, 1, 1e-3).unwrap();
        assert!(report.finite, "{report:?}");
        report
            .ranks
            .iter()
            .map(|rank| rank.dist.bytes)
            .collect::<Vec<_>>()
    };
    let (one, two) = (came(1), came(2));
    let weights = learner.backbone.parameters().count();
    for (one, two) in one.into_iter().zip(two) {
        assert!(one > weights, "{one} bytes came, of {weights} numbers");
        assert!(one.abs_diff(two) < weights / 8, "{one} and {two} bytes came");
    }
}

#[test]
fn sharded_weights_are_gathered_once_for_all_views_that_are_scored() {
    let place = tempfile::tempdir().unwrap();
    start("sharded scores", (2, 2), place.path(), Meeting::File).succeed();
}

/// Returns all sharded weights in one flat tensor on rank 0. All ranks must call this together.
fn whole_weights(share: &Share, parameters: &Parameters) -> Option<Tensor> {
    let own = BTreeMap::from([("weights".to_owned(), parameters.master().shallow_clone())]);
    let mut whole = share.whole_state(Ok(own), &|_| share.map()).unwrap();
    whole.remove("weights")
}

/// Weights of which each rank has more than what crosses at one time.
fn large_weights() {
    tch::set_num_threads(1);
    let world = Rc::new(World::join_within(membership(), Device::Cpu, LONG, LONG).unwrap());
    let config = demask_api::BackboneConfig {
        d_model: 512,
        mlp_hidden_size: Some(1024),
        n_layers: 1,
        ..common::config()
    };
    let (rank, size) = (world.rank(), world.size());
    let place = (Device::Cpu, Kind::Float);
    let part = Backbone::fresh_on(&config, 3, place, Some(RankOf { rank, size })).unwrap();
    let share = Share::of(&world, &part, Reduction::Exact).unwrap();
    let whole = whole_weights(&share, part.parameters());
    assert_eq!(whole.is_some(), rank == 0);
    if let Some(whole) = whole {
        let alone = Backbone::fresh_on(&config, 3, place, None).unwrap();
        assert!(alone.parameters().count() > 2 * 16 * 65_536);
        assert_eq!(digest(&whole), digest(alone.parameters().master()));
    }
}

#[test]
fn weights_cross_piece_by_piece_to_the_rank_that_saves_them() {
    let place = tempfile::tempdir().unwrap();
    start("large weights", (2, 2), place.path(), Meeting::File).succeed();
}
