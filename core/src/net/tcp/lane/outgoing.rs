//! The sending side of a lane: what waits, in which order it is written, and how.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use super::super::wire::{put_acknowledgement, put_data_head, put_goodbye, put_swim_head};
use super::Connection;
use crate::net::session::Outbox;

/// Bytes prepared for one write: a membership frame waits for at most this much.
const PREPARED_BYTES: usize = 64 << 10;
/// Slices of one vectored write.
const MAX_SLICES: usize = 64;
/// Payloads up to this size are copied behind their head; larger ones are slices of their own.
const COPY_BYTES: usize = 2 << 10;
/// Membership frames that wait for the connection.
const MAX_SWIM_FRAMES: usize = 256;
const MAX_SWIM_BYTES: usize = 256 << 10;

/// What the sending side holds.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) outbox: Outbox,
    swim: VecDeque<Bytes>,
    swim_bytes: usize,
    /// What is being written, split where payloads are not copied.
    prepared: VecDeque<Bytes>,
    prepared_bytes: usize,
    scratch: BytesMut,
    pub(super) connection: Option<Arc<Connection>>,
    /// The writer task has work; senders only queue.
    pub(super) is_writer_busy: bool,
    /// The last number acknowledged to the other end on this connection.
    pub(super) told: u64,
    pub(super) is_acknowledgement_due: bool,
    pub(super) is_open_wanted: bool,
    pub(super) is_overflowed: bool,
    goodbye: Goodbye,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Goodbye {
    No,
    Due,
    Prepared,
    Written,
}

/// What a turn of writing came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pumped {
    /// Nothing is left to write.
    Idle,
    /// The connection takes no more now.
    Blocked,
}

impl Outgoing {
    pub(super) fn new(outbox: Outbox) -> Self {
        Self {
            outbox,
            swim: VecDeque::new(),
            swim_bytes: 0,
            prepared: VecDeque::new(),
            prepared_bytes: 0,
            scratch: BytesMut::new(),
            connection: None,
            is_writer_busy: false,
            told: 0,
            is_acknowledgement_due: false,
            is_open_wanted: false,
            is_overflowed: false,
            goodbye: Goodbye::No,
        }
    }

    /// Queues a membership frame; false when an older one was dropped for it.
    pub(super) fn push_swim(&mut self, bytes: Bytes) -> bool {
        self.swim_bytes += bytes.len();
        self.swim.push_back(bytes);
        let mut is_kept = true;
        while self.swim.len() > MAX_SWIM_FRAMES || self.swim_bytes > MAX_SWIM_BYTES {
            let Some(oldest) = self.swim.pop_front() else {
                break;
            };
            self.swim_bytes -= oldest.len();
            is_kept = false;
        }
        is_kept
    }

    pub(super) fn say_goodbye(&mut self) {
        self.goodbye = self.goodbye.max(Goodbye::Due);
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.outbox.queued_bytes() + self.swim_bytes
    }

    /// Writes until nothing is left, the connection takes no more, or the budget is used up.
    pub(super) fn pump(&mut self, connection: &Connection, received: u64, budget_bytes: usize) -> io::Result<Pumped> {
        let mut written_bytes = 0;
        loop {
            self.prepare(received);
            if self.prepared.is_empty() {
                if self.goodbye == Goodbye::Prepared {
                    self.goodbye = Goodbye::Written;
                    connection.stream.finish();
                }
                return Ok(Pumped::Idle);
            }
            if written_bytes >= budget_bytes {
                return Ok(Pumped::Blocked);
            }
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut count = 0;
            for (slice, bytes) in slices.iter_mut().zip(&self.prepared) {
                *slice = IoSlice::new(bytes);
                count += 1;
            }
            match connection.stream.try_write(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    written_bytes += bytes;
                    self.advance(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Pumped::Blocked);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn is_connection(&self, id: u64) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.id == id)
    }

    /// Fills `prepared`: membership first, then an acknowledgement if none goes along, then frames of hubs.
    fn prepare(&mut self, received: u64) {
        if self.prepared_bytes >= PREPARED_BYTES || self.goodbye >= Goodbye::Prepared {
            return;
        }
        while self.prepared_bytes < PREPARED_BYTES {
            let Some(bytes) = self.swim.pop_front() else {
                break;
            };
            self.swim_bytes -= bytes.len();
            put_swim_head(&mut self.scratch, bytes.len());
            self.put_payload(bytes);
        }
        while self.prepared_bytes < PREPARED_BYTES {
            let Some(frame) = self.outbox.next_to_write() else {
                break;
            };
            put_data_head(&mut self.scratch, &frame, received);
            self.told = received;
            self.put_payload(frame.bytes);
        }
        if self.is_acknowledgement_due {
            self.is_acknowledgement_due = false;
            if received > self.told {
                put_acknowledgement(&mut self.scratch, received);
                self.told = received;
            }
        }
        if self.goodbye == Goodbye::Due && self.swim.is_empty() && self.outbox.is_written() {
            put_goodbye(&mut self.scratch);
            self.goodbye = Goodbye::Prepared;
        }
        self.flush_scratch();
    }

    fn put_payload(&mut self, bytes: Bytes) {
        if bytes.len() <= COPY_BYTES {
            self.scratch.extend_from_slice(&bytes);
            self.prepared_bytes += bytes.len();
        } else {
            self.flush_scratch();
            self.prepared_bytes += bytes.len();
            self.prepared.push_back(bytes);
        }
    }

    fn flush_scratch(&mut self) {
        if !self.scratch.is_empty() {
            let bytes = self.scratch.split().freeze();
            self.prepared.push_back(bytes);
        }
        self.prepared_bytes = self.prepared.iter().map(Bytes::len).sum();
    }

    fn advance(&mut self, mut bytes: usize) {
        self.prepared_bytes -= bytes;
        while bytes > 0 {
            let Some(first) = self.prepared.front_mut() else {
                return;
            };
            if bytes < first.len() {
                first.advance(bytes);
                return;
            }
            bytes -= first.len();
            self.prepared.pop_front();
        }
    }

    pub(super) fn detach(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.stream.shut_down();
            connection.wake.notify_one();
        }
        self.swim.clear();
        self.swim_bytes = 0;
        self.prepared.clear();
        self.prepared_bytes = 0;
        self.scratch.clear();
        self.is_writer_busy = false;
        self.is_acknowledgement_due = false;
        self.is_open_wanted = false;
        self.goodbye = Goodbye::No;
    }
}
