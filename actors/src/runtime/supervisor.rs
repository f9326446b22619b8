//! The Supervisor: the only actor that creates actors. It stores how to make each one, notices each death, and makes a
//! new life within a restart budget (law L1).
//!
//! actix restarts nothing after a panic. Every actor therefore holds a [`Life`] whose drop tells the supervisor how the
//! actor ended. A death makes the actix address invalid, so peers hold an [`Address`], which always leads to the
//! present life. A [`Probe`] shows what an actor does without sending it a message, so a stuck actor can be inspected
//! too.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use demask_storage::{ActorState, Alert, Level, Lifecycle, Record};
use tokio::sync::watch;
use tokio::time::Instant;

pub use super::address::{Address, Silence};
pub use super::probe::{Handling, Probe, Roster};

use crate::runtime::recorder::Recorder;

/// The limits on how often an actor is restarted.
#[derive(Clone, Copy, Debug)]
pub struct RestartBudget {
    /// Restarts within the window. After one more death the supervisor gives the actor up.
    pub restarts: usize,
    /// Length of the window.
    pub window: Duration,
    /// Wait before the first restart. It doubles with each further restart in the window.
    pub first_wait: Duration,
    /// Longest wait before a restart.
    pub longest_wait: Duration,
}

impl Default for RestartBudget {
    fn default() -> Self {
        Self {
            restarts: 8,
            window: Duration::from_secs(120),
            first_wait: Duration::from_millis(50),
            longest_wait: Duration::from_secs(5),
        }
    }
}

/// The token that an actor holds while it lives. Its drop tells the supervisor that the actor has ended.
#[derive(Debug)]
pub struct Life {
    /// Name of the actor.
    pub name: String,
    /// Number of this life; 0 for the first.
    pub generation: u64,
    /// Probe of the actor.
    pub probe: Probe,
    supervisor: Recipient<Down>,
    reason: Option<String>,
    clean: bool,
}

impl Life {
    /// Marks the coming end as completion: the supervisor makes no new life.
    pub fn done(&mut self) {
        self.clean = true;
    }

    /// Marks the coming end as a failure for this reason: the supervisor makes a new life.
    pub fn failed(&mut self, reason: impl Into<String>) {
        self.reason = Some(reason.into());
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        let reason = match self.reason.take() {
            Some(reason) => reason,
            None if panicked => "panicked".into(),
            None => "ended".into(),
        };
        let (name, generation) = (self.name.clone(), self.generation);
        self.supervisor.do_send(Down {
            name,
            generation,
            clean: self.clean && !panicked,
            reason,
        });
    }
}

/// The message that an actor has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Down {
    name: String,
    generation: u64,
    clean: bool,
    reason: String,
}

/// The message to make this actor, and to make it again whenever it dies.
#[derive(Message)]
#[rtype(result = "()")]
struct Spawn {
    name: String,
    probe: Probe,
    make: Box<dyn FnMut(Life) + Send>,
    give_up: Box<dyn FnOnce() + Send>,
}

/// The message to make no actor any more, neither new nor again.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Shutdown;

/// The message to stop restarting the actors of these names.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Release(Vec<String>);

struct SupervisedActor {
    probe: Probe,
    make: Box<dyn FnMut(Life) + Send>,
    give_up: Option<Box<dyn FnOnce() + Send>>,
    generation: u64,
    /// The first generation of this spawn. An earlier actor of the same name does not count as its restarts.
    first: u64,
    deaths: VecDeque<Instant>,
    released: bool,
}

/// The supervising actor.
pub struct Supervisor {
    recorder: Recorder,
    budget: RestartBudget,
    actors: BTreeMap<String, SupervisedActor>,
    retired: bool,
}

/// The handle through which others use the supervisor.
#[derive(Clone, Debug)]
pub struct SupervisorHandle {
    supervisor: Addr<Supervisor>,
    /// The probes of all actors.
    pub roster: Roster,
}

impl SupervisorHandle {
    /// Starts the supervisor on the present arbiter.
    #[must_use]
    pub fn open(recorder: Recorder, budget: RestartBudget) -> Self {
        let roster = Roster::default();
        roster.add("supervisor", "").say(ActorState::Idle, "");
        let supervisor = Supervisor {
            recorder,
            budget,
            actors: BTreeMap::new(),
            retired: false,
        }
        .start();
        Self { supervisor, roster }
    }

    /// Makes an actor, and makes it again whenever it dies. The actor must keep the [`Life`] that `make` receives.
    pub fn spawn<A, F>(&self, name: &str, parent: &str, mut make: F) -> Address<A>
    where
        A: Actor<Context = Context<A>>,
        F: FnMut(Life) -> A + Send + 'static,
    {
        let (sender, receiver) = watch::channel(None);
        let sender = Arc::new(sender);
        // Dropping the last sender closes the channel, which releases peers that wait for an actor that is never made
        // again.
        let held = Arc::new(Mutex::new(Some(Arc::clone(&sender))));
        let closing = Arc::clone(&held);
        drop(sender);
        let make = move |life: Life| {
            if let Some(sender) = held.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
                sender.send_replace(Some(make(life).start()));
            }
        };
        let give_up = move || drop(closing.lock().unwrap_or_else(PoisonError::into_inner).take());
        let probe = self.roster.add(name, parent);
        let (make, give_up) = (Box::new(make), Box::new(give_up));
        self.supervisor.do_send(Spawn {
            name: name.to_owned(),
            probe: probe.clone(),
            make,
            give_up,
        });
        Address {
            present: receiver,
            probe,
            waiting: Arc::default(),
        }
    }

    /// Stops restarting the actors of these names. Each ends when nobody holds its address any more. An actor that is
    /// spawned under one of the names after this call is a new one.
    pub fn release(&self, names: &[&str]) {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        self.supervisor.do_send(Release(names));
    }

    /// Stops making and restarting actors from now on.
    pub async fn shut_down(&self) {
        self.supervisor.send(Shutdown).await.ok();
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;
}

impl Supervisor {
    fn record(&self, record: Record) {
        let recorder = self.recorder.clone();
        actix::spawn(async move { recorder.record(record).await.ok() });
    }

    fn note(&self, actor: &str, generation: u64, what: &str, reason: &str) {
        let (actor, what, reason) = (actor.to_owned(), what.to_owned(), reason.to_owned());
        self.record(Record::Lifecycle(Lifecycle {
            run: String::new(),
            actor,
            generation,
            what,
            reason,
        }));
    }

    fn make(&mut self, name: &str, supervisor: Recipient<Down>) {
        if self.retired {
            return;
        }
        let Some(actor) = self.actors.get_mut(name).filter(|one| !one.released) else {
            return;
        };
        let (generation, again) = (actor.generation, actor.generation - actor.first);
        let probe = actor.probe.clone();
        probe.lock().restarts = again;
        probe.say(ActorState::Idle, "");
        (actor.make)(Life {
            name: name.to_owned(),
            generation,
            probe,
            supervisor,
            reason: None,
            clean: false,
        });
        self.note(
            name,
            generation,
            if again == 0 { "started" } else { "restarted" },
            "",
        );
    }
}

impl Handler<Spawn> for Supervisor {
    type Result = ();

    fn handle(&mut self, spawn: Spawn, ctx: &mut Self::Context) {
        let Spawn {
            name,
            probe,
            make,
            give_up,
        } = spawn;
        // The generation goes on from the earlier actor of this name, so that a late report of that one's death is not
        // taken for this one's.
        let generation = self.actors.get(&name).map_or(0, |before| before.generation + 1);
        let actor = SupervisedActor {
            probe,
            make,
            give_up: Some(give_up),
            generation,
            first: generation,
            deaths: VecDeque::new(),
            released: false,
        };
        self.actors.insert(name.clone(), actor);
        self.make(&name, ctx.address().recipient());
    }
}

impl Handler<Down> for Supervisor {
    type Result = ();

    /// L1: restarts an actor that died, with a longer wait each time, until the budget is spent.
    fn handle(&mut self, down: Down, ctx: &mut Self::Context) {
        let (budget, retired) = (self.budget, self.retired);
        let Some(actor) = self.actors.get_mut(&down.name) else {
            return;
        };
        if actor.generation != down.generation {
            return;
        }
        if down.clean || retired || actor.released {
            actor.probe.say(ActorState::Stopped, "");
            return self.note(&down.name, down.generation, "stopped", &down.reason);
        }
        actor.probe.say(ActorState::Failed, &down.reason);
        actor.probe.died(&down.reason);
        let now = Instant::now();
        actor.deaths.push_back(now);
        actor
            .deaths
            .retain(|&death| now.duration_since(death) <= budget.window);
        let deaths = actor.deaths.len();
        if deaths > budget.restarts {
            let give_up = actor.give_up.take();
            self.note(&down.name, down.generation, "gave_up", &down.reason);
            let message = format!(
                "{} failed {deaths} times in {:?}: {}",
                down.name, budget.window, down.reason
            );
            let kind = "actor_failed".to_owned();
            self.record(Record::Alert(Alert {
                run: String::new(),
                step: 0,
                level: Level::Error,
                kind,
                message,
            }));
            give_up.into_iter().for_each(|give_up| give_up());
            return;
        }
        actor.generation += 1;
        let generation = actor.generation;
        self.note(&down.name, down.generation, "failed", &down.reason);
        let doublings = u32::try_from(deaths - 1).unwrap_or(u32::MAX);
        let wait = budget
            .first_wait
            .saturating_mul(2_u32.saturating_pow(doublings))
            .min(budget.longest_wait);
        ctx.run_later(wait, move |supervisor, ctx| {
            // Another run may have spawned an actor of this name meanwhile.
            let same = supervisor.actors.get(&down.name).map(|known| known.generation) == Some(generation);
            if same {
                supervisor.make(&down.name, ctx.address().recipient());
            }
        });
    }
}

impl Handler<Release> for Supervisor {
    type Result = ();

    fn handle(&mut self, release: Release, _: &mut Self::Context) {
        for name in release.0 {
            if let Some(actor) = self.actors.get_mut(&name) {
                actor.released = true;
                // The closure may hold the addresses of other actors, so it is dropped here.
                actor.make = Box::new(drop);
                actor.give_up.take().into_iter().for_each(|give_up| give_up());
            }
        }
    }
}

impl Handler<Shutdown> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Shutdown, _: &mut Self::Context) {
        self.retired = true;
        for actor in self.actors.values_mut() {
            actor.give_up.take().into_iter().for_each(|give_up| give_up());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Fragile(Life);
    impl Actor for Fragile {
        type Context = Context<Self>;
    }

    #[derive(Message)]
    #[rtype(result = "u64")]
    struct Poke(&'static str);

    impl Handler<Poke> for Fragile {
        type Result = u64;
        fn handle(&mut self, poke: Poke, ctx: &mut Self::Context) -> u64 {
            let handling = self.0.probe.handle("Poke");
            match poke.0 {
                "panic" => std::panic::resume_unwind(Box::new("asked to")),
                "fail" => {
                    self.0.failed("asked to");
                    ctx.stop();
                }
                "done" => {
                    self.0.done();
                    ctx.stop();
                }
                _ => {}
            }
            handling.end("ok");
            self.0.generation
        }
    }

    fn universe(test: impl AsyncFnOnce(SupervisorHandle, Recorder)) {
        let folder = tempfile::tempdir().unwrap();
        System::new().block_on(async {
            let (recorder, thread) = Recorder::start(&folder.path().join("d.db")).unwrap();
            let budget = RestartBudget {
                restarts: 3,
                window: Duration::from_secs(600),
                first_wait: Duration::from_millis(1),
                longest_wait: Duration::from_millis(2),
            };
            test(SupervisorHandle::open(recorder.clone(), budget), recorder).await;
            drop(thread);
        });
    }

    #[test]
    fn l1_an_actor_that_panics_or_fails_is_made_again_and_its_address_leads_to_the_new_life() {
        universe(async |supervisor, _| {
            let address = supervisor.spawn("fragile", "supervisor", Fragile);
            for (generation, how) in [(0, "live"), (0, "panic"), (1, "fail"), (2, "live")] {
                let answer = address.get().await.unwrap().send(Poke(how)).await;
                assert!(
                    how == "panic" && answer.is_err() || answer == Ok(generation),
                    "{how}: {answer:?}"
                );
                if how != "live" {
                    let mut watch = address.present.clone();
                    watch.mark_unchanged();
                    watch
                        .wait_for(|a| a.as_ref().is_some_and(Addr::connected))
                        .await
                        .unwrap();
                }
            }
            let view = supervisor
                .roster
                .views()
                .into_iter()
                .find(|view| view.name == "fragile")
                .unwrap();
            assert_eq!((view.restarts, view.handled), (2, 4));
            assert_eq!(view.recent[1].3, "panicked");
            let reasons: Vec<&str> = view.deaths.iter().map(|death| death.1.as_str()).collect();
            assert_eq!(reasons, ["panicked", "asked to"]);
            let next = supervisor.spawn("fragile", "supervisor", Fragile);
            next.get().await.unwrap().send(Poke("live")).await.unwrap();
            let views = supervisor.roster.views();
            let next = views.iter().find(|view| view.name == "fragile").unwrap();
            assert_eq!(
                (next.restarts, next.handled),
                (0, 1),
                "another run's actor was never restarted"
            );
        });
    }

    #[test]
    fn beyond_the_budget_it_gives_up_and_those_who_wait_are_let_go() {
        universe(async |supervisor, recorder| {
            let mut events = recorder.watch();
            let address = supervisor.spawn("fragile", "supervisor", Fragile);
            while let Some(present) = address.get().await {
                present.send(Poke("fail")).await.ok();
                tokio::task::yield_now().await;
            }
            recorder.flush().await.unwrap();
            let mut alerts = 0;
            while let Ok(event) = events.try_recv() {
                alerts +=
                    usize::from(matches!(event.record, Record::Alert(ref a) if a.kind == "actor_failed"));
            }
            assert_eq!(alerts, 1);
        });
    }
}
