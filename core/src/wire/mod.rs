//! Versioned messages, codec and limits.

/// Largest frame of the control lane, in bytes.
pub const MAX_CTL_FRAME_BYTES: usize = 64 << 10;
/// Largest frame of the bulk lane, in bytes.
pub const MAX_BULK_FRAME_BYTES: usize = 512 << 10;
