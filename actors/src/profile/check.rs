//! What values a profile may have, beyond their types. The networks' own are in `shapes.rs`.

use std::collections::BTreeSet;

use demask_api::EstimatorConfig;
use demask_datasets::formats::COLUMNS;
use demask_rewards::benchmarks::Suite;
use demask_rewards::rewards::{self, REWARDS};

use super::{EngineKnobs, Profile, Source, Stage, StageKind, Teacher};

/// The path of a value (`stage.2.steps`) and what is wrong with it.
pub(super) type Wrong = (String, String);

impl Profile {
    /// The first value out of range: its path and what is allowed.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        if self.stages.is_empty() {
            return wrong("stage", "is missing; a profile has at least one [[stage]]");
        }
        check_engine(&self.engine)?;
        self.check_shapes()?;
        self.check_training()?;
        self.check_sampling()?;
        range(
            "checkpoint.every_steps",
            self.checkpoint.every_steps as f64,
            1.0,
            1e9,
        )?;
        range("checkpoint.keep", self.checkpoint.keep as f64, 1.0, 1e4)?;
        range("limits.bad_row_share", self.limits.bad_row_share, 0.0, 1.0)?;
        range("limits.source_memory", self.limits.source_memory as f64, 0.0, 1e7)?;
        range("limits.near_duplicate", self.limits.near_duplicate, 0.1, 2.0)?;
        range("limits.not_finite", f64::from(self.limits.not_finite), 0.0, 100.0)?;
        range("gate.margin", self.gate.margin, -1.0, 1.0)?;
        range("gate.limit", self.gate.limit as f64, 1.0, 1e6)?;
        known_suites("gate.suites", "gate", &self.gate.suites)?;
        self.teacher.as_ref().map_or(Ok(()), check_teacher)?;
        for (number, source) in self.sources.iter().enumerate() {
            check_source(&format!("source.{number}"), source)?;
        }
        distinct("source", self.sources.iter().map(|source| source.name.as_str()))?;
        for (number, stage) in self.stages.iter().enumerate() {
            self.check_stage(&format!("stage.{number}"), stage)?;
        }
        distinct("stage", self.stages.iter().map(|stage| stage.name.as_str()))
    }

    fn check_training(&self) -> Result<(), Wrong> {
        range("clip_norm", self.clip_norm, 0.0, 1e6)?;
        range("ema", self.ema, 0.0, 0.999_999_9)?;
        range("text_vocabulary", self.text_vocabulary as f64, 300.0, 1e6)?;
        if let Some(lora) = &self.lora {
            range("lora.rank", lora.rank as f64, 1.0, 65_536.0)?;
            range("lora.dropout", lora.dropout, 0.0, 0.999)?;
        }
        if let Some(growth) = &self.grow {
            range("grow.codebook_size", growth.codebook_size as f64, 1.0, 262_144.0)?;
        }
        self.check_start()?;
        range("block_noise.share", self.block_noise.share, 0.0, 1.0)?;
        range(
            "block_noise.length",
            self.block_noise.length as f64,
            1.0,
            65_536.0,
        )?;
        range("optimizer.beta1", self.optimizer.beta1, 0.0, 0.999_999)?;
        range("optimizer.beta2", self.optimizer.beta2, 0.0, 0.999_999_9)?;
        range("optimizer.eps", self.optimizer.eps, 1e-30, 1.0)?;
        range("optimizer.weight_decay", self.optimizer.weight_decay, 0.0, 100.0)?;
        for (number, weight) in self.task_weights.into_iter().enumerate() {
            range(&format!("task_weights.{number}"), weight, 0.0, 1e6)?;
        }
        if self.task_weights.iter().all(|&weight| weight == 0.0) {
            return wrong("task_weights", "are all 0; at least one task must count");
        }
        Ok(())
    }

    /// What the network that a run starts from becomes, one thing at most.
    fn check_start(&self) -> Result<(), Wrong> {
        match (&self.lora, &self.adapter, &self.grow) {
            (Some(_), Some(_), _) => wrong(
                "adapter",
                "is given beside lora: an adapter that is there is trained, or a fresh one; leave one out",
            ),
            (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => wrong(
                "grow",
                "is given beside an adapter: `demask grow` first, the grown model is the adapter's base",
            ),
            _ => Ok(()),
        }
    }

    fn check_sampling(&self) -> Result<(), Wrong> {
        let sampling = &self.sampling;
        if let Some(temperature) = sampling.rollout_temperature {
            range("sampling.rollout_temperature", temperature, 0.0, 10.0)?;
        }
        range("sampling.text.temperature", sampling.text.temperature, 0.0, 100.0)?;
        range("sampling.text.guidance", sampling.text.guidance, 0.0, 100.0)?;
        range("sampling.image.steps", sampling.image.steps as f64, 1.0, 65_536.0)?;
        range(
            "sampling.image.temperature",
            sampling.image.temperature,
            0.0,
            100.0,
        )?;
        range("sampling.image.guidance", sampling.image.guidance, 0.0, 100.0)?;
        for (name, &weight) in &self.rewards {
            let path = format!("rewards.{name}");
            if rewards::find(name).is_none() {
                let known: Vec<_> = REWARDS.iter().map(|reward| reward.name()).collect();
                let known = known.join(", ");
                return wrong(&path, &format!("is no reward; there are {known}"));
            }
            range(&path, weight, 0.0, 100.0)?;
        }
        Ok(())
    }

    fn check_stage(&self, path: &str, stage: &Stage) -> Result<(), Wrong> {
        let at = |key: &str| format!("{path}.{key}");
        range(&at("steps"), stage.steps as f64, 1.0, 1e9)?;
        range(&at("batch"), stage.batch as f64, 1.0, 65_536.0)?;
        range(&at("learning_rate"), stage.learning_rate, 0.0, 1.0)?;
        range(&at("final_rate"), stage.final_rate, 0.0, 1.0)?;
        range(&at("resample"), stage.resample as f64, 0.0, 100.0)?;
        range(&at("think_share"), stage.think_share, 0.0, 1.0)?;
        range(&at("objective.clip"), stage.objective.clip, 0.0, 10.0)?;
        range(&at("objective.kl"), stage.objective.kl, 0.0, 100.0)?;
        range(
            &at("objective.inner_steps"),
            stage.objective.inner_steps as f64,
            1.0,
            1000.0,
        )?;
        range(&at("limit"), stage.limit as f64, 1.0, 1e9)?;
        check_estimator(&at("estimator"), &stage.estimator)?;
        let fewest = if stage.kind == StageKind::Align { 2.0 } else { 1.0 };
        range(&at("group"), stage.group as f64, fewest, 1024.0)?;
        known_suites(&at("suites"), &format!("stage {}", stage.name), &stage.suites)?;
        if stage.kind == StageKind::Evaluate {
            let missing = "is missing; `demask eval --list` shows what there is";
            return if stage.suites.is_empty() {
                wrong(&at("suites"), missing)
            } else {
                Ok(())
            };
        }
        self.check_diet(&at("sources"), stage)
    }

    /// A stage that learns has something to learn from.
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
            &format!("of stage {name}: none has a weight above 0; a [[source]] is needed"),
        )
    }
}

pub(super) fn wrong<T>(path: &str, message: &str) -> Result<T, Wrong> {
    Err((path.to_owned(), message.to_owned()))
}

pub(super) fn range(path: &str, value: f64, low: f64, high: f64) -> Result<(), Wrong> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let plain = |bound: f64| {
        if bound != 0.0 && bound.abs() < 1e-9 {
            format!("{bound:e}")
        } else {
            bound.to_string()
        }
    };
    wrong(
        path,
        &format!("is {value}; allowed is {} to {}", plain(low), plain(high)),
    )
}

fn check_engine(engine: &EngineKnobs) -> Result<(), Wrong> {
    let device = engine.device.as_str();
    let numbered = device
        .strip_prefix("cuda:")
        .is_some_and(|number| number.parse::<u16>().is_ok());
    if !numbered && !matches!(device, "auto" | "cpu") {
        return wrong(
            "engine.device",
            &format!("is '{device}'; allowed is auto, cpu or cuda:N"),
        );
    }
    if !matches!(engine.dtype.as_str(), "auto" | "f32" | "bf16") {
        return wrong(
            "engine.dtype",
            &format!("is '{}'; allowed is auto, f32 or bf16", engine.dtype),
        );
    }
    range("engine.threads", engine.threads.unwrap_or(1) as f64, 1.0, 1024.0)
}

fn check_source(path: &str, source: &Source) -> Result<(), Wrong> {
    range(&format!("{path}.weight"), source.weight, 0.0, 1e6)?;
    range(&format!("{path}.test_share"), source.test_share, 0.0, 0.9)?;
    range(
        &format!("{path}.limit"),
        source.limit.unwrap_or(1) as f64,
        1.0,
        1e12,
    )?;
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
            "in source {} is no column that is known; there are {known}",
            source.name
        );
        return wrong(&format!("{path}.columns.{unknown}"), &message);
    }
    let given = [
        ("path", source.path.is_some()),
        ("limit", source.limit.is_some()),
        ("columns", !source.columns.is_empty()),
        ("test_share", source.test_share > 0.0),
    ];
    match given
        .into_iter()
        .find(|(_, given)| *given && !source.kind.reads())
    {
        Some((key, _)) => {
            let message = format!(
                "is given in source {}, which is generated: it has no file and no end; leave it out",
                source.name
            );
            wrong(&format!("{path}.{key}"), &message)
        }
        None => Ok(()),
    }
}

fn check_estimator(path: &str, estimator: &EstimatorConfig) -> Result<(), Wrong> {
    match estimator {
        EstimatorConfig::DiffuGrpo { prompt_mask } => {
            range(&format!("{path}.prompt_mask"), *prompt_mask, 0.0, 1.0)
        }
        EstimatorConfig::TraceRl { merge, .. } => {
            range(&format!("{path}.merge"), f64::from(*merge), 1.0, 65_535.0)
        }
        EstimatorConfig::UniGrpo { .. } | EstimatorConfig::Coupled => Ok(()),
    }
}

/// Sources are steered, and stages found, by their names.
fn distinct<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), Wrong> {
    let mut seen = BTreeSet::new();
    for (number, name) in names.enumerate() {
        if !seen.insert(name) {
            let message = format!("of a {what} names {name} again; every {what} has a name of its own");
            return wrong(&format!("{what}.{number}.name"), &message);
        }
    }
    Ok(())
}

fn known_suites(path: &str, whose: &str, names: &[String]) -> Result<(), Wrong> {
    match names.iter().find(|name| Suite::find(name).is_none()) {
        None => Ok(()),
        Some(unknown) => {
            let message = format!("(of {whose}) names {unknown}; `demask eval --list` shows what there is");
            wrong(path, &message)
        }
    }
}

/// A teacher that cannot be asked is refused before anything is started.
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
            "of the teacher is empty; expected the name that its address knows",
        );
    }
    range("teacher.concurrency", teacher.concurrency as f64, 1.0, 1024.0)?;
    range("teacher.token_cap", teacher.token_cap as f64, 1.0, 1e15)?;
    range("teacher.share", teacher.share, 0.0, 1.0)?;
    range("teacher.max_tokens", teacher.max_tokens as f64, 1.0, 1e6)
}

impl Stage {
    /// Whether it learns from the source of this name.
    fn takes(&self, source: &str) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|name| name == source)
    }
}
