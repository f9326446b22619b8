//! The traits of a transport to an external reward and of its opener. Production starts a process or posts to an
//! address; a simulation scripts the answers.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use super::address::RewardAddress;
use super::process::RewardProcess;
use crate::profile::ExternalReward;

/// A pending answer of an external reward.
pub type RewardAnswering<'a> = Pin<Box<dyn Future<Output = Result<String, String>> + Send + 'a>>;

/// An open transport to an external reward.
pub trait RewardTransport: Debug + Send {
    /// Sends a batch, which is one line of JSON, and returns the text of the answer, or a message if there is none. The
    /// caller limits the time. A transport whose answer was abandoned or wrong is not used again.
    fn ask<'a>(&'a mut self, batch: &'a [u8]) -> RewardAnswering<'a>;

    /// Returns what the reward said last to people, for a message; empty if it said nothing.
    fn said_last(&self) -> String {
        String::new()
    }
}

/// An opener of transports.
pub trait RewardOpener: Debug + Send + Sync {
    /// Opens the transport to a reward of a run.
    ///
    /// # Errors
    /// A message if the reward cannot be started or reached.
    fn open(&self, reward: &ExternalReward, run: &str) -> Result<Box<dyn RewardTransport>, String>;
}

/// The opener of the processes and addresses that a profile names.
#[derive(Clone, Copy, Debug, Default)]
pub struct NamedRewards;

impl RewardOpener for NamedRewards {
    fn open(&self, reward: &ExternalReward, run: &str) -> Result<Box<dyn RewardTransport>, String> {
        match reward.url {
            Some(_) => Ok(Box::new(RewardAddress::open(reward)?)),
            None => Ok(Box::new(RewardProcess::start(reward, run)?)),
        }
    }
}

impl RewardTransport for RewardAddress {
    fn ask<'a>(&'a mut self, batch: &'a [u8]) -> RewardAnswering<'a> {
        Box::pin(Self::ask(self, batch))
    }
}

impl RewardTransport for RewardProcess {
    fn ask<'a>(&'a mut self, batch: &'a [u8]) -> RewardAnswering<'a> {
        Box::pin(Self::ask(self, batch))
    }

    fn said_last(&self) -> String {
        Self::said_last(self)
    }
}
