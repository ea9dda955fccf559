//! Links between nodes: the [`Transport`] trait and its implementations (A8, A9).
//!
//! A transport numbers, acknowledges and resends frames over a *session* per pair of nodes, so that a lost
//! connection loses nothing while both ends live. What cannot be kept is told: [`TransportEvent::SessionReset`]
//! or [`TransportEvent::LinkDown`].

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::engine::Lane;
use crate::error::Error;
pub use crate::ids::Contact;
use crate::ids::{HubId, NodeRef};

#[cfg(test)]
mod conformance;
mod key;
pub mod memory;
mod session;
pub mod tcp;

/// Which part of a node a frame is for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Channel {
    /// Membership: best effort, unnumbered, ahead of everything else. Always on [`Lane::Ctl`].
    Swim,
    /// One hub of the node.
    Hub(HubId),
}

/// What a transport tells its owner.
#[derive(Clone, PartialEq, Debug)]
pub enum TransportEvent {
    /// A node is linked: it proved itself, and frames go both ways. Told once per link, however many
    /// connections came and went.
    LinkUp(Contact),
    /// The link is gone.
    ///
    /// `refused: true` means that nothing of that node listens at its address any more (R14); the session is
    /// dropped. `refused: false` after anything but a goodbye means that the transport goes on trying and keeps
    /// the session for a while: either another `LinkUp` follows, or `refused: true`, or nothing.
    LinkDown {
        /// The node.
        node: NodeRef,
        /// Whether two reconnects in a row were refused, or another node answered there.
        refused: bool,
    },
    /// A frame arrived.
    Frame {
        /// Who sent it.
        from: NodeRef,
        /// On which lane.
        lane: Lane,
        /// For which part of this node.
        channel: Channel,
        /// The frame.
        bytes: Bytes,
    },
    /// Frames to or from this node may have been lost; what is sent from now on is numbered anew.
    SessionReset {
        /// The node.
        node: NodeRef,
    },
    /// A dial asked for by [`Transport::connect`] failed. It is not repeated.
    DialFailed {
        /// The address as given.
        address: String,
        /// Why.
        error: Error,
    },
}

/// Takes the events of a transport.
pub trait TransportSink: Send + Sync {
    /// Takes one event. Called on the transport's threads: it must not block. It may call the transport's
    /// [`Transport::send`]. Events of one node and one lane come in order.
    fn event(&self, event: TransportEvent);
}

/// Why a frame was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SendError {
    /// No session with that node.
    NotLinked,
    /// The frame is larger than its lane allows.
    TooLarge {
        /// The lane's limit.
        limit_bytes: usize,
        /// The frame's size.
        actual_bytes: usize,
    },
    /// The lane's queue is full; the session is reset (R17).
    Overflow {
        /// The queue's limit.
        limit_bytes: usize,
    },
    /// The transport was closed.
    Closed,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLinked => f.write_str("no session with that node"),
            Self::TooLarge { limit_bytes, actual_bytes } => {
                write!(f, "frame of {actual_bytes} bytes, the lane takes {limit_bytes}")
            }
            Self::Overflow { limit_bytes } => {
                write!(f, "queue of {limit_bytes} bytes is full, the session is reset")
            }
            Self::Closed => f.write_str("the transport is closed"),
        }
    }
}

impl std::error::Error for SendError {}

/// Counters since the start, and gauges.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct TransportStats {
    /// Links that are up now.
    pub links: u64,
    /// Connections that are open now, both lanes.
    pub connections: u64,
    /// Connections that are not authenticated yet, now.
    pub half_open: u64,
    /// Threads that run now.
    pub threads: u64,
    /// Bytes that wait to be sent or acknowledged, now.
    pub queued_bytes: u64,
    /// Frames taken by `send`.
    pub frames_sent: u64,
    /// Frames given to the sink.
    pub frames_received: u64,
    /// Frames that arrived again after a reconnect and were dropped.
    pub duplicates_dropped: u64,
    /// Membership frames dropped because their queue was full or no connection was open.
    pub swim_dropped: u64,
    /// Sessions that went on over a new connection.
    pub sessions_resumed: u64,
    /// Sessions reset.
    pub sessions_reset: u64,
    /// Handshakes refused because the key was not proved, by either end.
    pub authentication_failed: u64,
    /// Connections closed because of bytes that are not this protocol, before or after authentication.
    pub malformed: u64,
    /// Handshakes that did not end in time.
    pub handshake_timeouts: u64,
    /// Connections closed at once because too many were half open, in all or from their source.
    pub half_open_refused: u64,
}

/// Links to other nodes. Every method may be called from any thread and returns at once, except `close`.
pub trait Transport: Send + Sync {
    /// This node.
    fn node(&self) -> &NodeRef;

    /// The `host:port` peers are told.
    fn address(&self) -> &str;

    /// Dials an address and learns who is there by the handshake: `LinkUp` or `DialFailed` follows. Does nothing
    /// while a link or a dial to that address exists, or when it is this node's own.
    fn connect(&self, address: &str);

    /// Queues a frame. It is delivered once and in the order of its lane, unless `SessionReset`, or the end of
    /// the link, tells otherwise. Frames of [`Channel::Swim`] are best effort, and their lane is not looked at.
    ///
    /// # Errors
    /// See [`SendError`]; the frame was not taken.
    fn send(&self, to: &NodeRef, lane: Lane, channel: &Channel, bytes: Bytes) -> Result<(), SendError>;

    /// Ends the session with a node and stops trying to reach it. `LinkDown` follows if the link was up.
    ///
    /// A goodbye tells the other end, which is told `LinkDown` in turn. When the connection breaks before the goodbye
    /// has arrived, the other end takes that for a fault and dials: it is told `SessionReset` and no `LinkDown`, and
    /// both are linked by a new session, which this end is told by `LinkUp`.
    fn disconnect(&self, node: &NodeRef);

    /// The nodes whose link is up.
    fn links(&self) -> Vec<Contact>;

    /// Counters and gauges.
    fn stats(&self) -> TransportStats;

    /// Says goodbye to every node, sends what is queued, closes everything and ends the threads, within
    /// `timeout`. No event comes after it returns. A second call does nothing.
    fn close(&self, timeout: Duration);
}
