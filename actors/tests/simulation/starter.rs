//! Starts simulated engines: in one setting behind a socket, under the watchdog of every engine; in the others, without
//! either.

use demask_actors::engine::options::EngineOptions;
use demask_actors::engine::process::EngineFailure;
use demask_actors::engine::starter::{EngineStarter, RunningEngine, Starting};
use demask_actors::runtime::fault_injection::FaultInjection;

use crate::engine::ScriptedEngine;
use crate::laboratory::{Role, SharedLaboratory};
use crate::schedule::Setting;
use crate::served::ServedEngine;
use crate::vitals::Vitals;

/// Starts simulated engines.
pub struct ScriptedStarter {
    pub laboratory: SharedLaboratory,
    /// A deliberate bug of the watchdog.
    pub faults: FaultInjection,
}

impl EngineStarter for ScriptedStarter {
    fn start<'a>(&'a self, options: &'a EngineOptions) -> Starting<'a> {
        Box::pin(async move {
            let role = Role::of(options);
            let (delay, starts, setting) = {
                let mut laboratory = self.laboratory.lock().unwrap();
                let delay = laboratory.delay();
                let starts = laboratory.starts(role, options.ranks);
                (delay, starts, laboratory.ground.setting)
            };
            tokio::time::sleep(delay).await;
            if !starts {
                return Err(EngineFailure::Start {
                    program: "scripted".into(),
                    message: "no descriptor is left".into(),
                });
            }
            let vitals =
                (setting == Setting::Watched).then(|| Vitals::new(&self.laboratory, options.urgency.clone()));
            let engine = ScriptedEngine::new(&self.laboratory, role, options, vitals.clone());
            match vitals {
                Some(vitals) => {
                    let served = ServedEngine::start(engine, vitals, self.faults.clone()).await?;
                    Ok(Box::new(served) as Box<dyn RunningEngine>)
                }
                None => Ok(Box::new(engine) as Box<dyn RunningEngine>),
            }
        })
    }
}
