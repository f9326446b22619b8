//! The judges that the flags of an evaluation name: a judge model's address, a detector's program, or recorded
//! detections.

use std::sync::Arc;

use demask_actors::pipeline::evaluation::Judges;
use demask_actors::pipeline::evaluation::detector::Detector;
use demask_actors::pipeline::evaluation::judge_model::JudgeModel;
use demask_actors::profile::Teacher;
use serde_json::json;

use crate::args::Judging;
use crate::exit::UsageError;

/// Most tokens of a judge's answer.
const ANSWER: u64 = 2000;

impl Judging {
    /// Makes the judges.
    ///
    /// # Errors
    /// An error with the flag if a judge is named wrongly.
    pub fn judges(&self) -> Result<Judges, UsageError> {
        let model = match (&self.judge, &self.judge_model) {
            (Some(url), Some(model)) => {
                let judge = Teacher {
                    url: url.clone(),
                    model: model.clone(),
                    key_variable: self.judge_key.clone(),
                    concurrency: usize::from(self.judge_concurrency),
                    token_cap: self.judge_tokens,
                    share: 1.0,
                    max_tokens: ANSWER,
                };
                let model =
                    JudgeModel::new(judge).map_err(|error| UsageError(format!("--judge: {error}")))?;
                Some(Arc::new(model))
            }
            _ => None,
        };
        let detector = match (&self.detector, &self.detections) {
            (Some(command), _) => {
                Some(Detector::program(command).map_err(|why| UsageError(format!("--detector: {why}")))?)
            }
            (None, Some(file)) => {
                Some(Detector::file(file).map_err(|why| UsageError(format!("--detections: {why}")))?)
            }
            (None, None) => None,
        };
        Ok(Judges {
            model,
            detector: detector.map(Arc::new),
        })
    }

    /// Returns the named judges, as they are stored with an evaluation.
    pub fn named(&self) -> serde_json::Value {
        json!({
            "judge": self.judge, "judge_model": self.judge_model, "detector": self.detector, "detections": self.detections,
        })
    }
}
