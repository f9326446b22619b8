//! Reward networks on the way to the Scorer and into benchmarks: where they are, what the engine is asked, what comes of it.
//!
//! The engine is told each time which networks are meant: it keeps those that it has, and one that was made anew (law
//! L1) reads them.

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

/// Pictures that are asked about in one request: what crosses the socket together stays small.
const TOGETHER: usize = 32;

/// The networks that are asked.
#[derive(Clone, Debug)]
pub struct Networks {
    clip: Option<PathBuf>,
    image_reward: Option<PathBuf>,
}

impl Networks {
    /// Those that are named; none when none is. `called` says how a person calls a folder, by its key in a profile.
    ///
    /// # Errors
    /// [`RunError::Failed`] naming a folder that is not there or lacks a file.
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
                    "{} is not there; a reward network is a folder with {}",
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

    /// Adds what the networks say of each completion that has a picture to how it was judged.
    ///
    /// # Errors
    /// The engine's.
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

    /// What they say of pairs, in their order.
    ///
    /// # Errors
    /// The engine's.
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

/// How a profile calls a reward network's folder.
#[must_use]
pub fn in_profile(name: &str) -> String {
    format!("reward_networks.{name}")
}
