//! Versioned messages, codec and limits.

mod describe;
mod frame;
mod message;
mod quorum;

pub use describe::describe;
pub(crate) use frame::{Header, Inbox, Outbox, encode, open};
pub(crate) use message::{
    HeldMessage, InstanceRow, LogEntry, LogSeen, MemberInfo, Message, RequestKey, Silent, Stage, StartAnswer, Status,
    StopAnswer, Version, Wanted,
};
pub(crate) use quorum::{
    Ballot, Beat, ConfigId, Configuration, Origin, QuorumMessage, Remains, Seat, Slot as QuorumSlot,
};

/// Largest frame of the control lane, in bytes.
pub const MAX_CTL_FRAME_BYTES: usize = 64 << 10;
/// Largest frame of the bulk lane, in bytes.
pub const MAX_BULK_FRAME_BYTES: usize = 512 << 10;
