//! Checks of the values of a profile in combination. The range of a single value stands at its field, where
//! the schema reads it; checks of the networks are in `shapes.rs`.

use std::collections::BTreeSet;

use demask_api::{BaseDtype, Shard, limits};
use demask_datasets::formats::{COLUMNS, Reader};
use demask_rewards::benchmarks::Suites;
use demask_rewards::rewards::{self, REWARDS};

use super::wrong::{Wrong, range, wrong};
use super::{EngineKnobs, Profile, RolloutMode, Source, Stage, StageKind, Teacher, schema};

impl Profile {
    /// Checks the whole profile, and returns the first wrong value's path and what is allowed.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        if self.stages.is_empty() {
            return wrong("stage", "is missing; a profile needs at least one [[stage]]");
        }
        check_engine(&self.engine)?;
        schema::check_ranges(self)?;
        self.check_shapes()?;
        self.check_training()?;
        self.check_rewards()?;
        self.check_benchmarks()?;
        let suites = self.suites();
        known_suites("gate.suites", "gate", &self.gate.suites, &suites)?;
        self.teacher.as_ref().map_or(Ok(()), check_teacher)?;
        for (number, source) in self.sources.iter().enumerate() {
            check_source(&format!("source.{number}"), source)?;
        }
        distinct("source", self.sources.iter().map(|source| source.name.as_str()))?;
        for (number, stage) in self.stages.iter().enumerate() {
            self.check_stage(&format!("stage.{number}"), stage, &suites)?;
        }
        distinct("stage", self.stages.iter().map(|stage| stage.name.as_str()))?;
        self.check_rounds()?;
        let rounds = self.clone().unrolled();
        distinct("stage", rounds.stages.iter().map(|stage| stage.name.as_str()))
    }

    /// Checks settings of training that exclude each other, in particular what several ranks cannot shard.
    fn check_training(&self) -> Result<(), Wrong> {
        self.check_start()?;
        if self.rollouts.staleness > 0 && self.rollouts.samplers == 0 {
            return wrong(
                "rollouts.staleness",
                "is above 0, but there is no sampling engine that could draw ahead; add `samplers = 1`",
            );
        }
        if self.rollouts.mode == RolloutMode::Freshest && self.rollouts.staleness == 0 {
            return wrong(
                "rollouts.mode",
                "is freshest, but with `staleness = 0` only a step's own weights may draw its groups; use exact, or `staleness = 1` or more",
            );
        }
        check_ranks(&self.engine)?;
        if self.rollouts.join && self.rollouts.samplers == 0 {
            return wrong(
                "rollouts.join",
                "is true, but there is no sampling engine to wait for; add `samplers = 1`",
            );
        }
        if self.engine.shard == Shard::Weights
            && self
                .lora
                .as_ref()
                .is_some_and(|lora| lora.frozen_base().is_quantized())
        {
            return wrong(
                "engine.shard",
                "is weights, but a quantised base cannot be sharded; use \"state\", which shards the \
                 adapter's optimizer state, or leave `base` of [lora] out, because an unquantised base can be sharded",
            );
        }
        if self.task_weights.iter().all(|&weight| weight == 0.0) {
            return wrong("task_weights", "are all 0; at least one task must count");
        }
        Ok(())
    }

    /// Checks the quantisation of a fresh adapter's base, and that at most one of a fresh adapter, an
    /// existing adapter and growth is applied to the start checkpoint.
    fn check_start(&self) -> Result<(), Wrong> {
        if let Some(lora) = &self.lora
            && lora.double_quantization
            && lora.base != BaseDtype::Nf4
        {
            return wrong(
                "lora.double_quantization",
                "quantises the constants of nf4: add `base = \"nf4\"`, or leave it out",
            );
        }
        match (&self.lora, &self.adapter, &self.grow) {
            (Some(_), Some(_), _) => wrong(
                "adapter",
                "is given together with lora: a run trains either an existing adapter or a fresh one; leave one out",
            ),
            (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => wrong(
                "grow",
                "is given together with an adapter: run `demask grow` first and use the grown model as the adapter's base",
            ),
            _ => Ok(()),
        }
    }

    /// Checks that every weighted reward exists and that its weight is in range.
    fn check_rewards(&self) -> Result<(), Wrong> {
        for (number, reward) in self.external_rewards.iter().enumerate() {
            reward.check(&format!("reward.{number}"))?;
        }
        let own = || self.external_rewards.iter().map(|reward| reward.name.as_str());
        distinct("reward", own())?;
        let is_known = |name: &str| rewards::find(name).is_some() || own().any(|own| own == name);
        for (name, &weight) in &self.rewards {
            let path = format!("rewards.{name}");
            if !is_known(name) {
                let known: Vec<_> = REWARDS.iter().map(|reward| reward.name()).chain(own()).collect();
                let known = known.join(", ");
                return wrong(&path, &format!("is not a reward; there are {known}"));
            }
            range(&path, weight, schema::WEIGHTS.0, schema::WEIGHTS.1)?;
        }
        Ok(())
    }

    fn check_stage(&self, path: &str, stage: &Stage, suites: &Suites) -> Result<(), Wrong> {
        let at = |key: &str| format!("{path}.{key}");
        if stage.kind == StageKind::Align {
            range(&at("group"), stage.group as f64, 2.0, 1024.0)?;
        }
        check_samples(&at("batch"), stage)?;
        let whose = format!("stage {}", stage.name);
        known_suites(&at("suites"), &whose, &stage.suites, suites)?;
        if stage.kind == StageKind::Evaluate {
            let missing = "is missing; `demask eval --list` shows the benchmarks";
            return if stage.suites.is_empty() {
                wrong(&at("suites"), missing)
            } else {
                Ok(())
            };
        }
        self.check_diet(&at("sources"), stage)
    }

    /// Checks that a stage that learns has something to learn from.
    fn check_diet(&self, path: &str, stage: &Stage) -> Result<(), Wrong> {
        let known = |name: &String| self.sources.iter().any(|source| &source.name == name);
        let all: Vec<&str> = self.sources.iter().map(|source| source.name.as_str()).collect();
        let (name, all) = (&stage.name, all.join(", "));
        if let Some(unknown) = stage.sources.iter().find(|name| !known(name)) {
            return wrong(path, &format!("of stage {name} names {unknown}; there are {all}"));
        }
        let mut its = self.sources.iter().filter(|source| stage.takes(&source.name));
        if its.any(|source| source.weight > 0.0) {
            return Ok(());
        }
        wrong(
            path,
            &format!("of stage {name}: no source has a weight above 0; add a [[source]]"),
        )
    }
}

/// Checks the samples of a step, which is the product of numbers that are each in their range (law L9).
fn check_samples(path: &str, stage: &Stage) -> Result<(), Wrong> {
    let (prompts, keys) = match stage.kind {
        StageKind::Align => (
            stage.batch.saturating_mul(stage.resample.saturating_add(1)),
            "batch * (1 + resample) * group",
        ),
        StageKind::Reason => (stage.batch, "batch * group"),
        _ => return Ok(()),
    };
    let samples = prompts.saturating_mul(stage.group);
    match samples > limits::MOST_STEP_SAMPLES {
        true => wrong(
            path,
            &format!(
                "is {}, which makes {samples} samples a step ({keys}); allowed are at most {}",
                stage.batch,
                limits::MOST_STEP_SAMPLES
            ),
        ),
        false => Ok(()),
    }
}

fn check_engine(engine: &EngineKnobs) -> Result<(), Wrong> {
    let device = engine.device.as_str();
    let numbered = device
        .strip_prefix("cuda:")
        .is_some_and(|number| number.parse::<u16>().is_ok());
    if !numbered && !matches!(device, "auto" | "cpu" | "cuda") {
        return wrong(
            "engine.device",
            &format!("is '{device}'; allowed is auto, cpu, cuda or cuda:N"),
        );
    }
    if !matches!(engine.dtype.as_str(), "auto" | "f32" | "bf16") {
        return wrong(
            "engine.dtype",
            &format!("is '{}'; allowed is auto, f32 or bf16", engine.dtype),
        );
    }
    Ok(())
}

/// Checks the settings of several ranks, which mean nothing without `ranks`.
fn check_ranks(engine: &EngineKnobs) -> Result<(), Wrong> {
    if engine.join && engine.ranks.is_none() {
        return wrong(
            "engine.join",
            "is true, but the number of ranks to wait for is not set; add `ranks = 1` or more",
        );
    }
    if engine.shard == Shard::Weights && engine.ranks.is_none() {
        return wrong(
            "engine.shard",
            "is weights, but there is only one process; add `ranks = 2`",
        );
    }
    let Some(least) = engine.min_ranks else {
        return Ok(());
    };
    match engine.ranks {
        None => wrong(
            "engine.min_ranks",
            "is set, but there is only one process; add `ranks = 2`",
        ),
        Some(ranks) if least > ranks => wrong(
            "engine.min_ranks",
            &format!("is {least}, but the run has only {ranks} ranks; expected 1 to {ranks}"),
        ),
        Some(_) => Ok(()),
    }
}

/// Checks that a source has the settings that its kind needs, and none that its kind would ignore.
fn check_source(path: &str, source: &Source) -> Result<(), Wrong> {
    if source.kind.reads() && source.path.is_none() {
        let message = format!("is missing in source {}, which is read from a file", source.name);
        return wrong(&format!("{path}.path"), &message);
    }
    if let Some(unknown) = source
        .columns
        .keys()
        .find(|name| !COLUMNS.contains(&name.as_str()))
    {
        let known = COLUMNS.join(", ");
        let message = format!(
            "in source {} is not a known column; there are {known}",
            source.name
        );
        return wrong(&format!("{path}.columns.{unknown}"), &message);
    }
    let has_columns = |source: &Source| source.kind.reader().is_none_or(Reader::has_columns);
    if !source.keep.is_empty() && !has_columns(source) {
        let message = format!(
            "is given in source {}, but the rows of {} have no columns",
            source.name,
            source.kind.name()
        );
        return wrong(&format!("{path}.keep"), &message);
    }
    let given = [
        ("path", source.path.is_some()),
        ("limit", source.limit.is_some()),
        ("columns", !source.columns.is_empty()),
        ("keep", !source.keep.is_empty()),
        ("test_share", source.test_share > 0.0),
    ];
    match given
        .into_iter()
        .find(|(_, given)| *given && !source.kind.reads())
    {
        Some((key, _)) => {
            let message = format!(
                "is given in source {}, which is generated without a file and without end; leave it out",
                source.name
            );
            wrong(&format!("{path}.{key}"), &message)
        }
        None => Ok(()),
    }
}

/// Checks that names are distinct, because sources are steered and stages are found by their names.
fn distinct<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), Wrong> {
    let mut seen = BTreeSet::new();
    for (number, name) in names.enumerate() {
        if !seen.insert(name) {
            let message =
                format!("of a {what} is {name}, which another {what} has too; names must be distinct");
            return wrong(&format!("{what}.{number}.name"), &message);
        }
    }
    Ok(())
}

fn known_suites(path: &str, whose: &str, names: &[String], suites: &Suites) -> Result<(), Wrong> {
    match names.iter().find(|name| suites.find(name).is_none()) {
        None => Ok(()),
        Some(unknown) => {
            let message = format!(
                "(of {whose}) names {unknown}, which does not exist; `demask eval --list` shows the benchmarks"
            );
            wrong(path, &message)
        }
    }
}

/// Checks the teacher's settings, so that an unusable teacher is refused before anything is started.
fn check_teacher(teacher: &Teacher) -> Result<(), Wrong> {
    let (scheme, host) = teacher.url.split_once("://").unwrap_or_default();
    if !matches!(scheme, "http" | "https") || host.is_empty() {
        return wrong(
            "teacher.url",
            "of the teacher must be an address such as http://127.0.0.1:8000/v1",
        );
    }
    if teacher.model.trim().is_empty() {
        return wrong(
            "teacher.model",
            "of the teacher is empty; expected the name of a model that the address serves",
        );
    }
    Ok(())
}

impl Stage {
    /// Returns whether the stage learns from the source of this name.
    pub(crate) fn takes(&self, source: &str) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|name| name == source)
    }
}
