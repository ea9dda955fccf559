//! Frames of a hub: batches of messages, and pieces of messages too large for one frame.
//!
//! Layout: version (1 byte, [`VERSION`]) · [`Header`] and [`Body`] in postcard. A batch holds whole messages; a
//! piece holds part `index` of `count` of one encoded message.

use std::collections::BTreeMap;

use bytes::Bytes;
use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

use super::message::Message;
use super::{MAX_BULK_FRAME_BYTES, MAX_CTL_FRAME_BYTES};
use crate::engine::Lane;
use crate::payload::MAX_STATE_BYTES;

/// The protocol version in the first byte of every frame.
pub(crate) const VERSION: u8 = 1;
/// The version, the header, the variant and the count of a batch take less.
const HEADER_BYTES: usize = 64;
/// Room left in a frame for its header and the transport's.
const HEADROOM_BYTES: usize = 2 << 10;
/// Most batches are smaller.
const USUAL_BYTES: usize = 256;
/// Largest encoded message: a state and what goes with it.
const MAX_MESSAGE_BYTES: usize = MAX_STATE_BYTES + (2 << 20);
/// Unfinished large messages kept per peer.
const MAX_UNFINISHED: usize = 16;

/// Who sent a frame to whom, and which of the sender's frames it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    /// Counts the sender's frames to this receiver; a frame seen twice has no effect.
    pub(crate) number: u64,
    /// When the sender's hub started, in Unix milliseconds: a hub that was started again is another one.
    pub(crate) from_start: u64,
    /// When the receiver's hub started, as far as the sender knows; 0 if it does not.
    pub(crate) to_start: u64,
    /// How often the receiver was stalled, as far as the sender knows: what was asked before the last stall may be
    /// over.
    pub(crate) to_generation: u64,
    /// The sender's oldest request that is open; what was asked for earlier ones is over.
    pub(crate) open_from: u64,
}

#[derive(Debug, Serialize, Deserialize)]
enum Body {
    Batch(Vec<Message>),
    Piece { id: u64, index: u32, count: u32, data: Bytes },
}

/// Why a frame was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum FrameError {
    /// Another protocol version.
    Version(u8),
    /// Not a frame.
    Garbage,
    /// A piece that breaks a limit.
    Limit,
}

/// A buffer that grows by whole slices: postcard's own takes a state byte by byte where nothing is optimized, which
/// makes a turn of seconds out of one of milliseconds.
struct Growing(Vec<u8>);

impl Flavor for Growing {
    type Output = Vec<u8>;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Vec<u8>> {
        Ok(self.0)
    }
}

fn append(value: &impl Serialize, buffer: Vec<u8>) -> postcard::Result<Vec<u8>> {
    postcard::serialize_with_flavor(value, Growing(buffer))
}

/// A message as frames carry it, for [`Outbox::push_encoded`]; `None` cannot happen, as for [`Outbox::push`].
pub(crate) fn encode(message: &Message) -> Option<Vec<u8>> {
    append(message, Vec::new()).ok()
}

/// Messages waiting to be sent to one peer on one lane.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    encoded: Vec<u8>,
    count: usize,
    closed: Vec<Closed>,
}

/// What is in one frame, or in the frames of one message.
#[derive(Debug)]
enum Closed {
    /// This many messages.
    Batch(usize, Vec<u8>),
    /// One message too large for a frame.
    Large(Vec<u8>),
}

fn frame_limit(lane: Lane) -> usize {
    match lane {
        Lane::Ctl => MAX_CTL_FRAME_BYTES - HEADROOM_BYTES,
        Lane::Bulk => MAX_BULK_FRAME_BYTES - HEADROOM_BYTES,
    }
}

impl Outbox {
    /// Appends one message.
    pub(crate) fn push(&mut self, lane: Lane, message: &Message) {
        if self.encoded.capacity() == 0 {
            self.encoded.reserve(USUAL_BYTES);
        }
        let before = self.encoded.len();
        // Encoding into a growing buffer cannot fail; were it to, the message is lost like any lost frame.
        let Ok(encoded) = append(message, std::mem::take(&mut self.encoded)) else {
            self.count = 0;
            return;
        };
        self.encoded = encoded;
        self.pushed(lane, before);
    }

    /// Appends one message that [`encode`] encoded.
    pub(crate) fn push_encoded(&mut self, lane: Lane, message: &[u8]) {
        let before = self.encoded.len();
        self.encoded.extend_from_slice(message);
        self.pushed(lane, before);
    }

    /// A message was appended to what was `before` bytes.
    fn pushed(&mut self, lane: Lane, before: usize) {
        let limit = frame_limit(lane);
        let length = self.encoded.len() - before;
        if length > limit {
            let large = self.encoded.split_off(before);
            self.close_batch();
            self.closed.push(Closed::Large(large));
            return;
        }
        if self.encoded.len() > limit {
            let last = self.encoded.split_off(before);
            self.close_batch();
            self.encoded = last;
        }
        self.count += 1;
    }

    fn close_batch(&mut self) {
        if self.count > 0 {
            let count = std::mem::take(&mut self.count);
            self.closed.push(Closed::Batch(count, std::mem::take(&mut self.encoded)));
        }
    }

    /// Whether nothing waits.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0 && self.closed.is_empty()
    }

    /// Takes all frames, numbered from `header.number + 1` on; returns the last number used.
    pub(crate) fn take(&mut self, lane: Lane, mut header: Header, mut send: impl FnMut(Bytes)) -> u64 {
        self.close_batch();
        for closed in std::mem::take(&mut self.closed) {
            match closed {
                Closed::Batch(count, messages) => {
                    header.number += 1;
                    let mut frame = start_frame(header, messages.len() + HEADER_BYTES);
                    // `Body::Batch` is variant 0 followed by the count and the messages, which are encoded already.
                    frame.push(0);
                    frame = append(&count, frame).unwrap_or_default();
                    frame.extend_from_slice(&messages);
                    send(Bytes::from(frame));
                }
                Closed::Large(message) => {
                    let whole = Bytes::from(message);
                    let limit = frame_limit(lane);
                    let count = u32::try_from(whole.len().div_ceil(limit)).unwrap_or(u32::MAX);
                    let id = header.number + 1;
                    for index in 0..count {
                        let start = index as usize * limit;
                        let data = whole.slice(start..(start + limit).min(whole.len()));
                        header.number += 1;
                        let body = Body::Piece { id, index, count, data };
                        if let Ok(frame) = append(&body, start_frame(header, limit + HEADROOM_BYTES)) {
                            send(Bytes::from(frame));
                        }
                    }
                }
            }
        }
        header.number
    }
}

fn start_frame(header: Header, capacity: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(capacity);
    frame.push(VERSION);
    append(&header, frame).unwrap_or_default()
}

/// Reads the header of a frame and returns it with the undecoded rest.
///
/// # Errors
/// [`FrameError`] when it is none.
pub(crate) fn open(frame: &Bytes) -> Result<(Header, Bytes), FrameError> {
    match frame.first() {
        None => return Err(FrameError::Garbage),
        Some(&VERSION) => {}
        Some(&other) => return Err(FrameError::Version(other)),
    }
    let (header, rest) = postcard::take_from_bytes::<Header>(&frame[1..]).map_err(|_| FrameError::Garbage)?;
    let rest = frame.slice(frame.len() - rest.len()..);
    Ok((header, rest))
}

struct Unfinished {
    pieces: Vec<Option<Bytes>>,
    missing: usize,
    bytes: usize,
}

/// What one peer sent: drops frames seen before, joins pieces.
#[derive(Default)]
pub(crate) struct Inbox {
    seen: SeenWindow,
    unfinished: BTreeMap<u64, Unfinished>,
}

impl Inbox {
    /// Decodes the messages of a frame; empty for a frame seen before and for all pieces but the last.
    ///
    /// # Errors
    /// [`FrameError`] for what is no frame of this protocol.
    pub(crate) fn accept(&mut self, header: Header, body: &Bytes) -> Result<Vec<Message>, FrameError> {
        if !self.seen.insert(header.number) {
            return Ok(Vec::new());
        }
        match postcard::from_bytes::<Body>(body).map_err(|_| FrameError::Garbage)? {
            Body::Batch(messages) => Ok(messages),
            Body::Piece { id, index, count, data } => self.join(id, index, count, data),
        }
    }

    fn join(&mut self, id: u64, index: u32, count: u32, data: Bytes) -> Result<Vec<Message>, FrameError> {
        let limit = MAX_MESSAGE_BYTES.div_ceil(frame_limit(Lane::Ctl));
        if count == 0 || index >= count || count as usize > limit {
            return Err(FrameError::Limit);
        }
        if !self.unfinished.contains_key(&id) && self.unfinished.len() >= MAX_UNFINISHED {
            self.unfinished.pop_first();
        }
        let unfinished = self.unfinished.entry(id).or_insert_with(|| Unfinished {
            pieces: vec![None; count as usize],
            missing: count as usize,
            bytes: 0,
        });
        let Some(slot) = unfinished.pieces.get_mut(index as usize) else {
            return Err(FrameError::Limit);
        };
        if slot.is_none() {
            unfinished.bytes += data.len();
            unfinished.missing -= 1;
            *slot = Some(data);
        }
        if unfinished.bytes > MAX_MESSAGE_BYTES {
            self.unfinished.remove(&id);
            return Err(FrameError::Limit);
        }
        if unfinished.missing > 0 {
            return Ok(Vec::new());
        }
        let Some(unfinished) = self.unfinished.remove(&id) else {
            return Ok(Vec::new());
        };
        let mut whole = Vec::with_capacity(unfinished.bytes);
        for piece in unfinished.pieces.iter().flatten() {
            whole.extend_from_slice(piece);
        }
        let message = postcard::from_bytes(&whole).map_err(|_| FrameError::Garbage)?;
        Ok(vec![message])
    }
}

/// The numbers seen lately: a sliding window of bits.
#[derive(Debug)]
struct SeenWindow {
    highest: u64,
    bits: Vec<u64>,
}

/// Frames older than this behind the newest count as seen.
const WINDOW: u64 = 8192;

impl Default for SeenWindow {
    fn default() -> Self {
        Self { highest: 0, bits: vec![0; (WINDOW / 64) as usize] }
    }
}

impl SeenWindow {
    /// Whether the number is new; remembers it.
    fn insert(&mut self, number: u64) -> bool {
        if number == 0 || number.saturating_add(WINDOW) <= self.highest {
            return false;
        }
        if number > self.highest {
            if number - self.highest >= WINDOW {
                self.bits.fill(0);
            } else {
                for skipped in self.highest + 1..=number {
                    let (word, bit) = Self::place(skipped);
                    self.bits[word] &= !bit;
                }
            }
            self.highest = number;
        }
        let (word, bit) = Self::place(number);
        let is_new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        is_new
    }

    fn place(number: u64) -> (usize, u64) {
        let at = number % WINDOW;
        ((at / 64) as usize, 1 << (at % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ChildId;
    use crate::ids::Token;
    use crate::payload::Payload;
    use proptest::prelude::*;

    fn header() -> Header {
        Header { number: 0, from_start: 7, to_start: 9, to_generation: 0, open_from: 0 }
    }

    fn state_of(bytes: usize) -> Message {
        Message::State {
            child: ChildId::new("c").unwrap(),
            token: Token::default(),
            state: Some(Payload::bytes(vec![7; bytes])),
            hash: 1,
        }
    }

    #[test]
    fn messages_of_any_size_then_the_same_messages_in_order() {
        for lane in [Lane::Ctl, Lane::Bulk] {
            let sent: Vec<Message> = vec![
                Message::DeltaAck(1),
                state_of(200_000),
                Message::DeltaAck(2),
                state_of(60_000),
                state_of(1_000_000),
                Message::DeltaAck(3),
            ];
            let mut outbox = Outbox::default();
            for message in &sent {
                outbox.push(lane, message);
            }
            let mut frames = Vec::new();
            let last = outbox.take(lane, header(), |frame| frames.push(frame));
            assert_eq!(last as usize, frames.len());
            assert!(outbox.is_empty());
            let mut inbox = Inbox::default();
            let mut got = Vec::new();
            for frame in &frames {
                assert!(frame.len() <= frame_limit(lane) + HEADROOM_BYTES);
                let (header, body) = open(frame).unwrap();
                got.extend(inbox.accept(header, &body).unwrap());
                assert_eq!(inbox.accept(header, &body).unwrap(), Vec::new());
            }
            assert_eq!(got, sent);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_then_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut frame = vec![VERSION];
            frame.extend(bytes);
            if let Ok((header, body)) = open(&Bytes::from(frame)) {
                let _ = Inbox::default().accept(header, &body);
            }
        }

        #[test]
        fn numbers_in_any_order_then_each_new_once(numbers in proptest::collection::vec(1u64..5000, 1..400)) {
            let mut window = SeenWindow::default();
            let mut seen = std::collections::BTreeSet::new();
            for number in numbers {
                prop_assert_eq!(window.insert(number), seen.insert(number));
            }
        }
    }

    #[test]
    fn row_with_a_lost_state_is_sent_then_it_reads_back() {
        use crate::ids::{Epoch, NodeName};
        use crate::spec::{Mode, StateLost};
        use crate::wire::{InstanceRow, LogEntry, Stage};
        let lost = StateLost { epoch: Epoch(5), version: 2, node: NodeName::new("n1").unwrap() };
        let row = InstanceRow {
            token: Token::default(),
            stage: Stage::Active,
            mode: Mode::Active,
            has_state: true,
            since_ms: 1,
            restarts: 0,
            lost: Some(std::sync::Arc::new(lost)),
        };
        let sent = Message::Delta { from: 0, to: 1, entries: vec![LogEntry::Row(ChildId::new("c").unwrap(), row)] };
        let mut outbox = Outbox::default();
        outbox.push(Lane::Ctl, &sent);
        let mut got = Vec::new();
        outbox.take(Lane::Ctl, header(), |frame| {
            let (header, body) = open(&frame).unwrap();
            got.extend(Inbox::default().accept(header, &body).unwrap());
        });
        assert_eq!(got, [sent]);
    }
}
