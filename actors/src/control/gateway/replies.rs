//! The last replies to commands that change something, by message id, so that a command is done once however often it is
//! sent (law L1): also while it is under way, as when a client has lost its connection and asks again. Another command under
//! the same id is not taken for a repetition, which would lose it.

use std::collections::{HashMap, VecDeque};

use demask_storage::Reply;
use tokio::sync::oneshot;

/// Replies that are remembered for repeated commands.
const REMEMBERED: usize = 1024;

/// What is known of a message when it comes.
#[derive(Debug)]
pub(super) enum KnownReply {
    /// Nothing: whoever asks does the command, and tells the reply with [`RecentReplies::keep`].
    None,
    /// The command is under way, and the reply will come here.
    Coming(oneshot::Receiver<Reply>),
    /// The command is done.
    Given(Reply),
    /// Another command has this id.
    OfAnother,
}

/// The last replies to commands that change something, by message id.
#[derive(Debug, Default)]
pub(super) struct RecentReplies {
    replies: HashMap<String, (blake3::Hash, Reply)>,
    /// Ids of the replies, oldest first.
    order: VecDeque<String>,
    /// Commands that are under way and those who wait for their replies, by message id.
    coming: HashMap<String, (blake3::Hash, Vec<oneshot::Sender<Reply>>)>,
}

impl RecentReplies {
    /// Returns what is known of this message, whose command has this hash, and notes that it is under way if nothing is.
    pub(super) fn of(&mut self, id: &str, command: blake3::Hash) -> KnownReply {
        if let Some((known, reply)) = self.replies.get(id) {
            return match *known == command {
                true => KnownReply::Given(reply.clone()),
                false => KnownReply::OfAnother,
            };
        }
        let Some((known, waiting)) = self.coming.get_mut(id) else {
            self.coming.insert(id.to_owned(), (command, Vec::new()));
            return KnownReply::None;
        };
        if *known != command {
            return KnownReply::OfAnother;
        }
        let (sender, receiver) = oneshot::channel();
        waiting.push(sender);
        KnownReply::Coming(receiver)
    }

    /// Gives the reply to everyone who waits for it, and remembers it. A stop that the disk has not confirmed may be
    /// confirmed when it is asked for again, so that reply is not remembered.
    pub(super) fn keep(&mut self, id: String, reply: Reply) {
        let Some((command, waiting)) = self.coming.remove(&id) else {
            return;
        };
        for waiting in waiting {
            waiting.send(reply.clone()).ok();
        }
        if matches!(reply, Reply::Taken { .. }) {
            return;
        }
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.replies.remove(&oldest);
        }
        self.order.push_back(id.clone());
        self.replies.insert(id, (command, reply));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hash(command: &str) -> blake3::Hash {
        blake3::hash(command.as_bytes())
    }

    fn accepted(step: u64) -> Reply {
        let message = String::new();
        Reply::Accepted { message, step }
    }

    #[test]
    fn the_newest_replies_are_remembered_and_the_oldest_forgotten() {
        let mut memory = RecentReplies::default();
        for number in 0..=REMEMBERED as u64 {
            assert!(matches!(
                memory.of(&number.to_string(), hash("pause")),
                KnownReply::None
            ));
            memory.keep(number.to_string(), accepted(number));
        }
        assert_eq!(memory.replies.len(), REMEMBERED);
        assert!(matches!(memory.of("1", hash("pause")), KnownReply::Given(reply) if reply == accepted(1)));
        assert!(
            matches!(memory.of("0", hash("pause")), KnownReply::None),
            "it was forgotten"
        );
    }

    #[test]
    fn l1_a_command_that_is_under_way_is_not_done_again() {
        let mut memory = RecentReplies::default();
        assert!(matches!(memory.of("enqueue", hash("run")), KnownReply::None));
        let [KnownReply::Coming(one), KnownReply::Coming(other)] =
            [(); 2].map(|()| memory.of("enqueue", hash("run")))
        else {
            unreachable!("it is under way")
        };
        let mut waiting = [one, other];
        assert!(waiting[0].try_recv().is_err(), "there is no reply yet");
        let other = memory.of("enqueue", hash("another run"));
        assert!(matches!(other, KnownReply::OfAnother), "{other:?}");
        memory.keep("enqueue".into(), accepted(7));
        for waiting in &mut waiting {
            assert_eq!(waiting.try_recv().unwrap(), accepted(7));
        }
        assert!(
            matches!(memory.of("enqueue", hash("run")), KnownReply::Given(reply) if reply == accepted(7))
        );
        let other = memory.of("enqueue", hash("another run"));
        assert!(matches!(other, KnownReply::OfAnother), "{other:?}");
    }

    #[test]
    fn l4_a_stop_that_is_not_confirmed_is_asked_for_again() {
        let mut memory = RecentReplies::default();
        assert!(matches!(memory.of("stop", hash("stop")), KnownReply::None));
        let message = String::new();
        memory.keep("stop".into(), Reply::Taken { message, step: 1 });
        assert!(matches!(memory.of("stop", hash("stop")), KnownReply::None));
    }
}
