//! Questions that the user asks the model of a running run. They are answered at once, beside the run's own sampling,
//! so that they do not change the run (law L8). A row records who asked what at which step (law L4).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use demask_datasets::example::{Check, Example, Kind, Mode};
use demask_datasets::pictures::file as picture_file;
use demask_datasets::pictures::file::png;
use demask_rewards::judge::Judge;
use demask_rewards::verifiers::{answer, thought};
use demask_storage::{Blobs, Command, Reply};
use tokio::sync::oneshot;

use crate::control::pending_order::PresentControl;
use crate::control::{OrderError, PresentModel};
use crate::engine::link::AsideLink;
use crate::home::Home;
use crate::inference::complete::CompletionRequest;
use crate::inference::typed_prompt::plain_example;
use crate::inference::watched::Watched;
use crate::runtime::actor::offload;
use crate::runtime::recorder::Recorder;
use crate::runtime::seeds::seed_of;

/// Longest time for an answer. The engine may be in the middle of a long training step.
const LIMIT: Duration = Duration::from_secs(600);

/// Longest wait for the picture of a question.
const PICTURE_LIMIT: Duration = Duration::from_secs(60);

/// The resources for answering a question: the home, the run's control with its model, and the recorder.
pub(super) struct AnswerDesk<'a> {
    pub(super) home: &'a Home,
    pub(super) control: &'a PresentControl,
    pub(super) recorder: &'a Recorder,
}

/// The question of a command, as an example with its mode and its reference answer.
struct AskedQuestion {
    example: Example,
    mode: Mode,
    reference: Option<String>,
}

impl AnswerDesk<'_> {
    /// Records the question and answers it.
    pub(super) async fn answer(&self, id: &str, by: &str, command: Command) -> Reply {
        match self.taken(id, by, command).await {
            Ok((question, model)) => self.answered(id, question, &model).await,
            Err(message) => Reply::refused(&message),
        }
    }

    /// Records the question, says so, and has watchers see the answer. L4: its row is on the disk before the reply.
    pub(super) async fn sample(&self, id: &str, by: &str, command: Command, reply: oneshot::Sender<Reply>) {
        let (question, model) = match self.taken(id, by, command).await {
            Ok(taken) => taken,
            Err(message) => {
                reply.send(Reply::refused(&message)).ok();
                return;
            }
        };
        let (message, step) = (
            "accepted; the answer is being computed".to_owned(),
            self.control.borrow().place().1,
        );
        reply.send(Reply::Accepted { message, step }).ok();
        if let Reply::Refused { message } = self.answered(id, question, &model).await {
            tracing::warn!("asked by {by}: {message}");
        }
    }

    /// Records the question. Returns it with the model that answers it, or why there can be no answer.
    async fn taken(
        &self,
        id: &str,
        by: &str,
        command: Command,
    ) -> Result<(AskedQuestion, PresentModel), String> {
        let model = self.control.borrow().model();
        let Some(model) = model else {
            return Err("the run is starting and has no model yet".to_owned());
        };
        // L10: a question has a place among the orders, which a disk that does not answer may not keep.
        let question = tokio::time::timeout(PICTURE_LIMIT, question(&command, &model));
        let late = |_| format!("the picture was not read within {} s", PICTURE_LIMIT.as_secs());
        let question = question.await.map_err(late)??;
        self.recorded(id, by, command)
            .await
            .map_err(|error| error.to_string())?;
        Ok((question, model))
    }

    /// Records a prompt that is answered here and not by the run at its next boundary.
    async fn recorded(&self, id: &str, by: &str, prompt: Command) -> Result<(), OrderError> {
        loop {
            let present = Arc::clone(&self.control.borrow());
            present.leave_prompt(id);
            present.ask(self.recorder, id, by, prompt.clone()).await?;
            // If another life began meanwhile, its journal may have the prompt as one that still waits.
            if Arc::ptr_eq(&present, &self.control.borrow()) {
                return Ok(present.take_sample(self.recorder, id).await?);
            }
        }
    }

    async fn answered(&self, id: &str, question: AskedQuestion, model: &PresentModel) -> Reply {
        match tokio::time::timeout(LIMIT, self.said(id, question, model)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => Reply::refused(&format!("{error:#}")),
            Err(_) => Reply::refused(&format!("no answer within {} s", LIMIT.as_secs())),
        }
    }

    /// Asks the model the question and waits for its answer. The request is made aside: the engine answers it between
    /// two passes of its current work. A picture is encoded and saved on a blocking thread.
    async fn said(&self, id: &str, question: AskedQuestion, model: &PresentModel) -> anyhow::Result<Reply> {
        let began = Instant::now();
        let (run, step) = self.control.borrow().place();
        let sample = format!("{run}/asked/{id}");
        let watched = Watched {
            run: &run,
            id: &sample,
            origin: "person",
            recorder: self.recorder,
        };
        let wanted = CompletionRequest {
            example: question.example,
            mode: question.mode,
            seed: seed_of(model.seed, step, 2),
            watch: None,
        };
        let link = AsideLink(&model.engine);
        let made = watched
            .complete(&model.inference, &link, wanted, &model.samplers)
            .await?
            .completion;
        let blobs = Blobs::new(self.home.blobs());
        let said = move || {
            let kept = made.picture.as_ref().map(|picture| blobs.put(&png(picture)));
            let path = kept.transpose()?.map(|hash| blobs.path(&hash));
            let answer = match &made.picture {
                Some(_) => Judge::default().words(&made),
                None => thought::split(&made.text).result.to_owned(),
            };
            anyhow::Ok((made.text, answer, path))
        };
        let (text, answer, path) = offload(said).await??;
        let right = question
            .reference
            .map(|reference| answer::same(answer.trim_matches(['[', ']']), &reference));
        Ok(Reply::Said {
            text,
            answer,
            picture: path.map(|path| path.to_string_lossy().into_owned()),
            right,
            step,
            seconds: began.elapsed().as_secs_f64(),
        })
    }
}

/// Builds the example that a question's command describes.
async fn question(command: &Command, model: &PresentModel) -> Result<AskedQuestion, String> {
    let Command::Ask {
        prompt,
        draw,
        image,
        direct,
        reference,
    } = command
    else {
        return Err("this command is not a question".to_owned());
    };
    let picture = match image.clone() {
        None => None,
        Some(_) if *draw => return Err("a request to draw cannot have an input picture".to_owned()),
        Some(file) => {
            let pixels = model.pixels;
            let read = move || picture_file::read(Path::new(&file), pixels);
            Some(offload(read).await.map_err(|error| error.to_string())??)
        }
    };
    let kind = match (*draw, &picture) {
        (true, _) => Kind::TextToImage,
        (false, Some(_)) => Kind::Question,
        (false, None) => Kind::WordProblem,
    };
    let check = match reference {
        Some(answer) => Check::Exact {
            answer: answer.clone(),
        },
        None => Check::None,
    };
    Ok(AskedQuestion {
        example: Example {
            check,
            ..plain_example(kind, prompt, picture)
        },
        mode: if *direct { Mode::Direct } else { Mode::Think },
        reference: reference.clone(),
    })
}
