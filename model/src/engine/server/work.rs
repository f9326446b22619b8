//! The handling of requests by the computing thread, one after another, and of sampling requests in one running batch.

use std::collections::BTreeMap;

use demask_api::{Answer, EngineError, Request, SampleRequest};

use super::connection::{Job, Requester};
use super::guarded::{answer_aside, of_device, whole};
use super::inbox::{Inbox, Meanwhile};
use crate::device::heartbeat;
use crate::engine::dispatch::Engine;
use crate::engine::process::fault::Fault;
use crate::engine::process::shutdown::ShutdownSignal;
use crate::error::Result;

/// The reason why serving ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Served {
    /// A client or a signal asked for the end.
    Asked,
    /// The device failed, with libtorch's message. Nothing works on it in this process any more, not even an
    /// orderly shutdown.
    DeviceFailed(String),
}

/// Handles requests until an exit request, a device failure, or the end of all clients.
pub(super) fn work(
    engine: &mut Engine,
    mut inbox: Inbox,
    shutdown: &ShutdownSignal,
    mut fault: Fault,
) -> Served {
    while let Some(Job { request, client }) = inbox.wait() {
        heartbeat::set_busy(true);
        let struck = fault.strike(&request);
        let done = match request {
            Request::Sample { requests } => sample(engine, (requests, client), &mut inbox, struck),
            Request::Exit => {
                // An exit request also ends the other ranks, if there are any.
                engine.handle(Request::Exit, &mut |_| ()).ok();
                client.write(&Answer::Done);
                shutdown.ask();
                return Served::Asked;
            }
            Request::Aside { request } => {
                let ready = engine.weights_at_hand();
                let answered = answer_aside(ready.and_then(|()| engine.desk()), *request, &client);
                answered.map_err(|message| EngineError::Device { message })
            }
            request => {
                let handled = whole(engine, |engine| {
                    struck?;
                    if let Request::LogLikelihoods { queries } = &request {
                        return engine.log_likelihoods(queries, &|| client.is_gone());
                    }
                    engine.handle_among(
                        request,
                        &mut |frame| client.write(&Answer::Frame(frame)),
                        &mut inbox,
                    )
                });
                client.write(&handled.clone().unwrap_or_else(Answer::Failed));
                handled.map(|_| ())
            }
        };
        if let Err(EngineError::Device { message }) = done {
            shutdown.ask();
            return Served::DeviceFailed(message);
        }
        heartbeat::set_busy(false);
    }
    Served::Asked
}

/// Samples for one client, and for all clients whose sampling requests arrive meanwhile.
fn sample(
    engine: &mut Engine,
    first: (Vec<SampleRequest>, Requester),
    inbox: &mut Inbox,
    struck: Result<()>,
) -> std::result::Result<(), EngineError> {
    let (requests, client) = first;
    let mut clients = BTreeMap::from([(0, client)]);
    let sampled = whole(engine, |engine| {
        struck?;
        engine.weights_at_hand()?;
        sample_together(engine, requests, inbox, &mut clients)
    });
    if let Err(error) = &sampled {
        for client in clients.values() {
            client.write(&Answer::Failed(error.clone()));
        }
    }
    sampled
}

/// Samples requests, and those of other clients that arrive meanwhile, in one running batch. A client whose connection
/// is closed loses its rows. An error of one client's request is sent to that client only, but a failure of the device
/// ends all.
fn sample_together(
    engine: &Engine,
    requests: Vec<SampleRequest>,
    inbox: &mut Inbox,
    clients: &mut BTreeMap<usize, Requester>,
) -> Result<()> {
    let mut sampling = engine.sampling()?;
    sampling.join(0, requests)?;
    let mut number = 0;
    while !sampling.is_empty() {
        while let Some((meanwhile, client)) = inbox.meanwhile() {
            let requests = match meanwhile {
                Meanwhile::Join(requests) => requests,
                Meanwhile::Aside(request) => {
                    answer_aside(engine.desk(), request, &client).map_err(of_device)?;
                    continue;
                }
            };
            number += 1;
            clients.insert(number, client);
            if let Err(error) = sampling.join(number, requests)
                && let Some(client) = clients.remove(&number)
            {
                client.write(&Answer::Failed(error.into()));
            }
        }
        for (gone, _) in clients.extract_if(.., |_, client| client.is_gone()) {
            sampling.leave(gone);
        }
        let answers = sampling.step(&mut |number, frame| {
            if let Some(client) = clients.get(&number) {
                client.write(&Answer::Frame(frame));
            }
        })?;
        for (number, answer) in answers {
            if let Answer::Failed(EngineError::Device { message }) = answer {
                return Err(of_device(message));
            }
            if let Some(client) = clients.remove(&number) {
                client.write(&answer);
            }
        }
    }
    Ok(())
}
