//! The groups of a UniGRPO step: they are drawn, recorded, and converted to the engine's training input.
//!
//! With `resample`, a group whose samples all have the same reward is dropped, and another prompt is drawn in its
//! place. Such a group has no advantages, so it would only dilute the gradient of the others (dynamic sampling, DAPO,
//! arXiv 2503.14476). Which prompts are drawn is a function of the step and the weights alone (law L8).

use std::collections::BTreeMap;
use std::sync::Arc;

use demask_api::{PolicyGroup, PolicySample, Sequence};
use demask_datasets::example::Mode;
use demask_rewards::advantages::advantages;
use demask_storage::{Record, RolloutSample, TrainUse};

use crate::control::KnobKey;
use crate::inference::complete::CompletionRequest;
use crate::inference::settings::SamplerSettings;
use crate::pipeline::curation::kept_pictures::shows_picture;
use crate::pipeline::curation::training_example::TrainingExample;
use crate::pipeline::rollout::{Group, Roll};
use crate::pipeline::run_error::RunError;
use crate::pipeline::sampling_engines::{DrawingPolicy, PublishedPolicy};
use crate::profile::Stage;
use crate::run::lineage::{self, modality};
use crate::run::stages::reports::mean;
use crate::run::stages::state::StageRun;
use crate::runtime::actor::offload;
use crate::runtime::seeds::seed_of;
use demask_datasets::pictures::file::png;

/// The groups of a step.
#[derive(Default)]
pub(crate) struct RolloutGroups {
    /// Groups that are trained on.
    pub(crate) policy: Vec<PolicyGroup>,
    /// The same groups with their permits, which they hold until this is dropped (law L2).
    held: Vec<Group>,
    /// Total rewards of all samples, by modality.
    totals: BTreeMap<&'static str, Vec<f64>>,
    /// Values of each part of the reward, by its name.
    parts: BTreeMap<String, Vec<f64>>,
    /// Number of groups drawn.
    groups: usize,
    /// Number of groups whose samples differ in their reward.
    informative: usize,
}

impl RolloutGroups {
    /// Returns the policies of the groups that are trained on, in their order; empty where the training engine drew
    /// them.
    pub(crate) fn drawn_by(&self) -> Vec<PublishedPolicy> {
        self.held
            .iter()
            .filter_map(|group| group.policy.clone())
            .collect()
    }

    /// Returns the mean rewards of all samples, and the share of groups with differing rewards.
    pub(crate) fn measures(&self) -> Vec<(String, f64)> {
        let all: Vec<f64> = self.totals.values().flatten().copied().collect();
        let by_modality = self.totals.iter();
        let mut values: Vec<(String, f64)> = by_modality
            .map(|(name, totals)| (format!("reward/{name}"), mean(totals)))
            .collect();
        values.push(("reward/total".to_owned(), mean(&all)));
        let parts = self.parts.iter();
        values.extend(parts.map(|(name, values)| (format!("reward_part/{name}"), mean(values))));
        values.push((
            "policy/telling_groups".to_owned(),
            self.informative as f64 / self.groups.max(1) as f64,
        ));
        values
    }
}

impl StageRun {
    /// Draws the groups of a step from prompts in order, until there are `stage.batch` groups to train on or no prompts
    /// are left. Groups of the first prompts may be `ready`.
    pub(crate) async fn draw_groups(
        &self,
        stage: &Stage,
        picked: &[TrainingExample],
        policy: Option<&DrawingPolicy>,
        ready: Vec<Group>,
    ) -> Result<RolloutGroups, RunError> {
        let mut drawn = RolloutGroups::default();
        let (samplers, rewards) = (self.samplers(Some(self.temperature())), self.reward_weights());
        lineage::known(
            &self.context,
            &self.pictures,
            &picked[..picked.len().min(ready.len())],
        )
        .await?;
        for group in ready {
            self.sort_in(stage, group, &mut drawn).await?;
        }
        while drawn.groups < picked.len() && drawn.held.len() < stage.batch {
            // With resampling, a group whose advantages are all 0 is not held, so further prompts may be needed.
            let room = stage.batch - drawn.held.len();
            let next = &picked[drawn.groups..picked.len().min(drawn.groups + room)];
            lineage::known(&self.context, &self.pictures, next).await?;
            let (seed, step) = (self.context.profile.seed, self.cursor.step);
            let roll = self.roll(&samplers, &rewards, policy, step);
            let roll = roll(wanted(seed, step, stage, next, drawn.groups));
            for group in self.addresses.rollout.address.ask(roll).await?? {
                self.sort_in(stage, group, &mut drawn).await?;
            }
        }
        let used = TrainUse {
            run: self.context.run.clone(),
            step: self.cursor.step,
            stage: stage.name.clone(),
            subjects: drawn
                .policy
                .iter()
                .flat_map(|group| &group.samples)
                .map(|sample| sample.sequence.id.clone())
                .collect(),
        };
        self.context.recorder.record(Record::TrainUse(used)).await?;
        Ok(drawn)
    }

    /// Returns the present weight of each reward.
    pub(super) fn reward_weights(&self) -> BTreeMap<String, f64> {
        self.weights_of(KnobKey::Reward, &self.context.profile.rewards)
    }

    /// Returns a function that makes the request to the Rollout once the groups' completions are known. `policy`
    /// samples them; with `None`, the training engine's present weights.
    pub(super) fn roll(
        &self,
        samplers: &SamplerSettings,
        rewards: &BTreeMap<String, f64>,
        policy: Option<&DrawingPolicy>,
        step: u64,
    ) -> impl FnOnce(Vec<Vec<CompletionRequest>>) -> Roll + use<> {
        let (samplers, rewards, policy) = (samplers.clone(), rewards.clone(), policy.cloned());
        let weights = match &policy {
            Some(DrawingPolicy::Fixed(policy)) => policy.weights,
            Some(DrawingPolicy::Newest) | None => self.weights,
        };
        let (inference, control) = (self.inference.clone(), Arc::clone(&self.context.control));
        move |groups| Roll {
            step,
            weights,
            policy,
            inference,
            groups: Arc::new(groups),
            samplers,
            rewards,
            control,
        }
    }

    /// Records a group, and keeps it if it is trained on.
    async fn sort_in(&self, stage: &Stage, group: Group, drawn: &mut RolloutGroups) -> Result<(), RunError> {
        let values: Vec<f64> = group.judged.iter().map(|judged| judged.scored.total()).collect();
        let policy = self.record_group(drawn.groups, &group, &values).await?;
        for part in group.judged.iter().flat_map(|judged| &judged.scored.parts) {
            drawn.parts.entry(part.name.clone()).or_default().push(part.value);
        }
        let informative = policy.samples.iter().any(|sample| sample.advantage != 0.0);
        if let Some(wanted) = group.wanted.first() {
            drawn
                .totals
                .entry(modality(wanted.example.task(wanted.mode)).word())
                .or_default()
                .extend(values);
        }
        drawn.groups += 1;
        drawn.informative += usize::from(informative);
        if informative || stage.resample == 0 {
            drawn.policy.push(policy);
            drawn.held.push(group);
        }
        Ok(())
    }

    /// Converts a group to training input and records each of its samples (law L5).
    async fn record_group(
        &self,
        number: usize,
        group: &Group,
        values: &[f64],
    ) -> Result<PolicyGroup, RunError> {
        let relative = advantages(values);
        let pictures = self.drawn_pictures(group).await?;
        let asked = match group
            .wanted
            .first()
            .filter(|wanted| shows_picture(&wanted.example))
        {
            Some(wanted) => self.pictures.keep(&wanted.example).await?,
            None => None,
        };
        let mut samples = Vec::new();
        for (at, (made, picture)) in group.made.iter().zip(pictures).enumerate() {
            let sample = RolloutSample {
                asked: asked.clone(),
                picture,
                ..self.sample_row(number, at, group, values[at], relative[at])
            };
            let id = sample.id.clone();
            self.context.recorder.record(Record::Sample(sample)).await?;
            #[allow(clippy::cast_possible_truncation)]
            let advantage = relative[at] as f32;
            samples.push(PolicySample {
                sequence: Sequence {
                    id,
                    ..made.sequence.clone()
                },
                advantage,
                commit_step: made.commit_step.clone(),
            });
        }
        let id = format!("{}/{}/{number}", self.context.run, self.cursor.step);
        Ok(PolicyGroup { id, samples })
    }

    /// Stores the drawn pictures of a group as PNG and returns their hashes.
    async fn drawn_pictures(&self, group: &Group) -> Result<Vec<Option<String>>, RunError> {
        let pictures: Vec<_> = group
            .made
            .iter()
            .map(|made| made.completion.picture.clone())
            .collect();
        let blobs = self.blobs.clone();
        let kept = offload(move || {
            let keep = |picture| blobs.put(&png(&picture));
            pictures
                .into_iter()
                .map(|picture| picture.map(keep).transpose())
                .collect::<Result<Vec<_>, _>>()
        });
        Ok(kept.await??)
    }

    fn sample_row(
        &self,
        group_number: usize,
        at: usize,
        group: &Group,
        total: f64,
        advantage: f64,
    ) -> RolloutSample {
        let (run, step) = (&self.context.run, self.cursor.step);
        let (wanted, judged) = (&group.wanted[at], &group.judged[at]);
        RolloutSample {
            id: format!("{run}/{step}/{group_number}/{at}"),
            run: run.clone(),
            step,
            group: group_number as u64,
            number: at as u64,
            example: wanted.example.id.clone(),
            modality: modality(wanted.example.task(wanted.mode)),
            weights: group.weights(),
            staleness: group
                .policy
                .as_ref()
                .map_or(0, |policy| step.saturating_sub(policy.step)),
            prompt: wanted.example.prompt.clone(),
            text: judged.words.clone(),
            picture: None,
            parts: judged
                .scored
                .parts
                .iter()
                .map(|part| (part.name.clone(), part.value, part.weight))
                .collect(),
            total,
            advantage,
            trained: advantage != 0.0,
            reference: wanted.example.reference(),
            asked: None,
        }
    }
}

/// Lists the completions that each prompt needs at a step. `first` is the group number of the first prompt.
pub(super) fn wanted(
    seed: u64,
    step: u64,
    stage: &Stage,
    picked: &[TrainingExample],
    first: usize,
) -> Vec<Vec<CompletionRequest>> {
    let one = |group: usize, number: usize, picked: &TrainingExample| CompletionRequest {
        example: picked.example.clone(),
        mode: if picked.example.reasoning.is_some() {
            Mode::Think
        } else {
            Mode::Direct
        },
        seed: seed_of(seed, step, 1000 + (group * stage.group + number) as u64),
        watch: None,
    };
    let groups = picked.iter().enumerate();
    groups
        .map(|(group, picked)| {
            (0..stage.group)
                .map(|number| one(first + group, number, picked))
                .collect()
        })
        .collect()
}
