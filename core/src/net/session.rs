//! What makes a link outlive its connections: numbering, acknowledging, resending and dropping duplicates. Pure.
//!
//! A session is two *halves*, one per end, each with a random id, that bind to each other when they first meet
//! ([`Half::meet`]). Each lane of a half has a [`Outbox`] and an [`Inbox`]. While both halves live, every frame
//! taken by an outbox leaves the other end's inbox once and in order, whatever happens to the connections. A half
//! that is thrown away is noticed by the other end at the next meeting, which then throws away its own.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Channel;

/// Accounted for each queued frame on top of its bytes, so that empty frames are bounded too.
const FRAME_OVERHEAD_BYTES: usize = 64;

/// A frame with its number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Numbered {
    /// Counts from 1 within a session and lane.
    pub(crate) seq: u64,
    /// For whom.
    pub(crate) channel: Channel,
    /// The frame.
    pub(crate) bytes: Bytes,
}

impl Numbered {
    fn cost_bytes(&self) -> usize {
        self.bytes.len() + FRAME_OVERHEAD_BYTES
    }
}

/// The queue is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Full;

/// The other end broke the protocol of the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Violation {
    /// It acknowledged a frame that was never sent.
    AcknowledgedUnsent {
        /// What it acknowledged.
        acknowledged: u64,
        /// The last number sent.
        sent: u64,
    },
    /// It left out a frame.
    Gap {
        /// The next number.
        expected: u64,
        /// The number that came.
        actual: u64,
    },
}

/// The sending side of one lane: frames stay until they are acknowledged.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// Unacknowledged frames, oldest first.
    frames: VecDeque<Numbered>,
    /// How many of `frames` were written to the present connection.
    written: usize,
    /// The cost of those.
    written_bytes: usize,
    queued_bytes: usize,
    last_seq: u64,
    /// The largest number ever written, on any connection.
    last_written: u64,
    limit_bytes: usize,
    window_bytes: usize,
}

impl Outbox {
    /// An outbox that holds at most `limit_bytes` and has at most `window_bytes` unacknowledged on the wire.
    pub(crate) fn new(limit_bytes: usize, window_bytes: usize) -> Self {
        Self {
            frames: VecDeque::new(),
            written: 0,
            written_bytes: 0,
            queued_bytes: 0,
            last_seq: 0,
            last_written: 0,
            limit_bytes,
            window_bytes,
        }
    }

    /// Takes a frame.
    pub(crate) fn push(&mut self, channel: Channel, bytes: Bytes) -> Result<(), Full> {
        let frame = Numbered { seq: self.last_seq + 1, channel, bytes };
        let queued_bytes = self.queued_bytes + frame.cost_bytes();
        if queued_bytes > self.limit_bytes {
            return Err(Full);
        }
        self.queued_bytes = queued_bytes;
        self.last_seq += 1;
        self.frames.push_back(frame);
        Ok(())
    }

    /// The next frame to write, unless the window is used up. One frame may always be on the wire.
    pub(crate) fn next_to_write(&mut self) -> Option<Numbered> {
        let frame = self.frames.get(self.written)?;
        let written_bytes = self.written_bytes + frame.cost_bytes();
        if self.written > 0 && written_bytes > self.window_bytes {
            return None;
        }
        self.written += 1;
        self.written_bytes = written_bytes;
        self.last_written = self.last_written.max(frame.seq);
        Some(frame.clone())
    }

    /// The other end has every frame up to `seq`.
    pub(crate) fn acknowledge(&mut self, seq: u64) -> Result<(), Violation> {
        if seq > self.last_written {
            return Err(Violation::AcknowledgedUnsent { acknowledged: seq, sent: self.last_written });
        }
        while self.frames.front().is_some_and(|frame| frame.seq <= seq) {
            let Some(frame) = self.frames.pop_front() else {
                break;
            };
            self.queued_bytes -= frame.cost_bytes();
            // A frame written to an earlier connection may be acknowledged before it is written again.
            if self.written > 0 {
                self.written -= 1;
                self.written_bytes -= frame.cost_bytes();
            }
        }
        Ok(())
    }

    /// A new connection: the other end has every frame up to `received`, the rest is written again.
    pub(crate) fn resume(&mut self, received: u64) -> Result<(), Violation> {
        self.acknowledge(received)?;
        self.written = 0;
        self.written_bytes = 0;
        Ok(())
    }

    /// Whether everything was acknowledged.
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether everything was written to the present connection.
    pub(crate) fn is_written(&self) -> bool {
        self.written == self.frames.len()
    }

    /// What is held, in bytes.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }
}

/// The receiving side of one lane.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    received: u64,
}

impl Inbox {
    /// Whether the frame with this number is new; a duplicate is not.
    pub(crate) fn accept(&mut self, seq: u64) -> Result<bool, Violation> {
        if seq <= self.received {
            return Ok(false);
        }
        if seq != self.received + 1 {
            return Err(Violation::Gap { expected: self.received + 1, actual: seq });
        }
        self.received = seq;
        Ok(true)
    }

    /// Every frame up to this number has arrived.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }
}

/// What an end tells about its half of a session when it meets the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Claim {
    /// The id of its half; never 0.
    pub(crate) half: u64,
    /// The id of the other end's half that it is bound to; 0 for none.
    pub(crate) bound_to: u64,
}

/// One end's half of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Half {
    id: u64,
    bound_to: u64,
}

/// What a meeting comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Meeting {
    /// The halves belong together, or may be bound: go on from the numbers both tell.
    Match,
    /// Ours belongs to a half that the other end threw away: throw away ours and meet again.
    ResetOurs,
    /// Theirs belongs to a half that we threw away: tell our claim, so that they notice.
    ResetTheirs,
}

impl Half {
    /// A half that met nobody yet. `id` is random.
    pub(crate) fn new(id: u64) -> Self {
        Self { id: id.max(1), bound_to: 0 }
    }

    /// What to tell the other end.
    pub(crate) fn claim(&self) -> Claim {
        Claim { half: self.id, bound_to: self.bound_to }
    }

    /// Compares this half with what the other end claims.
    ///
    /// Binding takes place at one end before the other, and what tells the other may be lost with the connection.
    /// So an unbound half also matches one that is bound to it already.
    pub(crate) fn meet(&self, theirs: Claim) -> Meeting {
        if self.bound_to != 0 && self.bound_to != theirs.half {
            return Meeting::ResetOurs;
        }
        if theirs.bound_to != 0 && theirs.bound_to != self.id {
            return Meeting::ResetTheirs;
        }
        Meeting::Match
    }

    /// Binds to the other end's half after a [`Meeting::Match`].
    pub(crate) fn bind(&mut self, theirs: Claim) {
        self.bound_to = theirs.half;
    }
}

#[cfg(test)]
mod tests;
