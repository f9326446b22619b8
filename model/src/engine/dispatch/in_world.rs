//! An engine as a rank of a world: the orders of rank 0, sharded weights that are gathered for a request, and the
//! folder that all ranks must see.

use std::path::Path;
use std::time::{Duration, Instant};

use demask_api::machine::host_name;
use demask_api::{Answer, Request, bounded_file};

use super::{Engine, not_loaded};
use crate::engine::aside::Nobody;
use crate::engine::process::fault::Fault;
use crate::engine::ranks::{self, Order};
use crate::error::{ModelError, Result};
use crate::weights::shards::leaves::ShardedLeaves;

/// How long a rank looks for a mark, unless it waits less long for its peers. NFS shows a new file to other machines
/// after up to a minute (`acdirmax`).
const LOOKING: Duration = Duration::from_secs(60);
/// How long a rank looks before it says so.
const SILENT: Duration = Duration::from_secs(5);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// The most bytes of a mark (law L9).
const LONGEST_MARK: u64 = 1024;

impl Engine {
    /// Executes the orders of rank 0 until one asks to exit. `fault` is the one that a test injects.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if rank 0 is gone or an order cannot be decoded, and a device fault.
    pub fn follow(&mut self, fault: &mut Fault) -> Result<()> {
        let Some((world, _)) = self.world.clone() else {
            return Ok(());
        };
        loop {
            let request = match ranks::decode(&world.await_order()?)? {
                Order::Do(request) if *request == Request::Exit => return Ok(()),
                Order::Do(request) => *request,
                Order::BringTogether => {
                    self.bring_together(false)?;
                    continue;
                }
            };
            // Ranks agree on failures: what failed here failed on every rank, and rank 0 reports it to the
            // client.
            let struck = fault.strike(&request);
            match struck.and_then(|()| self.answer(request, &mut |_| (), &mut Nobody)) {
                Err(lost @ ModelError::World(_)) => return Err(lost),
                Err(error) if error.is_device_fault() => return Err(error),
                Err(error) => tracing::warn!("{error}"),
                Ok(_) => {}
            }
        }
    }

    /// Gathers sharded weights on this rank, for a request that needs all of them. They stay gathered until
    /// the next step. Does nothing if the weights are not sharded or are gathered already.
    ///
    /// # Errors
    /// Returns libtorch's errors. If a peer is gone, this process exits.
    pub fn weights_at_hand(&mut self) -> Result<()> {
        let Some((world, _)) = self.world.clone() else {
            return Ok(());
        };
        let sharded = self
            .model
            .as_ref()
            .and_then(|model| model.backbone.parameters().sharded());
        if sharded.is_none_or(ShardedLeaves::are_all_here) {
            return Ok(());
        }
        let done = ranks::bring_together(&world).and_then(|()| self.bring_together(true));
        if let Err(lost @ ModelError::World(_)) = &done {
            crate::world::exit::leave(crate::world::exit::PEER_LOST, lost);
        }
        done
    }

    /// Checks that all ranks read this token in a file. All ranks call together.
    ///
    /// # Errors
    /// Returns [`ModelError::Refused`], which names the first rank that does not read it, its machine and the folder,
    /// and [`ModelError::World`] if a peer is gone.
    pub(super) fn read_mark(&self, path: &Path, token: &str) -> Result<Answer> {
        let agreed = match &self.world {
            // A rank may look for longer than the others wait within a step.
            Some((world, _)) => {
                let looking = LOOKING.min(world.step_limit());
                world.patiently(|| world.agree(read_mark(path, token, looking)))
            }
            None => read_mark(path, token, LOOKING),
        };
        agreed.map(|()| Answer::Done)
    }

    /// Takes part in gathering the weights; `stay` says whether they stay on this rank.
    fn bring_together(&self, stay: bool) -> Result<()> {
        let model = self.model.as_ref().ok_or_else(not_loaded)?;
        let share = model.optimizer.share();
        share.map_or(Ok(()), |share| {
            share.bring_together(model.backbone.parameters(), stay)
        })
    }
}

/// Looks for a file with this content until it is there or this time is over.
fn read_mark(path: &Path, token: &str, looking: Duration) -> Result<()> {
    let (began, mut said) = (Instant::now(), false);
    loop {
        let why = match bounded_file::read(path, LONGEST_MARK) {
            Ok(text) if text == token.as_bytes() => return Ok(()),
            Ok(_) => "its mark has another content".to_owned(),
            Err(error) => error.to_string(),
        };
        let folder = path.parent().unwrap_or(path).display();
        if began.elapsed() >= looking {
            let host = host_name();
            return Err(ModelError::Refused(format!(
                "the engine on {host} does not see the folder {folder} as the daemon does ({why}); the daemon's home \
                 (--home, DEMASK_HOME) must lie on a file system that all machines mount at the same path"
            )));
        }
        if began.elapsed() >= SILENT && !std::mem::replace(&mut said, true) {
            tracing::info!(
                "still looking for the file with which the daemon checks that this machine sees {folder} ({why}); a \
                 network file system may show it late; giving up after {} s",
                looking.as_secs()
            );
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_mark_that_comes_late_is_found_and_one_that_never_comes_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let mark = place.path().join("run/.mark");
        let refused = read_mark(&mark, "7", LOOK).unwrap_err().to_string();
        assert!(refused.contains("does not see the folder"), "{refused}");
        std::fs::create_dir(mark.parent().unwrap()).unwrap();
        // Seen before it is written to the end.
        std::fs::write(&mark, "").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(LOOK * 3);
                std::fs::write(&mark, "7").unwrap();
            });
            read_mark(&mark, "7", LOOKING).unwrap();
        });
    }
}
