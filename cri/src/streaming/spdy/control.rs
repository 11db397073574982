//! Answers that wait to be written: replies, resets, pings, windows. The reading side never waits for the writing side, or a
//! client that sends before it reads could not be served; so this is a bounded list, and windows of a stream are added up.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use bytes::BytesMut;
use tokio::sync::Notify;

use super::frame::{self, ProtocolError, Reset, StreamId};
use super::window::lock;
use crate::streaming::limits::MAX_QUEUED_ANSWERS;

/// A frame other than data and windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Reply(StreamId),
    Reset(StreamId, Reset),
    Ping(u32),
}

#[derive(Debug, Default)]
struct Waiting {
    answers: VecDeque<Answer>,
    credits: BTreeMap<StreamId, u32>,
    replied: bool,
}

/// The list.
#[derive(Debug, Default)]
pub(super) struct Control {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

impl Control {
    /// Adds an answer.
    ///
    /// # Errors
    /// If the peer made too many necessary and reads none.
    pub(super) fn push(&self, answer: Answer) -> Result<(), ProtocolError> {
        let mut waiting = lock(&self.waiting);
        if waiting.answers.len() >= MAX_QUEUED_ANSWERS {
            return Err(ProtocolError::Unread(MAX_QUEUED_ANSWERS));
        }
        waiting.answers.push_back(answer);
        drop(waiting);
        self.changed.notify_one();
        Ok(())
    }

    /// Lets the peer send more.
    pub(super) fn credit(&self, stream: StreamId, bytes: u32) {
        let mut waiting = lock(&self.waiting);
        let credit = waiting.credits.entry(stream).or_default();
        *credit = credit.saturating_add(bytes);
        drop(waiting);
        self.changed.notify_one();
    }

    /// No more windows for a stream.
    pub(super) fn forget(&self, stream: StreamId) {
        lock(&self.waiting).credits.remove(&stream);
    }

    /// Writes all that waits to `out`.
    pub(super) fn take(&self, out: &mut BytesMut) {
        let mut waiting = lock(&self.waiting);
        while let Some(answer) = waiting.answers.pop_front() {
            match answer {
                Answer::Reply(stream) => {
                    frame::put_syn_reply(out, stream, !waiting.replied);
                    waiting.replied = true;
                }
                Answer::Reset(stream, why) => frame::put_reset(out, stream, why),
                Answer::Ping(id) => frame::put_ping(out, id),
            }
        }
        for (stream, bytes) in std::mem::take(&mut waiting.credits) {
            frame::put_window_update(out, stream, bytes);
        }
    }

    /// Returns once something was added.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_reads_no_answers_is_found_out() {
        let control = Control::default();
        let pushed = (0..).take_while(|id| control.push(Answer::Ping(*id)).is_ok()).count();
        assert_eq!(pushed, MAX_QUEUED_ANSWERS);
        let mut out = BytesMut::new();
        control.take(&mut out);
        assert_eq!(out.len(), MAX_QUEUED_ANSWERS * 12);
        assert!(control.push(Answer::Ping(1)).is_ok());
    }

    #[test]
    fn windows_of_a_stream_are_one_frame() {
        let control = Control::default();
        (0..1000).for_each(|_| control.credit(3, 2));
        let mut out = BytesMut::new();
        control.take(&mut out);
        let mut expected = BytesMut::new();
        frame::put_window_update(&mut expected, 3, 2000);
        assert_eq!(out, expected);
    }
}
