//! The reader task of a connection: splits what arrives into frames and gives them to the sink.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::time;

use super::lane::{Connection, LaneLink};
use super::manager::Event;
use super::peer::{Peer, Shared, count};
use super::wire::{Frame, Malformed, Splitter};
use crate::engine::Lane;
use crate::net::session::{Inbox, Violation};
use crate::net::{Channel, TransportEvent};

/// Room for one read of the control lane.
const CTL_READ_BYTES: usize = 64 << 10;
/// Room for one read of the bulk lane.
const BULK_READ_BYTES: usize = 256 << 10;
/// Frames after which an acknowledgement is sent at once.
const ACKNOWLEDGE_FRAMES: u64 = 256;

/// Why a connection ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// The other end closed it, or the system did.
    Closed(Option<String>),
    /// The other end said goodbye.
    Goodbye,
    /// The other end broke the protocol.
    Broken(String),
    /// Another connection took its place.
    Replaced,
}

impl From<Malformed> for End {
    fn from(malformed: Malformed) -> Self {
        Self::Broken(malformed.0.to_owned())
    }
}

impl From<Violation> for End {
    fn from(violation: Violation) -> Self {
        Self::Broken(format!("{violation:?}"))
    }
}

/// Reads until the connection ends, and tells the manager why it did.
pub(super) async fn read(shared: Arc<Shared>, peer: Arc<Peer>, lane: Lane, connection: Arc<Connection>) {
    let mut reader = Reader {
        splitter: Splitter::new(lane),
        buffer: BytesMut::new(),
        wanted_bytes: 0,
        unacknowledged_bytes: 0,
        unacknowledged_frames: 0,
    };
    let end = reader.run(&shared, &peer, lane, &connection).await;
    if let End::Broken(why) = &end {
        count(&shared.counters.malformed);
        tracing::warn!(node = %peer.node, ?lane, %why, "peer broke the protocol, its connection is closed");
    }
    connection.stream.shut_down();
    shared.post(Event::Lost { node: peer.node.clone(), lane, id: connection.id, end });
}

struct Reader {
    splitter: Splitter,
    buffer: BytesMut,
    /// What the frame under way still needs.
    wanted_bytes: usize,
    unacknowledged_bytes: usize,
    unacknowledged_frames: u64,
}

/// What one read came to.
#[derive(Default)]
struct Batch {
    acknowledged: Option<u64>,
    frames: u64,
    duplicates: u64,
    end: Option<End>,
}

impl Reader {
    async fn run(&mut self, shared: &Shared, peer: &Peer, lane: Lane, connection: &Connection) -> End {
        let link = peer.lane(lane);
        let room_bytes = match lane {
            Lane::Ctl => CTL_READ_BYTES,
            Lane::Bulk => BULK_READ_BYTES,
        };
        loop {
            if let Err(error) = self.wait(link, connection).await {
                return End::Closed(Some(error.to_string()));
            }
            self.buffer.reserve(room_bytes.max(self.wanted_bytes));
            match connection.stream.try_read(&mut self.buffer) {
                Ok(0) => return End::Closed(None),
                Ok(bytes) => self.unacknowledged_bytes += bytes,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    continue;
                }
                Err(error) => return End::Closed(Some(error.to_string())),
            }
            let Some(batch) = link.receive(connection.id, |inbox| {
                let batch = self.deliver(shared, peer, lane, inbox);
                link.publish_received(inbox.received());
                batch
            }) else {
                return End::Replaced;
            };
            if let Some(end) = self.settle(shared, link, connection, batch) {
                return end;
            }
        }
    }

    /// Waits for bytes; sends an acknowledgement when it has waited long enough for a frame to go with.
    async fn wait(&mut self, link: &LaneLink, connection: &Connection) -> io::Result<()> {
        if self.unacknowledged_frames == 0 {
            return connection.stream.readable().await;
        }
        let delay = link.limits().acknowledge_delay;
        if let Ok(ready) = time::timeout(delay, connection.stream.readable()).await {
            return ready;
        }
        self.acknowledge(link);
        connection.stream.readable().await
    }

    fn acknowledge(&mut self, link: &LaneLink) {
        if link.owes_acknowledgement() {
            link.acknowledge();
        }
        self.unacknowledged_bytes = 0;
        self.unacknowledged_frames = 0;
    }

    /// Gives every whole frame of the buffer to the sink.
    fn deliver(&mut self, shared: &Shared, peer: &Peer, lane: Lane, inbox: &mut Inbox) -> Batch {
        let mut batch = Batch::default();
        loop {
            let frame = match self.splitter.next(&mut self.buffer) {
                Ok(Ok(frame)) => frame,
                Ok(Err(missing)) => {
                    self.wanted_bytes = missing;
                    return batch;
                }
                Err(malformed) => {
                    batch.end = Some(malformed.into());
                    return batch;
                }
            };
            let (channel, bytes) = match frame {
                Frame::Swim(bytes) => (Channel::Swim, bytes),
                Frame::Acknowledgement(seq) => {
                    batch.acknowledged = Some(seq);
                    continue;
                }
                Frame::Goodbye => {
                    batch.end = Some(End::Goodbye);
                    return batch;
                }
                Frame::Data { acknowledged, frame } => {
                    batch.acknowledged = Some(acknowledged);
                    match inbox.accept(frame.seq) {
                        Ok(true) => {
                            batch.frames += 1;
                            (frame.channel, frame.bytes)
                        }
                        Ok(false) => {
                            batch.duplicates += 1;
                            continue;
                        }
                        Err(violation) => {
                            batch.end = Some(violation.into());
                            return batch;
                        }
                    }
                }
            };
            if peer.is_muted() {
                continue;
            }
            count(&shared.counters.frames_received);
            shared.tell(TransportEvent::Frame { from: peer.node.clone(), lane, channel, bytes });
        }
    }

    /// What a batch means for the sending side.
    fn settle(&mut self, shared: &Shared, link: &LaneLink, connection: &Connection, batch: Batch) -> Option<End> {
        if batch.duplicates > 0 {
            shared.counters.duplicates_dropped.fetch_add(batch.duplicates, std::sync::atomic::Ordering::Relaxed);
        }
        if let Some(seq) = batch.acknowledged {
            if let Err(violation) = link.on_acknowledged(connection.id, seq) {
                return Some(violation.into());
            }
            if shared.is_closed.load(std::sync::atomic::Ordering::Acquire) && link.is_drained() {
                shared.post(Event::Drained);
            }
        }
        // Duplicates are acknowledged too: the other end may have missed the acknowledgement.
        self.unacknowledged_frames += batch.frames + batch.duplicates;
        let is_due = self.unacknowledged_frames >= ACKNOWLEDGE_FRAMES
            || self.unacknowledged_bytes >= link.limits().acknowledge_bytes;
        if is_due && self.unacknowledged_frames > 0 {
            self.acknowledge(link);
        }
        batch.end
    }
}
