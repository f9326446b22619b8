//! The Supervisor: the only one that creates actors. It knows how to make each, sees each death, and makes another
//! within a budget (law L1).
//!
//! actix restarts nothing after a panic, so every actor carries a [`Life`] whose drop tells the supervisor how it ended.
//! The old address is dead then; peers hold an [`Address`], which always leads to the present life. What an actor does
//! is read from its [`Probe`] without asking it, so a stuck one can be looked at too.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use demask_storage::{ActorState, ActorView, Alert, Level, Lifecycle, Record};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::recorder::{Recorder, now_us};

/// Messages that the flight recorder keeps of each actor.
const RECENT: usize = 64;

/// How often an actor may be made again.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Restarts within the window; one more and the supervisor gives up.
    pub restarts: usize,
    /// The window.
    pub window: Duration,
    /// Wait before the first restart; doubled with each further one in the window.
    pub first_wait: Duration,
    /// Longest wait.
    pub longest_wait: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            restarts: 8,
            window: Duration::from_secs(120),
            first_wait: Duration::from_millis(50),
            longest_wait: Duration::from_secs(5),
        }
    }
}

/// What an actor is doing, readable from anywhere at any time.
#[derive(Clone, Debug)]
pub struct Probe(Arc<Mutex<ActorView>>);

impl Probe {
    fn new(name: &str, parent: &str) -> Self {
        Self(Arc::new(Mutex::new(ActorView {
            name: name.to_owned(),
            parent: parent.to_owned(),
            state: ActorState::Starting,
            detail: String::new(),
            queue: (0, 0),
            restarts: 0,
            handled: 0,
            last_message: String::new(),
            last_at_us: 0,
            recent: Vec::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, ActorView> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a message is being handled, until the guard is dropped.
    #[must_use]
    pub fn handle(&self, message: &str) -> Handling {
        let mut view = self.lock();
        view.state = ActorState::Busy;
        message.clone_into(&mut view.last_message);
        view.last_at_us = now_us();
        Handling {
            probe: self.clone(),
            message: message.to_owned(),
            began: now_us(),
            outcome: "dropped".into(),
        }
    }

    /// Changes state and detail.
    pub fn say(&self, state: ActorState, detail: &str) {
        let mut view = self.lock();
        view.state = state;
        detail.clone_into(&mut view.detail);
    }

    /// Notes how full its queue is.
    pub fn queue(&self, waiting: u64, room: u64) {
        self.lock().queue = (waiting, room);
    }

    fn waiting(&self, waiting: u64) {
        self.lock().queue.0 = waiting;
    }

    /// As it is now.
    #[must_use]
    pub fn view(&self) -> ActorView {
        self.lock().clone()
    }
}

/// A message in the flight recorder: its time and outcome are noted when this is dropped, in a panic too.
#[derive(Debug)]
pub struct Handling {
    probe: Probe,
    message: String,
    began: i64,
    outcome: String,
}

impl Handling {
    /// Ends it with an outcome: `ok`, or what went wrong.
    pub fn end(mut self, outcome: impl Into<String>) {
        self.outcome = outcome.into();
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        let outcome = if std::thread::panicking() {
            "panicked".into()
        } else {
            std::mem::take(&mut self.outcome)
        };
        let mut view = self.probe.lock();
        let took = u64::try_from(now_us() - self.began).unwrap_or(0);
        if view.recent.len() == RECENT {
            view.recent.remove(0);
        }
        view.recent
            .push((self.began, std::mem::take(&mut self.message), took, outcome));
        view.handled += 1;
        if view.state == ActorState::Busy {
            view.state = ActorState::Idle;
        }
    }
}

/// Every actor's probe; parents come before their children in the order in which they were started.
#[derive(Clone, Debug, Default)]
pub struct Roster(Arc<Mutex<Vec<Probe>>>);

impl Roster {
    /// All of them as they are now.
    #[must_use]
    pub fn views(&self) -> Vec<ActorView> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(Probe::view)
            .collect()
    }

    /// Adds what is not an actor of the supervisor's but does work that a person wants to see.
    #[must_use]
    pub fn add(&self, name: &str, parent: &str) -> Probe {
        let probe = Probe::new(name, parent);
        let mut probes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        probes.retain(|known| known.view().name != name);
        probes.push(probe.clone());
        probe
    }
}

/// Leads to the present life of an actor.
pub struct Address<A: Actor> {
    present: watch::Receiver<Option<Addr<A>>>,
    probe: Probe,
    /// Messages that were sent and not answered yet.
    waiting: Arc<AtomicU64>,
}

impl<A: Actor> Clone for Address<A> {
    fn clone(&self) -> Self {
        Self {
            present: self.present.clone(),
            probe: self.probe.clone(),
            waiting: Arc::clone(&self.waiting),
        }
    }
}

/// An actor did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    /// The life that was asked died before it answered; another may be asked.
    #[error("{0} died before it answered")]
    Died(String),
    /// Nobody makes another.
    #[error("{0} died too often and is not made again")]
    Gone(String),
}

impl<A: Actor<Context = Context<A>>> Address<A> {
    /// The present life's address; waits while it is being made again. None once the supervisor gave up or ended.
    pub async fn get(&self) -> Option<Addr<A>> {
        let mut watch = self.present.clone();
        let found = watch
            .wait_for(|address| address.as_ref().is_some_and(Addr::connected))
            .await
            .ok()?;
        found.clone()
    }

    /// L1, L2: waits for room in the mailbox and for the answer; when the life that was asked dies first, the next one is
    /// asked the same. For messages that may be done twice.
    ///
    /// # Errors
    /// [`Silence::Gone`].
    pub async fn ask<M>(&self, message: M) -> Result<M::Result, Silence>
    where
        A: Handler<M>,
        M: Message + Clone + Send + 'static,
        M::Result: Send,
    {
        loop {
            match self.ask_once(message.clone()).await {
                Err(Silence::Died(_)) => tokio::task::yield_now().await,
                answered => return answered,
            }
        }
    }

    /// As [`Self::ask`], but a death is the asker's to deal with.
    ///
    /// # Errors
    /// [`Silence`].
    pub async fn ask_once<M>(&self, message: M) -> Result<M::Result, Silence>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let name = || self.probe.view().name;
        let present = self.get().await.ok_or_else(|| Silence::Gone(name()))?;
        let _waiting = Waiting::begin(&self.waiting, &self.probe);
        present.send(message).await.map_err(|_| Silence::Died(name()))
    }
}

/// A message that waits for its answer: it counts in the queue that a person sees.
struct Waiting<'a>(&'a AtomicU64, &'a Probe);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicU64, probe: &'a Probe) -> Self {
        probe.waiting(count.fetch_add(1, Relaxed) + 1);
        Self(count, probe)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.1.waiting(self.0.fetch_sub(1, Relaxed) - 1);
    }
}

/// What an actor holds while it lives. Dropping it tells the supervisor.
#[derive(Debug)]
pub struct Life {
    /// Whose.
    pub name: String,
    /// 0 for the first.
    pub generation: u64,
    /// Its probe.
    pub probe: Probe,
    supervisor: Recipient<Down>,
    reason: Option<String>,
    clean: bool,
}

impl Life {
    /// It ends because it is done: no other is to be made.
    pub fn done(&mut self) {
        self.clean = true;
    }

    /// It ends because of this: another is to be made.
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

/// An actor has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Down {
    name: String,
    generation: u64,
    clean: bool,
    reason: String,
}

/// Make this actor, and another whenever it dies.
#[derive(Message)]
#[rtype(result = "()")]
struct Employ {
    name: String,
    probe: Probe,
    make: Box<dyn FnMut(Life) + Send>,
    give_up: Box<dyn FnOnce() + Send>,
}

/// End: nobody is made again from now on.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Retire;

/// These are not made again.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Dismiss(Vec<String>);

struct Employee {
    probe: Probe,
    make: Box<dyn FnMut(Life) + Send>,
    give_up: Option<Box<dyn FnOnce() + Send>>,
    generation: u64,
    deaths: VecDeque<Instant>,
    dismissed: bool,
}

/// The actor.
pub struct Supervisor {
    recorder: Recorder,
    budget: Budget,
    staff: BTreeMap<String, Employee>,
    retired: bool,
}

/// How others reach the supervisor.
#[derive(Clone, Debug)]
pub struct Office {
    supervisor: Addr<Supervisor>,
    /// Everybody's probe.
    pub roster: Roster,
}

impl Office {
    /// Starts the supervisor on the present arbiter.
    #[must_use]
    pub fn open(recorder: Recorder, budget: Budget) -> Self {
        let roster = Roster::default();
        roster.add("supervisor", "").say(ActorState::Idle, "");
        let supervisor = Supervisor {
            recorder,
            budget,
            staff: BTreeMap::new(),
            retired: false,
        }
        .start();
        Self { supervisor, roster }
    }

    /// Has an actor made, and made again whenever it dies. The actor keeps the [`Life`] that it is given.
    pub fn employ<A, F>(&self, name: &str, parent: &str, mut make: F) -> Address<A>
    where
        A: Actor<Context = Context<A>>,
        F: FnMut(Life) -> A + Send + 'static,
    {
        let (sender, receiver) = watch::channel(None);
        let sender = Arc::new(sender);
        // Once nobody can make another, waiting peers are let go by closing the channel.
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
        self.supervisor.do_send(Employ {
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

    /// These are not made again, and end when nobody holds their addresses any more.
    pub async fn dismiss(&self, names: &[&str]) {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        self.supervisor.send(Dismiss(names)).await.ok();
    }

    /// From now on nobody is made again.
    pub async fn retire(&self) {
        self.supervisor.send(Retire).await.ok();
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
        let Some(employee) = self.staff.get_mut(name).filter(|one| !one.dismissed) else {
            return;
        };
        let generation = employee.generation;
        let probe = employee.probe.clone();
        probe.lock().restarts = generation;
        probe.say(ActorState::Idle, "");
        (employee.make)(Life {
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
            if generation == 0 { "started" } else { "restarted" },
            "",
        );
    }
}

impl Handler<Employ> for Supervisor {
    type Result = ();

    fn handle(&mut self, employ: Employ, ctx: &mut Self::Context) {
        let Employ {
            name,
            probe,
            make,
            give_up,
        } = employ;
        // A late word of the death of the one who had this name before must not be taken for this one's.
        let generation = self.staff.get(&name).map_or(0, |before| before.generation + 1);
        let employee = Employee {
            probe,
            make,
            give_up: Some(give_up),
            generation,
            deaths: VecDeque::new(),
            dismissed: false,
        };
        self.staff.insert(name.clone(), employee);
        self.make(&name, ctx.address().recipient());
    }
}

impl Handler<Down> for Supervisor {
    type Result = ();

    /// L1: a death brings another life, later each time, until the budget is spent.
    fn handle(&mut self, down: Down, ctx: &mut Self::Context) {
        let (budget, retired) = (self.budget, self.retired);
        let Some(employee) = self.staff.get_mut(&down.name) else {
            return;
        };
        if employee.generation != down.generation {
            return;
        }
        if down.clean || retired || employee.dismissed {
            employee.probe.say(ActorState::Stopped, "");
            return self.note(&down.name, down.generation, "stopped", &down.reason);
        }
        employee.probe.say(ActorState::Failed, &down.reason);
        let now = Instant::now();
        employee.deaths.push_back(now);
        employee
            .deaths
            .retain(|&death| now.duration_since(death) <= budget.window);
        let deaths = employee.deaths.len();
        if deaths > budget.restarts {
            let give_up = employee.give_up.take();
            self.note(&down.name, down.generation, "gave_up", &down.reason);
            let message = format!(
                "{} died {deaths} times in {:?}: {}",
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
        employee.generation += 1;
        self.note(&down.name, down.generation, "failed", &down.reason);
        let doublings = u32::try_from(deaths - 1).unwrap_or(u32::MAX);
        let wait = budget
            .first_wait
            .saturating_mul(2_u32.saturating_pow(doublings))
            .min(budget.longest_wait);
        ctx.run_later(wait, move |supervisor, ctx| {
            supervisor.make(&down.name, ctx.address().recipient())
        });
    }
}

impl Handler<Dismiss> for Supervisor {
    type Result = ();

    fn handle(&mut self, dismiss: Dismiss, _: &mut Self::Context) {
        for name in dismiss.0 {
            if let Some(employee) = self.staff.get_mut(&name) {
                employee.dismissed = true;
                // What it was made from may hold the addresses of others.
                employee.make = Box::new(drop);
                employee.give_up.take().into_iter().for_each(|give_up| give_up());
            }
        }
    }
}

impl Handler<Retire> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Retire, _: &mut Self::Context) {
        self.retired = true;
        for employee in self.staff.values_mut() {
            employee.give_up.take().into_iter().for_each(|give_up| give_up());
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

    fn universe(test: impl AsyncFnOnce(Office, Recorder)) {
        let folder = tempfile::tempdir().unwrap();
        System::new().block_on(async {
            let (recorder, thread) = Recorder::start(&folder.path().join("d.db")).unwrap();
            let budget = Budget {
                restarts: 3,
                window: Duration::from_secs(600),
                first_wait: Duration::from_millis(1),
                longest_wait: Duration::from_millis(2),
            };
            test(Office::open(recorder.clone(), budget), recorder).await;
            drop(thread);
        });
    }

    #[test]
    fn l1_an_actor_that_panics_or_fails_is_made_again_and_its_address_leads_to_the_new_life() {
        universe(async |office, _| {
            let address = office.employ("fragile", "supervisor", Fragile);
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
            let view = office
                .roster
                .views()
                .into_iter()
                .find(|view| view.name == "fragile")
                .unwrap();
            assert_eq!((view.restarts, view.handled), (2, 4));
            assert_eq!(view.recent[1].3, "panicked");
        });
    }

    #[test]
    fn beyond_the_budget_it_gives_up_and_those_who_wait_are_let_go() {
        universe(async |office, recorder| {
            let mut events = recorder.watch();
            let address = office.employ("fragile", "supervisor", Fragile);
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
