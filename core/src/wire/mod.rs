//! Versioned messages, codec and limits.

mod describe;
mod entry;
mod frame;
mod message;
mod quorum;

pub use describe::describe;
pub(crate) use entry::{InstanceRow, LogEntry, LogSeen, RequestKey, Stage, Version, Wanted};
pub(crate) use frame::{Header, Inbox, Outbox, encode, open};
pub(crate) use message::{HeldMessage, MemberInfo, Message, Silent, StartAnswer, Status, StopAnswer};
pub(crate) use quorum::{
    Ballot, Beat, ConfigId, Configuration, Origin, QuorumMessage, Remains, Seat, Slot as QuorumSlot,
};

/// Largest frame of the control lane, in bytes.
pub const MAX_CTL_FRAME_BYTES: usize = 64 << 10;
/// Largest frame of the bulk lane, in bytes.
pub const MAX_BULK_FRAME_BYTES: usize = 512 << 10;
