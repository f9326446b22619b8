//! Reward networks (CLIP, ImageReward) for the Scorer and for benchmarks: their folders, the requests to the engine,
//! and the use of the scores.
//!
//! Each use first tells the engine which networks are meant. The engine keeps networks that it has loaded; a restarted
//! engine (law L1) loads them again.

use std::path::PathBuf;

use demask_api::{Answer, PictureScore, Request};
use demask_datasets::data_dir;
use demask_rewards::networks::{self, Pair};

use crate::engine::link::EngineLink;
use crate::engine::process::unexpected;
use crate::inference::error::WorkError;
use crate::pipeline::judgement::{JudgeCompletions, JudgedCompletion};
use crate::pipeline::run_error::RunError;
use crate::profile::RewardFolders;

/// Pictures in one request, limited so that a message on the socket stays small.
const TOGETHER: usize = 32;

/// The folders of the reward networks in use.
#[derive(Clone, Debug)]
pub struct Networks {
    clip: Option<PathBuf>,
    image_reward: Option<PathBuf>,
}

impl Networks {
    /// Finds the named networks; `None` if none is named. `called` returns the name by which an error refers to a
    /// folder, given its key in a profile.
    ///
    /// # Errors
    /// [`RunError::Failed`] if a folder does not exist or lacks a file.
    pub fn of(folders: &RewardFolders, called: fn(&str) -> String) -> Result<Option<Self>, RunError> {
        if folders.is_empty() {
            return Ok(None);
        }
        let found = |name: &str, folder: &Option<PathBuf>| -> Result<Option<PathBuf>, RunError> {
            let Some(folder) = folder else { return Ok(None) };
            let folder = data_dir::find(folder);
            if let Some(file) = RewardFolders::FILES
                .into_iter()
                .find(|file| !folder.join(file).is_file())
            {
                let file = folder.join(file);
                let message = format!(
                    "there is no {}; a reward network is a folder with {}",
                    file.display(),
                    RewardFolders::FILES.join(" and ")
                );
                return Err(RunError::about(called(name), message));
            }
            std::path::absolute(&folder)
                .map(Some)
                .map_err(|error| RunError::about(folder.display(), error))
        };
        Ok(Some(Self {
            clip: found("clip", &folders.clip)?,
            image_reward: found("image_reward", &folders.image_reward)?,
        }))
    }

    /// Adds the networks' scores to the judgement of each completion that has a picture.
    ///
    /// # Errors
    /// Any failure of the engine.
    pub(crate) async fn add(
        &self,
        link: &dyn EngineLink,
        score: &JudgeCompletions,
        judged: &mut [JudgedCompletion],
    ) -> Result<(), WorkError> {
        let pairs = score
            .items
            .iter()
            .map(|item| networks::pair(&item.example, &item.completion));
        let (places, pairs): (Vec<usize>, Vec<Pair>) = pairs
            .enumerate()
            .filter_map(|(at, pair)| Some((at, pair?)))
            .unzip();
        if pairs.is_empty() {
            return Ok(());
        }
        let drawn: Vec<bool> = pairs.iter().map(|pair| pair.drawn).collect();
        let said = self.ask(link, pairs).await?;
        for ((at, drawn), said) in places.into_iter().zip(drawn).zip(said) {
            if let Some(judged) = judged.get_mut(at) {
                networks::push(&mut judged.scored, &said, drawn, &score.weights);
            }
        }
        Ok(())
    }

    /// Returns the scores of pairs of pictures and texts, in order.
    ///
    /// # Errors
    /// Any failure of the engine.
    pub(crate) async fn ask(
        &self,
        link: &dyn EngineLink,
        pairs: Vec<Pair>,
    ) -> Result<Vec<PictureScore>, WorkError> {
        let load = Request::LoadReward {
            clip: self.clip.clone(),
            image_reward: self.image_reward.clone(),
        };
        match link.ask(load, None).await? {
            Answer::RewardLoaded { .. } => {}
            other => return Err(unexpected("reward_loaded", &other).into()),
        }
        let mut said = Vec::with_capacity(pairs.len());
        let mut pairs = pairs.into_iter().peekable();
        while pairs.peek().is_some() {
            let (pictures, texts) = pairs
                .by_ref()
                .take(TOGETHER)
                .map(|pair| (pair.picture, pair.text))
                .unzip();
            match link.ask(Request::Score { pictures, texts }, None).await? {
                Answer::Scores { scores, .. } => said.extend(scores),
                other => return Err(unexpected("scores", &other).into()),
            }
        }
        Ok(said)
    }
}

/// Returns the key of a reward network's folder in a profile.
#[must_use]
pub fn in_profile(name: &str) -> String {
    format!("reward_networks.{name}")
}
