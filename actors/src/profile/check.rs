//! What values a profile may have.

use std::collections::BTreeSet;

use demask_rewards::suites::Suite;

use super::{Profile, SourceKind, StageKind, Teacher};

impl Profile {
    /// The first value out of range: its key and what is allowed.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        if self.stages.is_empty() {
            return Err((
                "stage".into(),
                "is missing; a profile has at least one [[stage]]".into(),
            ));
        }
        range("clip_norm", self.clip_norm, 0.0, 1e6)?;
        range("ema", self.ema, 0.0, 0.999_999_9)?;
        range("text_vocabulary", self.text_vocabulary as f64, 300.0, 1e6)?;
        range("every_steps", self.checkpoint.every_steps as f64, 1.0, 1e9)?;
        range("keep", self.checkpoint.keep as f64, 1.0, 1e4)?;
        range("bad_row_share", self.limits.bad_row_share, 0.0, 1.0)?;
        range("near_duplicate", self.limits.near_duplicate, 0.1, 2.0)?;
        range("share", self.block_noise.share, 0.0, 1.0)?;
        range("length", self.block_noise.length as f64, 1.0, 65_536.0)?;
        if let Some(lora) = &self.lora {
            range("rank", lora.rank as f64, 1.0, 65_536.0)?;
            range("dropout", lora.dropout, 0.0, 0.999)?;
        }
        range("beta1", self.optimizer.beta1, 0.0, 0.999_999)?;
        range("beta2", self.optimizer.beta2, 0.0, 0.999_999_9)?;
        range("n_layers", self.model.n_layers as f64, 1.0, 1000.0)?;
        range("pixels", self.pixels as f64, 8.0, 4096.0)?;
        for source in &self.sources {
            range("weight", source.weight, 0.0, 1e6)?;
            let reads = matches!(
                source.kind,
                SourceKind::Jsonl | SourceKind::ImageFolder | SourceKind::Idx
            );
            if reads && source.path.is_none() {
                return Err((
                    "path".into(),
                    format!("is missing in source {}, which is read from a file", source.name),
                ));
            }
        }
        distinct("source", self.sources.iter().map(|source| source.name.as_str()))?;
        distinct("stage", self.stages.iter().map(|stage| stage.name.as_str()))?;
        range("margin", self.gate.margin, -1.0, 1.0)?;
        range("limit", self.gate.limit as f64, 1.0, 1e6)?;
        known_suites("suites of gate", &self.gate.suites)?;
        self.teacher.as_ref().map_or(Ok(()), check_teacher)?;
        for stage in &self.stages {
            known_suites(&format!("suites of stage {}", stage.name), &stage.suites)?;
            range("steps", stage.steps as f64, 1.0, 1e9)?;
            range("batch", stage.batch as f64, 1.0, 65_536.0)?;
            range("learning_rate", stage.learning_rate, 0.0, 1.0)?;
            range("final_rate", stage.final_rate, 0.0, 1.0)?;
            range("resample", stage.resample as f64, 0.0, 100.0)?;
            range("think_share", stage.think_share, 0.0, 1.0)?;
            range("clip", stage.objective.clip, 0.0, 10.0)?;
            range("kl", stage.objective.kl, 0.0, 100.0)?;
            range("inner_steps", stage.objective.inner_steps as f64, 1.0, 1000.0)?;
            if stage.kind == StageKind::Align {
                range("group", stage.group as f64, 2.0, 1024.0)?;
            }
            if let Some(unknown) = stage
                .sources
                .iter()
                .find(|name| !self.sources.iter().any(|s| &s.name == *name))
            {
                let known: Vec<&str> = self.sources.iter().map(|source| source.name.as_str()).collect();
                return Err((
                    "sources".into(),
                    format!(
                        "of stage {} names {unknown}; there are {}",
                        stage.name,
                        known.join(", ")
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// A key and what is wrong with it.
pub(super) type Wrong = (String, String);

fn range(key: &str, value: f64, low: f64, high: f64) -> Result<(), Wrong> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err((key.to_owned(), format!("is {value}; allowed is {low} to {high}")))
}

/// Sources are steered, and stages found, by their names.
fn distinct<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), Wrong> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err((
                "name".into(),
                format!("of a {what} names {name} again; every {what} has a name of its own"),
            ));
        }
    }
    Ok(())
}

fn known_suites(whose: &str, names: &[String]) -> Result<(), Wrong> {
    match names.iter().find(|name| Suite::find(name).is_none()) {
        None => Ok(()),
        Some(unknown) => Err((
            "suites".into(),
            format!("({whose}) names {unknown}; `demask eval --list` shows what there is"),
        )),
    }
}

/// A teacher that cannot be asked is refused before anything is started.
fn check_teacher(teacher: &Teacher) -> Result<(), Wrong> {
    let wrong = |key: &str, message: &str| Err((key.to_owned(), message.to_owned()));
    let (scheme, host) = teacher.url.split_once("://").unwrap_or_default();
    if !matches!(scheme, "http" | "https") || host.is_empty() {
        return wrong(
            "url",
            "of the teacher must be an address such as http://127.0.0.1:8000/v1",
        );
    }
    if teacher.model.trim().is_empty() {
        return wrong(
            "model",
            "of the teacher is empty; expected the name that its address knows",
        );
    }
    range("concurrency", teacher.concurrency as f64, 1.0, 1024.0)?;
    range("token_cap", teacher.token_cap as f64, 1.0, 1e15)?;
    range("share", teacher.share, 0.0, 1.0)?;
    range("max_tokens", teacher.max_tokens as f64, 1.0, 1e6)
}
