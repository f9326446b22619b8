//! Executes a schedule: several lives of a daemon over one home, each with its own clock.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::System;
use demask_actors::daemon::{EndedWithoutDisk, serve_here};
use demask_actors::home::Home;
use demask_actors::run::driver::StageDriver;
use demask_actors::run::run_actors::Transports;
use demask_actors::runtime::actor::work_here;
use demask_actors::runtime::fault_injection::FaultInjection;
use demask_actors::runtime::recorder::{Recorder, SimulatedDisk};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::ground::Ground;
use crate::laboratory::{Laboratory, SharedLaboratory};
use crate::laws::{self, Remains};
use crate::people::{self, Cast, SharedCast};
use crate::rewards::ScriptedRewards;
use crate::schedule::{Bug, Schedule};
use crate::starter::ScriptedStarter;
use crate::teacher::ScriptedTeacher;

/// Number of daemon lives after which a schedule is given up.
const MOST_LIVES: u64 = 16;

/// The outcome of a schedule.
pub struct Story {
    pub seed: u64,
    /// Number of daemon lives.
    pub lives: u64,
    pub violations: Vec<String>,
    pub log: Vec<String>,
    pub remains: Option<Remains>,
}

/// How a daemon's life ended.
#[derive(Debug)]
enum LifeEnd {
    Killed,
    InGoodOrder,
    /// It was told twice to end, on a disk that did not answer.
    WithoutDisk,
    Failed(String),
    /// A violation of a law was observed.
    Broken,
}

/// Executes a schedule.
pub fn live_through(schedule: &Schedule, ground: &Arc<Ground>) -> Story {
    let folder = tempfile::tempdir_in(ground.room()).unwrap();
    let home = Home::open(Some(folder.path().join("home"))).unwrap();
    std::fs::create_dir(home.root()).unwrap();
    std::fs::copy(ground.store(), home.database()).unwrap();
    let laboratory = Laboratory::of(schedule, ground, home.database());
    let cast = Cast::of(schedule);
    let bug = match schedule.bug {
        Some(Bug::Actors(bug)) => Some(bug),
        _ => None,
    };
    let faults = FaultInjection::at(&schedule.panics).with_bug(bug);
    let mut story = Story {
        seed: schedule.seed,
        lives: 0,
        violations: Vec::new(),
        log: vec![format!("{schedule:?}")],
        remains: None,
    };
    while cast.borrow().ended.is_none() && story.violations.is_empty() {
        let kill = usize::try_from(story.lives)
            .ok()
            .and_then(|life| schedule.kills.get(life));
        let life = Life {
            schedule,
            ground,
            home: &home,
            laboratory: &laboratory,
            cast: &cast,
            faults: &faults,
            number: story.lives,
        };
        cast.borrow_mut().begin_life();
        laboratory.lock().unwrap().begin_life();
        let end = life.live(kill.copied());
        std::fs::remove_file(home.socket().unwrap()).ok();
        story.lives += 1;
        cast.borrow_mut()
            .log
            .push(format!("life {} ended: {end:?}", story.lives));
        match end {
            LifeEnd::Failed(why) => story.violations.push(format!("L1: the daemon failed: {why}")),
            LifeEnd::InGoodOrder => people::check_taken(&home, &mut cast.borrow_mut()),
            LifeEnd::WithoutDisk => cast.borrow_mut().without_disk(),
            LifeEnd::Broken | LifeEnd::Killed => {}
        }
        if story.lives == MOST_LIVES {
            story
                .violations
                .push(format!("L1: {MOST_LIVES} lives of the daemon do not end the run"));
        }
        story.violations.append(&mut cast.borrow_mut().violations);
        story
            .violations
            .append(&mut laboratory.lock().unwrap().violations);
    }
    if story.violations.is_empty() {
        let remains = Remains::of(&home, &cast.borrow(), ground);
        story.violations = laws::broken(&remains, &cast.borrow(), schedule, ground);
        story.remains = Some(remains);
    }
    story.log.append(&mut cast.borrow_mut().log);
    story.log.append(&mut laboratory.lock().unwrap().log);
    story
}

/// Does work in simulated time, on a clock of its own.
pub fn on_a_clock<T>(work: impl Future<Output = T>) -> T {
    let clock = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    };
    System::with_tokio_rt(clock).block_on(work)
}

/// One life of the daemon.
struct Life<'a> {
    schedule: &'a Schedule,
    ground: &'a Arc<Ground>,
    home: &'a Home,
    laboratory: &'a SharedLaboratory,
    cast: &'a SharedCast,
    faults: &'a FaultInjection,
    number: u64,
}

impl Story {
    /// Returns the outcome of a schedule in which the test itself panicked.
    pub fn of_panic(seed: u64) -> Self {
        Self {
            seed,
            lives: 0,
            violations: vec!["the simulation panicked".into()],
            log: Vec::new(),
            remains: None,
        }
    }
}

impl Life<'_> {
    /// Runs the daemon until it ends, or until it is killed after `kill`.
    fn live(&self, kill: Option<Duration>) -> LifeEnd {
        // Dropping everything that runs on the clock, at whatever point it is, simulates the kill.
        on_a_clock(self.lived(kill))
    }

    async fn lived(&self, kill: Option<Duration>) -> LifeEnd {
        work_here();
        let _lock = self.home.lock().unwrap();
        let recorder = Recorder::start_here(&self.home.database(), self.disk()).unwrap();
        let engines = Arc::new(ScriptedStarter {
            laboratory: Arc::clone(self.laboratory),
            faults: self.faults.clone(),
        });
        let transports = Transports {
            rewards: Arc::new(ScriptedRewards(Arc::clone(self.laboratory))),
            teacher: Arc::new(ScriptedTeacher(Arc::clone(self.laboratory))),
        };
        let driver = StageDriver::with_faults(self.faults.clone()).with_transports(transports);
        let driver = Rc::new(driver);
        let mut serving = actix::spawn(serve_here(self.home.clone(), recorder, driver, engines));
        let (home, ground, cast) = (self.home.clone(), Arc::clone(self.ground), Rc::clone(self.cast));
        let laboratory = Arc::clone(self.laboratory);
        let steering = actix::spawn(async move { people::steer(home, &ground, cast, laboratory).await });
        let steered = async {
            match steering.await {
                Ok(()) => std::future::pending().await,
                Err(panic) => format!("who steers: {panic}"),
            }
        };
        let watching = people::watch(
            self.home.clone(),
            Rc::clone(self.cast),
            Arc::clone(self.laboratory),
        );
        let killed = async {
            match kill {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            ended = &mut serving => match ended {
                Ok(Ok(())) => LifeEnd::InGoodOrder,
                Ok(Err(error)) if error.is::<EndedWithoutDisk>() => LifeEnd::WithoutDisk,
                Ok(Err(error)) => LifeEnd::Failed(format!("{error:#}")),
                Err(error) => LifeEnd::Failed(error.to_string()),
            },
            () = killed => LifeEnd::Killed,
            why = steered => LifeEnd::Failed(why),
            () = watching => LifeEnd::Broken,
            // Whoever watches waits for the end too, once the run is over.
            () = tokio::time::sleep(self.schedule.longest_life() * 2) => {
                self.cast.borrow_mut().breaks("L10: the daemon does not end".into());
                LifeEnd::Broken
            }
        }
    }

    fn disk(&self) -> SimulatedDisk {
        let mut rng = ChaCha8Rng::seed_from_u64(self.schedule.seed ^ (self.number << 32));
        let slowest = self.schedule.slowest_commit;
        let laboratory = Arc::clone(self.laboratory);
        let delay = move || {
            let usual = slowest.mul_f64(rng.random::<f64>().powi(3));
            usual.max(laboratory.lock().unwrap().stall_left())
        };
        SimulatedDisk {
            delay: Some(Box::new(delay)),
            acknowledges_early: self.schedule.bug == Some(Bug::LateRows),
        }
    }
}
