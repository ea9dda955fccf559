//! One lane to one peer: its queue, its present connection, and the tasks that read and write it.
//!
//! A sender writes directly when the connection takes the bytes; when it does not, the writer task goes on. Locks:
//! `incoming` is held while frames are given to the sink, which may lock `outgoing`, never the other way round.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::outgoing::{Outgoing, Pumped};
use super::stream::Stream;
use super::wire::max_payload_bytes;
use crate::engine::Lane;
use crate::net::session::{Inbox, Outbox, Violation};
use crate::net::{Channel, SendError};

mod outgoing;

/// A sender writes at most this much itself before it leaves the rest to the writer task.
const DIRECT_BYTES: usize = 256 << 10;

/// Bounds of one lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LaneLimits {
    /// Unacknowledged and waiting frames together (R17).
    pub(super) queue_bytes: usize,
    /// Unacknowledged bytes on the wire.
    pub(super) window_bytes: usize,
    /// Received bytes after which an acknowledgement is sent at once.
    pub(super) acknowledge_bytes: usize,
    /// Longest an acknowledgement waits for a frame to go with.
    pub(super) acknowledge_delay: Duration,
}

/// One authenticated connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) stream: Stream,
    /// Wakes the writer task.
    pub(super) wake: Notify,
}

#[derive(Debug, Default)]
struct Incoming {
    inbox: Inbox,
    connection_id: u64,
}

/// What has to happen after a frame was queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AfterSend {
    Nothing,
    /// There is no connection yet and nobody asked for one.
    Open,
}

/// Why a frame was not queued.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct NotQueued {
    pub(super) error: SendError,
    /// The session has to be reset, and this is the first to say so.
    pub(super) is_reset_due: bool,
}

/// One lane to one peer.
#[derive(Debug)]
pub(super) struct LaneLink {
    lane: Lane,
    limits: LaneLimits,
    outgoing: Mutex<Outgoing>,
    incoming: Mutex<Incoming>,
    received: AtomicU64,
}

impl LaneLink {
    pub(super) fn new(lane: Lane, limits: LaneLimits) -> Self {
        Self {
            lane,
            limits,
            outgoing: Mutex::new(Outgoing::new(Self::outbox(limits))),
            incoming: Mutex::new(Incoming::default()),
            received: AtomicU64::new(0),
        }
    }

    fn outbox(limits: LaneLimits) -> Outbox {
        Outbox::new(limits.queue_bytes, limits.window_bytes)
    }

    pub(super) fn limits(&self) -> LaneLimits {
        self.limits
    }

    pub(super) fn lane(&self) -> Lane {
        self.lane
    }

    /// Queues a frame of a hub and writes what the connection takes.
    pub(super) fn send(&self, channel: &Channel, bytes: Bytes) -> Result<AfterSend, NotQueued> {
        check_size(self.lane, bytes.len()).map_err(|error| NotQueued { error, is_reset_due: false })?;
        let mut outgoing = self.outgoing.lock();
        let is_full = outgoing.is_overflowed || outgoing.outbox.push(channel.clone(), bytes).is_err();
        if is_full {
            let is_reset_due = !outgoing.is_overflowed;
            outgoing.is_overflowed = true;
            return Err(NotQueued {
                error: SendError::Overflow { limit_bytes: self.limits.queue_bytes },
                is_reset_due,
            });
        }
        self.write_directly(&mut outgoing);
        if outgoing.connection.is_some() || outgoing.is_open_wanted {
            return Ok(AfterSend::Nothing);
        }
        outgoing.is_open_wanted = true;
        Ok(AfterSend::Open)
    }

    /// Queues a membership frame; false when it, or an older one, was dropped.
    pub(super) fn send_swim(&self, bytes: Bytes) -> Result<bool, SendError> {
        check_size(self.lane, bytes.len())?;
        let mut outgoing = self.outgoing.lock();
        if outgoing.connection.is_none() {
            return Ok(false);
        }
        let is_kept = outgoing.push_swim(bytes);
        self.write_directly(&mut outgoing);
        Ok(is_kept)
    }

    /// Writes from the calling thread, unless the writer task is at it.
    fn write_directly(&self, outgoing: &mut Outgoing) {
        if outgoing.is_writer_busy {
            return;
        }
        let Some(connection) = outgoing.connection.clone() else {
            return;
        };
        match outgoing.pump(&connection, self.received(), DIRECT_BYTES) {
            Ok(Pumped::Idle) => {}
            Ok(Pumped::Blocked) => {
                outgoing.is_writer_busy = true;
                connection.wake.notify_one();
            }
            // The reader task tells that the connection is lost.
            Err(_) => connection.stream.shut_down(),
        }
    }

    /// The writer task of a connection: goes on where senders had to stop.
    pub(super) async fn write(&self, connection: &Connection) {
        loop {
            connection.wake.notified().await;
            loop {
                if connection.stream.writable().await.is_err() {
                    connection.stream.shut_down();
                    return;
                }
                let mut outgoing = self.outgoing.lock();
                if !outgoing.is_connection(connection.id) {
                    return;
                }
                match outgoing.pump(connection, self.received(), DIRECT_BYTES) {
                    Ok(Pumped::Idle) => {
                        outgoing.is_writer_busy = false;
                        break;
                    }
                    Ok(Pumped::Blocked) => {}
                    Err(_) => {
                        connection.stream.shut_down();
                        return;
                    }
                }
            }
        }
    }

    /// Makes a connection the present one. `received` is what the other end has; false when that cannot be, and
    /// nothing changed.
    pub(super) fn attach(&self, connection: &Arc<Connection>, received: u64) -> Result<(), Violation> {
        self.detach();
        let mut incoming = self.incoming.lock();
        let mut outgoing = self.outgoing.lock();
        outgoing.outbox.resume(received)?;
        incoming.connection_id = connection.id;
        outgoing.connection = Some(connection.clone());
        // What we offered may be older than what we have: the rest comes again and has to be acknowledged again.
        outgoing.told = 0;
        outgoing.is_open_wanted = false;
        self.write_directly(&mut outgoing);
        Ok(())
    }

    /// Closes the present connection, if there is one. Once this returns, nothing of it reaches the sink.
    pub(super) fn detach(&self) {
        self.incoming.lock().connection_id = 0;
        self.outgoing.lock().detach();
    }

    /// Closes the connection and forgets the session.
    pub(super) fn reset(&self) {
        let mut incoming = self.incoming.lock();
        let mut outgoing = self.outgoing.lock();
        outgoing.detach();
        outgoing.outbox = Self::outbox(self.limits);
        outgoing.is_overflowed = false;
        *incoming = Incoming::default();
        self.received.store(0, Ordering::Release);
    }

    /// Whether the other end has everything.
    pub(super) fn is_drained(&self) -> bool {
        self.outgoing.lock().outbox.is_empty()
    }

    /// Sends what is queued, then a goodbye, then ends the sending side.
    pub(super) fn say_goodbye(&self) {
        let mut outgoing = self.outgoing.lock();
        outgoing.say_goodbye();
        self.write_directly(&mut outgoing);
    }

    /// The last number received.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    pub(super) fn queued_bytes(&self) -> usize {
        let outgoing = self.outgoing.lock();
        outgoing.queued_bytes()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.outgoing.lock().connection.is_some()
    }

    /// Whether an acknowledgement is owed that no frame has carried yet.
    pub(super) fn owes_acknowledgement(&self) -> bool {
        let outgoing = self.outgoing.lock();
        self.received.load(Ordering::Acquire) > outgoing.told
    }

    /// Sends an acknowledgement of its own.
    pub(super) fn acknowledge(&self) {
        let mut outgoing = self.outgoing.lock();
        outgoing.is_acknowledgement_due = true;
        self.write_directly(&mut outgoing);
    }

    /// The other end has everything up to `seq`.
    pub(super) fn on_acknowledged(&self, connection_id: u64, seq: u64) -> Result<(), Violation> {
        let mut outgoing = self.outgoing.lock();
        if !outgoing.is_connection(connection_id) {
            return Ok(());
        }
        outgoing.outbox.acknowledge(seq)?;
        if !outgoing.outbox.is_written() {
            self.write_directly(&mut outgoing);
        }
        Ok(())
    }

    /// Waits until a batch that is being given to the sink has been.
    pub(super) fn finish_delivery(&self) {
        drop(self.incoming.lock());
    }

    /// Runs `work` with the inbox while `connection_id` is the present connection; `None` when it is not.
    pub(super) fn receive<T>(&self, connection_id: u64, work: impl FnOnce(&mut Inbox) -> T) -> Option<T> {
        let mut incoming = self.incoming.lock();
        if incoming.connection_id != connection_id {
            return None;
        }
        Some(work(&mut incoming.inbox))
    }

    /// Makes what the inbox received known to the writing side.
    pub(super) fn publish_received(&self, received: u64) {
        self.received.store(received, Ordering::Release);
    }
}

/// Refuses what the other end would refuse.
fn check_size(lane: Lane, actual_bytes: usize) -> Result<(), SendError> {
    let limit_bytes = max_payload_bytes(lane);
    if actual_bytes > limit_bytes {
        return Err(SendError::TooLarge { limit_bytes, actual_bytes });
    }
    Ok(())
}
