//! The Reasoner: it generates reasoning traces for problems with the model itself or a teacher, and has the Scorer
//! verify them.
//!
//! Every trace is recorded as a row as soon as it exists. What a teacher wrote before a crash is read from the store
//! instead of being requested and paid for again (law L1). Each request to a teacher holds a permit (law L2).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use actix::prelude::*;
use demask_datasets::example::{Example, Mode};
use demask_rewards::verifiers::trace::TraceFlaw;
use demask_storage::{Alert, Level, Record, Trace, journal, store};
use futures_util::future::join_all;
use tokio::sync::OnceCell;

use crate::control::Control;
use crate::inference::complete::{CompletionRequest, Inference};
use crate::inference::settings::SamplerSettings;
use crate::pipeline::run_error::RunError;
use crate::pipeline::sampling_engines::{Drawers, PublishedPolicy};
use crate::pipeline::scorer::{Scorer, Verify};
use crate::profile::Teacher;
use crate::runtime::actor::{Supervised, handle_message};
use crate::runtime::fault_injection::{FaultInjection, SeededBug};
use crate::runtime::recorder::Recorder;
use crate::runtime::seeds::seed_of;
use crate::runtime::supervisor::{Address, Life, SupervisorHandle};
use crate::teacher::{ChatOpener, Patience, Question, TeacherClient, TeacherError};

/// Capacity of the mailbox.
const MAILBOX: usize = 1;

/// System prompt of the teacher. It describes the only format that the verifier accepts.
const SYSTEM: &str = "Solve the problem step by step. Answer with <think>, your reasoning, </think> and then only the \
result. In the reasoning write every calculation as `a + b = c.` (or -, *, /) and nothing after the result.";

/// The settings of the Reasoner for a run.
#[derive(Clone)]
pub struct ReasonerSettings {
    /// Id of the run.
    pub run: String,
    /// Seed of the run.
    pub seed: u64,
    /// Recorder of the rows.
    pub recorder: Recorder,
    /// The store, in which traces that a teacher wrote earlier are found.
    pub database: PathBuf,
    /// The teacher, if the profile has one.
    pub teacher: Option<Teacher>,
    /// Retry limits of requests to the teacher.
    pub patience: Patience,
    /// Opener of the transport to the teacher.
    pub opener: Arc<dyn ChatOpener>,
}

/// The request to generate and verify the traces of a round.
#[derive(Clone, Message)]
#[rtype(result = "Result<Vec<Proposal>, RunError>")]
pub struct Propose {
    /// The step.
    pub step: u64,
    /// Round of the self-improvement loop.
    pub round: u64,
    /// Weights version.
    pub weights: u64,
    /// These weights, as the sampling engines load them; `None`: the training engine draws.
    pub policy: Option<PublishedPolicy>,
    /// Tokenizer and budgets.
    pub inference: Arc<Inference>,
    /// Problems, each with its answer.
    pub problems: Arc<Vec<Example>>,
    /// Traces per problem.
    pub group: usize,
    /// Settings of the samplers.
    pub samplers: SamplerSettings,
    /// Control of the run. The teacher is given up early when it says that the run is ending.
    pub control: Arc<Control>,
}

/// A proposed trace with its verdict.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// Id: run, round and number.
    pub id: String,
    /// The problem.
    pub example: Example,
    /// The completion as it was generated.
    pub text: String,
    /// Generator: `weights:N` or `teacher:MODEL`.
    pub generator: String,
    /// The reason why the trace is rejected; `None` if it is sound.
    pub flaw: Option<TraceFlaw>,
}

/// The Reasoner actor.
pub struct Reasoner {
    life: Life,
    work: Arc<Work>,
}

/// The resources of one life of the actor.
struct Work {
    brief: ReasonerSettings,
    drawers: Drawers,
    scorer: Address<Scorer>,
    faults: FaultInjection,
    teacher: OnceCell<Option<TeacherClient>>,
}

impl Reasoner {
    /// Spawns a Reasoner under the supervisor.
    #[must_use]
    pub fn spawn(
        supervisor: &SupervisorHandle,
        brief: ReasonerSettings,
        drawers: Drawers,
        scorer: Address<Scorer>,
        faults: FaultInjection,
    ) -> Address<Self> {
        supervisor.spawn("reasoner", "supervisor", move |life| Self {
            life,
            work: Arc::new(Work {
                brief: brief.clone(),
                drawers: drawers.clone(),
                scorer: scorer.clone(),
                faults: faults.clone(),
                teacher: OnceCell::new(),
            }),
        })
    }
}

impl Actor for Reasoner {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.life.probe.queue(0, MAILBOX as u64);
    }
}

impl Supervised for Reasoner {
    fn life(&mut self) -> &mut Life {
        &mut self.life
    }
}

impl Handler<Propose> for Reasoner {
    type Result = AtomicResponse<Self, Result<Vec<Proposal>, RunError>>;

    fn handle(&mut self, propose: Propose, _: &mut Self::Context) -> Self::Result {
        let work = Arc::clone(&self.work);
        handle_message(self, "Propose", async move {
            let proposals = work.propose(&propose).await?;
            work.faults.strike("reasoner", propose.step);
            work.verified(propose.step, proposals).await
        })
    }
}

impl Work {
    async fn propose(&self, propose: &Propose) -> Result<Vec<Proposal>, RunError> {
        let wanted: Vec<CompletionRequest> = propose
            .problems
            .iter()
            .flat_map(|example| std::iter::repeat_n(example, propose.group))
            .enumerate()
            .map(|(number, example)| CompletionRequest {
                example: example.clone(),
                mode: Mode::Think,
                seed: seed_of(self.brief.seed, propose.step, 1000 + number as u64),
                watch: None,
            })
            .collect();
        let share = self.brief.teacher.as_ref().map_or(0.0, |teacher| teacher.share);
        let (taught, own): (Vec<_>, Vec<_>) = wanted
            .into_iter()
            .enumerate()
            .partition(|(number, _)| falls_to_teacher(*number, share));
        let mut proposals = tokio::select! {
            biased;
            taught = self.ask_teacher(propose, taught) => taught?,
            // L10: a silent teacher does not keep a run from ending. What it wrote already is recorded.
            () = propose.control.ending() => return Err(RunError::Ending),
        };
        proposals.extend(self.ask_model(propose, own).await?);
        Ok(proposals.into_values().collect())
    }

    async fn ask_model(
        &self,
        propose: &Propose,
        wanted: Vec<(usize, CompletionRequest)>,
    ) -> Result<BTreeMap<usize, Proposal>, RunError> {
        let asked: Vec<CompletionRequest> = wanted.iter().map(|(_, wanted)| wanted.clone()).collect();
        if asked.is_empty() {
            return Ok(BTreeMap::new());
        }
        let link = self.drawers.link(propose.policy.as_ref());
        let made = propose
            .inference
            .complete(&*link, &asked, &propose.samplers, None)
            .await?;
        let sampler = serde_json::to_value(&propose.samplers.text).unwrap_or_default();
        let generator = format!("weights:{}", propose.weights);
        let mut proposals = BTreeMap::new();
        for ((number, wanted), made) in wanted.into_iter().zip(made) {
            let text = made.completion.text;
            let proposal = self
                .recorded(propose, number, &wanted, text, &generator, sampler.clone())
                .await?;
            proposals.insert(number, proposal);
        }
        Ok(proposals)
    }

    /// Asks the teacher for its share of the traces. Missing answers are skipped, with an alert that gives the reason.
    async fn ask_teacher(
        &self,
        propose: &Propose,
        wanted: Vec<(usize, CompletionRequest)>,
    ) -> Result<BTreeMap<usize, Proposal>, RunError> {
        let mut proposals = BTreeMap::new();
        let Some(teacher) = self.teacher().await?.filter(|_| !wanted.is_empty()) else {
            return Ok(proposals);
        };
        let connection = store::open_read_only(&self.brief.database)?;
        let known = match self.faults.has(SeededBug::PaidTwice) {
            true => BTreeMap::new(),
            false => journal::taught(&connection, &self.brief.run, propose.round)?,
        };
        drop(connection);
        let asking = wanted.into_iter().map(|(number, wanted)| {
            let known = known.get(&self.id(propose.round, number)).cloned();
            async move {
                let answer = self.taught(teacher, propose, number, &wanted, known).await;
                (number, answer)
            }
        });
        let mut silent = (0, String::new(), false);
        for (number, answer) in join_all(asking).await {
            match answer? {
                Ok(proposal) => {
                    proposals.insert(number, proposal);
                }
                Err(why) => {
                    let capped = silent.2 || matches!(why, TeacherError::Cap { .. });
                    silent = (silent.0 + 1, why.to_string(), capped);
                }
            }
        }
        // If the cap is reached, the teacher has done what was paid for. If it answers nothing without that, it has to
        // be repaired.
        if silent.0 > 0 && proposals.is_empty() && !silent.2 {
            return Err(RunError::Failed(format!(
                "the teacher answered none of {} questions of round {}; the last failure: {}; fix [teacher] in the profile or \
                 start the teacher, then start the run again",
                silent.0, propose.round, silent.1
            )));
        }
        if silent.0 > 0 {
            let message = format!(
                "the teacher did not answer {} of {} traces of round {}; the last failure: {}",
                silent.0,
                silent.0 + proposals.len(),
                propose.round,
                silent.1
            );
            self.alert(propose.step, message).await?;
        }
        Ok(proposals)
    }

    async fn taught(
        &self,
        teacher: &TeacherClient,
        propose: &Propose,
        number: usize,
        wanted: &CompletionRequest,
        known: Option<(String, serde_json::Value)>,
    ) -> Result<Result<Proposal, TeacherError>, RunError> {
        let question = Question {
            system: SYSTEM,
            prompt: &wanted.example.prompt,
            picture: None,
            temperature: propose.samplers.text.temperature,
            seed: wanted.seed,
            max_tokens: self
                .brief
                .teacher
                .as_ref()
                .map_or(0, |teacher| teacher.max_tokens),
        };
        let (text, sampler) = match known {
            Some(known) => known,
            None => match teacher.ask(&question).await {
                Ok(taught) => {
                    let sampler = serde_json::json!({
                        "temperature": question.temperature, "max_tokens": question.max_tokens, "tokens": taught.tokens,
                    });
                    (taught.text, sampler)
                }
                Err(error) => return Ok(Err(error)),
            },
        };
        let generator = teacher.name();
        self.recorded(propose, number, wanted, text, &generator, sampler)
            .await
            .map(Ok)
    }

    /// Returns the teacher's client. Tokens that earlier lives paid for count towards its cap.
    async fn teacher(&self) -> Result<Option<&TeacherClient>, RunError> {
        let make = || async {
            let Some(teacher) = self.brief.teacher.clone() else {
                return Ok(None);
            };
            let (opener, patience) = (&*self.brief.opener, self.brief.patience.clone());
            let client = TeacherClient::opened_by(opener, teacher, patience)
                .map_err(|error| RunError::Failed(error.to_string()))?;
            self.brief.recorder.flush().await?;
            let connection = store::open_read_only(&self.brief.database)?;
            client.already_spent(journal::taught_tokens(&connection, &self.brief.run)?);
            Ok::<_, RunError>(Some(client))
        };
        Ok(self.teacher.get_or_try_init(make).await?.as_ref())
    }

    fn id(&self, round: u64, number: usize) -> String {
        format!("{}/r{round}/{number}", self.brief.run)
    }

    async fn recorded(
        &self,
        propose: &Propose,
        number: usize,
        wanted: &CompletionRequest,
        text: String,
        generator: &str,
        sampler: serde_json::Value,
    ) -> Result<Proposal, RunError> {
        let id = self.id(propose.round, number);
        let trace = Trace {
            id: id.clone(),
            run: self.brief.run.clone(),
            round: propose.round,
            example: wanted.example.id.clone(),
            generator: generator.to_owned(),
            sampler,
            seed: wanted.seed,
            prompt: wanted.example.prompt.clone(),
            text: text.clone(),
        };
        self.brief.recorder.record(Record::Trace(trace)).await?;
        Ok(Proposal {
            id,
            example: wanted.example.clone(),
            text,
            generator: generator.to_owned(),
            flaw: None,
        })
    }

    async fn verified(&self, step: u64, mut proposals: Vec<Proposal>) -> Result<Vec<Proposal>, RunError> {
        let traces = proposals
            .iter()
            .map(|one| (one.text.clone(), one.example.answer.clone().unwrap_or_default()))
            .collect();
        let verify = Verify {
            step,
            traces: Arc::new(traces),
        };
        let flaws = self.scorer.ask(verify).await??;
        for (proposal, flaw) in proposals.iter_mut().zip(flaws) {
            proposal.flaw = flaw;
        }
        Ok(proposals)
    }

    async fn alert(&self, step: u64, message: String) -> Result<(), RunError> {
        let alert = Alert {
            run: self.brief.run.clone(),
            step,
            level: Level::Warn,
            kind: "teacher".to_owned(),
            message,
        };
        Ok(self.brief.recorder.record(Record::Alert(alert)).await?)
    }
}

/// Returns whether the teacher writes the trace of this number. The teacher's share of the first n numbers is right to
/// within one.
fn falls_to_teacher(number: usize, share: f64) -> bool {
    let upto = |count: usize| (count as f64 * share + 1e-9).floor();
    upto(number + 1) > upto(number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]
    use super::*;
    use crate::engine::actor::EngineAddress;
    use crate::engine::process::EngineOptions;
    use crate::engine::starter::ProcessStarter;
    use crate::pipeline::sampling_engines::SamplingEngines;
    use crate::runtime::supervisor::RestartBudget;
    use crate::teacher::HttpChat;
    use crate::teacher::tests::{GOOD, http, scripted};
    use demask_datasets::example::{Kind, Split};
    use demask_datasets::prompts::sequences::Budgets;
    use demask_datasets::prompts::text_tokenizer::TextTokenizer;
    use demask_datasets::tabletop::Tabletop;
    use demask_rewards::judge::Judge;
    use std::time::Duration;

    #[test]
    fn the_teacher_has_its_share_of_any_number() {
        let share = |share: f64, count: usize| (0..count).filter(|&n| falls_to_teacher(n, share)).count();
        let shares = [share(0.0, 9), share(1.0, 9), share(0.5, 10), share(0.3, 10)];
        assert_eq!(shares, [0, 9, 5, 3]);
    }

    fn brief(url: String, recorder: &Recorder, database: PathBuf) -> ReasonerSettings {
        let short = Duration::from_millis(1);
        ReasonerSettings {
            run: "r".into(),
            seed: 1,
            recorder: recorder.clone(),
            database,
            teacher: Some(Teacher {
                url,
                model: "m".into(),
                key_variable: "DEMASK_NO_SUCH_KEY".into(),
                concurrency: 1,
                token_cap: 10_000,
                share: 1.0,
                max_tokens: 100,
            }),
            patience: Patience {
                tries: 2,
                first_wait: short,
                longest_wait: short,
                ..Patience::default()
            },
            opener: Arc::new(HttpChat),
        }
    }

    fn propose() -> Propose {
        let world = Tabletop::new(1);
        let tokenizer = TextTokenizer::train(&world.corpus(50), 320).unwrap();
        let mut problem = world.example(Kind::WordProblem, Split::Train, 0);
        problem.answer = Some("2".into());
        Propose {
            step: 4,
            round: 1,
            weights: 7,
            policy: None,
            inference: Arc::new(Inference::new(tokenizer, Budgets::default())),
            problems: Arc::new(vec![problem]),
            group: 3,
            samplers: SamplerSettings::default(),
            control: Arc::default(),
        }
    }

    /// The teacher fails once in a passing way, answers, refuses, and answers wrongly; then the reasoner dies. Its next
    /// life reads what was written and asks only for what is missing.
    #[test]
    fn l1_a_teacher_is_not_asked_twice_for_what_it_wrote() {
        let wrong = GOOD.replace("</think>2", "</think>3");
        let script = vec![
            http("503 Service Unavailable", "", "busy"),
            http("200 OK", "", GOOD),
            http("401 Unauthorized", "", "no"),
            http("200 OK", "", &wrong),
            http("401 Unauthorized", "", "still no"),
        ];
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("d.db");
        System::new().block_on(async {
            let (url, asked) = scripted(script).await;
            let (recorder, _thread) = Recorder::start(&database).unwrap();
            let supervisor = SupervisorHandle::open(recorder.clone(), RestartBudget::default());
            let faults = FaultInjection::at(&[("reasoner", 4)]);
            let engine = EngineAddress::spawn(
                &supervisor,
                "engine/0",
                EngineOptions::default(),
                Arc::new(ProcessStarter { lobby: None }),
            );
            let drawers = Drawers {
                engine,
                samplers: SamplingEngines::new(&[]),
            };
            let scorer = Scorer::spawn(
                &supervisor,
                Judge::default(),
                None,
                None,
                FaultInjection::default(),
            )
            .unwrap();
            let brief = brief(url, &recorder, database.clone());
            let reasoner = Reasoner::spawn(&supervisor, brief, drawers, scorer, faults.clone());
            let proposals = reasoner.ask(propose()).await.unwrap().unwrap();
            let found: Vec<(&str, bool)> = proposals
                .iter()
                .map(|one| (one.id.as_str(), one.flaw.is_none()))
                .collect();
            assert_eq!(found, [("r/r1/0", true), ("r/r1/2", false)]);
            assert!(proposals.iter().all(|one| one.generator == "teacher:m"));
            assert_eq!((asked.lock().unwrap().len(), faults.left()), (5, 0));
            recorder.flush().await.unwrap();
            let store = store::open_read_only(&database).unwrap();
            assert_eq!(journal::taught(&store, "r", 1).unwrap().len(), 2);
            assert_eq!(journal::taught_tokens(&store, "r").unwrap(), 60);
            let views = supervisor.roster.views();
            let view = views.iter().find(|view| view.name == "reasoner").unwrap();
            assert_eq!(
                (view.restarts, view.recent[0].3.as_str()),
                (1, "panicked: asked to at step 4")
            );
        });
    }
}
