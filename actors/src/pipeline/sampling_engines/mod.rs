//! Engines that only sample: the division of a step's groups among them, and their log-probabilities.
//!
//! A sample does not depend on its batch, so it does not matter which engine draws it (law L8). An engine that dies is
//! restarted by the supervisor, loads the weights again and draws what is missing; the run does not notice (law L1).
//!
//! `policy_link.rs` is a sampling engine with the weights that a request needs; `pool_link.rs` shows all of them as one
//! engine.

mod policy_link;
mod pool_link;

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use demask_api::{Answer, PolicyGroup, Request, ViewScores};
use futures_util::future::try_join_all;

use self::policy_link::{PolicyLink, SamplingEngine};
use self::pool_link::PoolLink;
use crate::engine::address::EngineAddress;
use crate::engine::link::EngineLink;
use crate::engine::process::unexpected;
use crate::inference::complete::{CompletionRequest, CompletionResult, Inference};
use crate::inference::settings::SamplerSettings;
use crate::pipeline::run_error::RunError;

/// Admissions of an engine in a step whose groups are drawn with the newest weights: an engine takes this part of its
/// share at a time, and looks for newer weights before each.
const ADMISSIONS: usize = 2;

/// Weights of a policy, saved where sampling engines read them. The content of a folder never changes: weights that are
/// published again are in another folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedPolicy {
    /// Folder of the weights.
    pub dir: PathBuf,
    /// Weights version: number of optimizer steps.
    pub weights: u64,
    /// The step of the run that began with these weights.
    pub step: u64,
}

/// The weights that draw groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrawingPolicy {
    /// These weights, even if newer ones were published since.
    Fixed(PublishedPolicy),
    /// The newest weights when a group is admitted.
    Newest,
}

/// The sampling engines of a run. All clones know which weights an engine holds, and whose turn it is. One run has one
/// set of them: a second set would load other weights between the load and the request of the first (law L7).
#[derive(Clone)]
pub struct SamplingEngines {
    engines: Vec<Arc<SamplingEngine>>,
    newest: Arc<Mutex<Option<PublishedPolicy>>>,
}

/// The engines of a run.
#[derive(Clone)]
pub struct Drawers {
    /// Engine that trains.
    pub engine: EngineAddress,
    /// Engines that only sample.
    pub samplers: SamplingEngines,
}

/// Completions in the order of their groups, and for each group the weights that drew it.
type DrawnGroups = (Vec<CompletionResult>, Vec<PublishedPolicy>);

impl Drawers {
    /// Returns a link that samples and scores with all sampling engines at once, once they have these weights; the
    /// training engine itself where no weights are given.
    #[must_use]
    pub fn link<'a>(&'a self, policy: Option<&'a PublishedPolicy>) -> Box<dyn EngineLink + 'a> {
        match policy {
            Some(policy) => Box::new(PoolLink {
                engines: &self.samplers.engines,
                policy,
                training: &self.engine,
            }),
            None => Box::new(self.engine.clone()),
        }
    }
}

impl SamplingEngines {
    /// Makes a set of these engines. Each new one of them shows that it sees the folder `shared` before it loads weights,
    /// if that is given: engines that join may be on other machines.
    #[must_use]
    pub fn new(engines: &[EngineAddress], shared: Option<PathBuf>) -> Self {
        let one = |engine: &EngineAddress| Arc::new(SamplingEngine::new(engine.clone(), shared.clone()));
        Self {
            engines: engines.iter().map(one).collect(),
            newest: Arc::default(),
        }
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.engines.is_empty()
    }

    /// Returns the addresses of the engines.
    pub fn addresses(&self) -> impl Iterator<Item = &EngineAddress> {
        self.engines.iter().map(|engine| engine.address())
    }

    /// Notes the newest weights.
    pub fn publish(&self, newest: &PublishedPolicy) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(newest.clone());
    }

    /// Completes groups. Each group is drawn by one engine, with weights that are returned with it.
    ///
    /// # Errors
    /// As [`Inference::complete`]; also an error if an engine died too often.
    pub async fn draw(
        &self,
        policy: &DrawingPolicy,
        inference: &Inference,
        groups: &[Vec<CompletionRequest>],
        samplers: &SamplerSettings,
    ) -> Result<DrawnGroups, RunError> {
        let parts = match policy {
            DrawingPolicy::Fixed(_) => self.engines.len(),
            DrawingPolicy::Newest => self.engines.len() * ADMISSIONS,
        };
        let each = groups.len().div_ceil(parts.max(1)).max(1);
        let parts = RefCell::new(groups.chunks(each).enumerate());
        let work = self.engines.iter().map(|engine| async {
            let mut drawn = Vec::new();
            loop {
                // An engine that has drawn its part takes the next one that nobody has taken.
                let Some((number, part)) = parts.borrow_mut().next() else {
                    return Ok::<_, RunError>(drawn);
                };
                let policy = self.admitted(policy)?;
                let link = PolicyLink {
                    engine,
                    policy: &policy,
                };
                let wanted: Vec<CompletionRequest> = part.iter().flatten().cloned().collect();
                let made = inference.complete(&link, &wanted, samplers, None).await?;
                drawn.push((number, made, vec![policy.clone(); part.len()]));
            }
        });
        let mut drawn: Vec<_> = try_join_all(work).await?.into_iter().flatten().collect();
        drawn.sort_by_key(|(number, ..)| *number);
        let (mut all, mut drawn_by) = (Vec::new(), Vec::with_capacity(groups.len()));
        for (_, made, policies) in drawn {
            all.extend(made);
            drawn_by.extend(policies);
        }
        Ok((all, drawn_by))
    }

    /// Returns the weights of a group that is admitted now.
    fn admitted(&self, policy: &DrawingPolicy) -> Result<PublishedPolicy, RunError> {
        match policy {
            DrawingPolicy::Fixed(policy) => Ok(policy.clone()),
            DrawingPolicy::Newest => {
                let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
                newest.clone().ok_or_else(|| {
                    RunError::Failed("no weights were published for the sampling engines".into())
                })
            }
        }
    }

    /// Returns the log-probabilities of the views of a policy step, each under the policy that drew its group.
    ///
    /// # Errors
    /// Any failure of the engine; an error if it died too often.
    pub async fn score_views(
        &self,
        drawn_by: &[PublishedPolicy],
        views: ViewScores,
    ) -> Result<Vec<Vec<f32>>, RunError> {
        let samples: usize = views.groups.iter().map(|group| group.samples.len()).sum();
        let mut all = vec![Vec::new(); samples * views.inner_steps];
        let mut scored: Vec<&PublishedPolicy> = Vec::new();
        for policy in drawn_by {
            if scored.contains(&policy) {
                continue;
            }
            scored.push(policy);
            let (groups, numbers) = drawn_with(policy, drawn_by, &views.groups);
            let own = ViewScores {
                groups,
                numbers: numbers.clone(),
                estimator: views.estimator.clone(),
                ..views
            };
            for (place, values) in self.scores(policy, own).await?.into_iter().enumerate() {
                let (inner, sample) = (place / numbers.len(), numbers[place % numbers.len()]);
                if let Some(of) = all.get_mut(inner * samples + sample) {
                    *of = values;
                }
            }
        }
        Ok(all)
    }

    /// Scores views with an engine that holds these weights, if there is one.
    async fn scores(&self, policy: &PublishedPolicy, views: ViewScores) -> Result<Vec<Vec<f32>>, RunError> {
        let holds = |engine: &&Arc<SamplingEngine>| engine.held().as_ref() == Some(policy);
        let Some(engine) = self.engines.iter().find(holds).or(self.engines.first()) else {
            return Ok(Vec::new());
        };
        match (PolicyLink { engine, policy })
            .ask(Request::ScoreViews(views), None)
            .await?
        {
            Answer::ViewsScored { values, .. } => Ok(values),
            other => Err(unexpected("views scored", &other).into()),
        }
    }
}

/// Returns the groups that a policy drew, and the numbers of their samples among those of all groups.
fn drawn_with(
    policy: &PublishedPolicy,
    drawn_by: &[PublishedPolicy],
    groups: &[PolicyGroup],
) -> (Vec<PolicyGroup>, Vec<usize>) {
    let (mut own, mut numbers, mut first) = (Vec::new(), Vec::new(), 0);
    for (group, drawn_by) in groups.iter().zip(drawn_by) {
        let behind = first + group.samples.len();
        if drawn_by == policy {
            own.push(group.clone());
            numbers.extend(first..behind);
        }
        first = behind;
    }
    (own, numbers)
}
