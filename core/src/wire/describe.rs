//! Frames as text, for the traces of the simulator.

use bytes::Bytes;

use super::frame::{Inbox, open};

/// Longest text of one message.
const LONGEST: usize = 3_000;

/// The messages of a frame, one text each, cut after 3000 characters. A piece of a larger message, and what is no
/// frame, gives none.
#[must_use]
pub fn describe(frame: &Bytes) -> Vec<String> {
    let messages = open(frame).and_then(|(header, body)| Inbox::default().accept(header, &body)).unwrap_or_default();
    messages.iter().map(|message| format!("{message:?}").chars().take(LONGEST).collect()).collect()
}
