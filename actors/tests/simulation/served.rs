//! A simulated engine behind a socket. Its requests, its watchdog and its end are those of every engine
//! (`engine/process.rs`, `liveness.rs`, `body.rs`); only the process is scripted.
//!
//! Both ends of the socket are tasks of one thread, so the clock stands still until what was written has been read.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::pin::Pin;
use std::process::ExitStatus;
use std::rc::Rc;
use std::sync::Arc;

use demask_actors::engine::child::{Ending, EngineChild};
use demask_actors::engine::process::{EngineFailure, EngineProcess};
use demask_actors::engine::starter::{Asking, RunningEngine};
use demask_actors::runtime::fault_injection::FaultInjection;
use demask_api::{Answer, DeviceInfo, EngineInfo, PROTOCOL, Request, SampleFrame, wire};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::engine::{ScriptedEngine, scripted_device};
use crate::faults::{Hang, LastAct};
use crate::vitals::{Busy, VitalState, Vitals};

/// A simulated engine behind a socket, as its host has it.
pub struct ServedEngine {
    process: EngineProcess,
    vitals: Arc<Vitals>,
}

impl ServedEngine {
    /// Serves a simulated engine at a socket until its process ends, and reaches it there.
    pub async fn start(
        engine: ScriptedEngine,
        vitals: Arc<Vitals>,
        faults: FaultInjection,
    ) -> Result<Self, EngineFailure> {
        let socket = engine.laboratory.lock().unwrap().socket();
        let listener = UnixListener::bind(&socket).unwrap();
        let child = SimulatedChild(Arc::clone(&vitals));
        actix::spawn(serve(Rc::new(engine), Arc::clone(&vitals), listener));
        let urgency = vitals.urgency.clone();
        let process = EngineProcess::of_child(Box::new(child), socket, urgency, faults).await?;
        Ok(Self { process, vitals })
    }
}

impl RunningEngine for ServedEngine {
    fn ask<'a>(
        &'a self,
        request: &'a Request,
        on_frame: &'a mut (dyn FnMut(SampleFrame) + Send),
    ) -> Asking<'a> {
        Box::pin(async move {
            let asked = self.process.ask_watched(request, on_frame);
            let answer = self.vitals.awaited(asked).await;
            if answer.is_ok() {
                self.vitals.check_used();
            }
            answer
        })
    }

    fn who(&self) -> (u32, DeviceInfo) {
        let info = self.process.info();
        (info.pid, info.device.clone())
    }

    fn stop(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(async {
            self.vitals.awaited(self.process.stop()).await;
            self.vitals.check_exit();
        })
    }
}

/// Serves an engine's clients until its process has ended. All connections close then.
async fn serve(engine: Rc<ScriptedEngine>, vitals: Arc<Vitals>, listener: UnixListener) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = vitals.until(VitalState::has_ended) => return,
            Ok((client, _)) = listener.accept() => {
                clients.spawn_local(converse(Rc::clone(&engine), Arc::clone(&vitals), client));
            }
        }
        while clients.try_join_next().is_some() {}
    }
}

/// Answers the requests of a client one by one. What was begun for a client that has gone is done to its end.
async fn converse(engine: Rc<ScriptedEngine>, vitals: Arc<Vitals>, mut client: UnixStream) {
    loop {
        vitals.until(|state| !state.is_silent()).await;
        let Ok(Some(request)) = wire::read_async::<Request>(&mut client).await else {
            return;
        };
        vitals.until(|state| !state.is_silent()).await;
        let answer = match &request {
            Request::Heartbeat => vitals.heartbeat(),
            Request::Hello { .. } => hello(),
            Request::Exit => {
                let _busy = Busy::begin(&vitals);
                exits(&engine, &vitals).await
            }
            request => {
                let _busy = Busy::begin(&vitals);
                match engine.in_turn(request).await {
                    Ok(answer) => answer,
                    // It died of the request.
                    Err(_) => return vitals.end(libc::SIGKILL),
                }
            }
        };
        let is_written = wire::write_async(&mut client, &answer).await.is_ok();
        if request == Request::Exit && !vitals.now().is_stuck() {
            return vitals.end(0);
        }
        if !is_written {
            return;
        }
    }
}

fn hello() -> Answer {
    Answer::Hello(EngineInfo {
        protocol: PROTOCOL,
        version: "scripted".into(),
        libtorch: "none".into(),
        pid: 0,
        device: scripted_device(),
        sandbox: "none".into(),
    })
}

/// Answers a request to exit, if the schedule lets the engine answer it. An engine that stays makes no progress after
/// it.
async fn exits(engine: &ScriptedEngine, vitals: &Vitals) -> Answer {
    let _turn = engine.turn.lock().await;
    vitals.asked_to_exit();
    let act = engine.laboratory.lock().unwrap().last_act();
    match act {
        None => {}
        Some(LastAct::Dies) => {
            vitals.end(libc::SIGKILL);
            std::future::pending::<()>().await;
        }
        Some(LastAct::Stays) => vitals.stall(Hang::Endless),
        Some(LastAct::Silent) => vitals.stalls(Hang::Silent).await,
        Some(LastAct::Endless) => vitals.stalls(Hang::Endless).await,
    }
    Answer::Done
}

/// The process of a simulated engine, as the owner of a process has it.
struct SimulatedChild(Arc<Vitals>);

impl fmt::Debug for SimulatedChild {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("SimulatedChild")
    }
}

impl EngineChild for SimulatedChild {
    fn begin_kill(&mut self) -> io::Result<()> {
        self.0.kill();
        Ok(())
    }

    fn end(&mut self) -> Ending<'_> {
        Box::pin(async move {
            self.0.until(VitalState::has_ended).await;
            Ok(ExitStatus::from_raw(self.0.now().ended.unwrap_or_default()))
        })
    }
}

impl Drop for SimulatedChild {
    fn drop(&mut self) {
        self.0.end(libc::SIGKILL);
    }
}
