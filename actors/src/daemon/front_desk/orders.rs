//! What a client is answered: the state from memory, and orders and questions each in a task of its own.

use demask_storage::{Command, Reply};
use tokio::sync::oneshot;

use super::FrontDesk;
use crate::control::gateway::PendingCommand;
use crate::control::pending_order::PendingOrder;
use crate::daemon::question::AnswerDesk;
use crate::runtime::fault_injection::SeededBug;

impl FrontDesk {
    pub(super) fn answer(&self, asked: PendingCommand) {
        let PendingCommand { message, reply } = asked;
        let said = match message.command {
            Command::Status => Reply::Status(Box::new(self.overview())),
            Command::Actors => Reply::Actors {
                actors: self.roster.views(),
            },
            Command::Shutdown => self.shut_down(),
            Command::Subscribe { .. } | Command::Follow { .. } => Reply::Accepted {
                message: "subscribed".into(),
                step: self.overview().step,
            },
            Command::Query { .. } => Reply::refused("queries are answered by the gateway"),
            question @ Command::Ask { .. } => {
                return self.ask(&message.id, &message.by, question, reply);
            }
            order => return self.order(&message.id, &message.by, order, reply),
        };
        reply.send(said).ok();
    }

    /// Answers a question to the run's model in a task of its own.
    fn ask(&self, id: &str, by: &str, question: Command, reply: oneshot::Sender<Reply>) {
        let Some(control) = self.control() else {
            let message =
                "no run is active; `demask generate`, `imagine` and `describe` use a checkpoint instead";
            reply.send(Reply::refused(message)).ok();
            return;
        };
        let permit = match self.admit() {
            Ok(permit) => permit,
            Err(full) => {
                reply.send(full).ok();
                return;
            }
        };
        let (home, recorder) = (self.home.clone(), self.recorder.clone());
        let (id, by) = (id.to_owned(), by.to_owned());
        actix::spawn(async move {
            let _permit = permit;
            let desk = AnswerDesk {
                home: &home,
                control: &control,
                recorder: &recorder,
            };
            reply.send(desk.answer(&id, &by, question).await).ok();
        });
    }

    /// Hands an order to the run in a task of its own: orders wait for the disk, and a status must be answered
    /// meanwhile.
    pub(in crate::daemon) fn order(
        &self,
        id: &str,
        by: &str,
        command: Command,
        reply: oneshot::Sender<Reply>,
    ) {
        let control = match self.ordered(id, &command) {
            Ok(control) => control,
            Err(none) => {
                reply.send(none).ok();
                return;
            }
        };
        // L10: a stop is taken in any case.
        let permit = match (command != Command::Stop).then(|| self.admit()).transpose() {
            Ok(permit) => permit,
            Err(full) => {
                reply.send(full).ok();
                return;
            }
        };
        let order = PendingOrder {
            control,
            recorder: self.recorder.clone(),
            id: id.to_owned(),
            by: by.to_owned(),
            command,
        };
        let home = self.home.clone();
        let loses_stops = self.faults.has(SeededBug::LostStop);
        actix::spawn(async move {
            let _permit = permit;
            // If there is a model, a prompt is answered at once instead of at the end of the step.
            let has_model = order.control.borrow().model().is_some();
            match &order.command {
                Command::Sample { prompt, picture } if has_model => {
                    let desk = AnswerDesk {
                        home: &home,
                        control: &order.control,
                        recorder: &order.recorder,
                    };
                    let question = Command::Ask {
                        prompt: prompt.clone(),
                        draw: *picture,
                        image: None,
                        direct: false,
                        reference: None,
                    };
                    desk.sample(&order.id, &order.by, question, reply).await;
                }
                Command::Stop => order.stop(reply, loses_stops).await,
                _ => {
                    reply.send(order.recorded().await).ok();
                }
            }
        });
    }
}
