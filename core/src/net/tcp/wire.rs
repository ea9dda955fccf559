//! What goes over a connection. Integers are big-endian.
//!
//! **Greeting**, the first thing each end sends, the dialer first:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | magic `89 50 48 55 42 0D 0A 1A` |
//! | 2, 2 | lowest and highest protocol version spoken; the highest common one is used |
//! | 2 | length of the rest, at most 1024 |
//! | 1 | lane: 0 control, 1 bulk; the acceptor repeats the dialer's |
//! | 1 | mode: 0 no authentication, 1 key |
//! | 32 | nonce |
//! | 8 | incarnation |
//! | 1, n | node name |
//! | 2, n | advertised address, at most 300 bytes |
//! | … | ignored, for later versions |
//!
//! **Handshake messages**, after the greetings: 1 byte kind, 2 bytes length of the rest, at most 512.
//! Kind 1, *proof*, the dialer first: 32 bytes HMAC-SHA256 (zero in mode 0), then the offer: 8 bytes half, 8 bytes
//! half bound to, 8 bytes last number received on this lane, 8 bytes id of the connection lost last. The HMAC covers
//! a label, the prover's role, both greetings as sent and the offer. Kind 2, *refusal*: 1 byte reason, then text.
//!
//! **Frames**, after both proofs: 4 bytes length of the rest, 1 byte kind, then
//! kind 1, *data*: 8 bytes number, 8 bytes last number received, 1 byte length and text of the hub id, payload;
//! kind 2, *membership*: payload; kind 3, *acknowledgement*: 8 bytes last number received; kind 4, *goodbye*: nothing.
//! A payload has at most 64 KiB on the control lane and 512 KiB on the bulk lane.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::engine::Lane;
use crate::ids::{HubId, Incarnation, MAX_ID_BYTES, NodeName, NodeRef};
use crate::net::Channel;
use crate::net::session::{Claim, Numbered};
use crate::wire::{MAX_BULK_FRAME_BYTES, MAX_CTL_FRAME_BYTES};

pub(super) const MAGIC: [u8; 8] = *b"\x89PHUB\r\n\x1a";
/// The only protocol version so far.
pub(super) const VERSION: u16 = 1;
/// Magic, versions and length.
pub(super) const GREETING_HEAD_BYTES: usize = 14;
pub(super) const MAX_GREETING_BODY_BYTES: usize = 1024;
/// Kind and length.
pub(super) const MESSAGE_HEAD_BYTES: usize = 3;
pub(super) const MAX_MESSAGE_BYTES: usize = 512;
pub(super) const NONCE_BYTES: usize = 32;
pub(super) const PROOF_BYTES: usize = 32;
pub(super) const OFFER_BYTES: usize = 32;
pub(super) const MAX_ADDRESS_BYTES: usize = 300;
pub(super) const MESSAGE_PROOF: u8 = 1;
pub(super) const MESSAGE_REFUSAL: u8 = 2;

const FRAME_DATA: u8 = 1;
const FRAME_SWIM: u8 = 2;
const FRAME_ACKNOWLEDGEMENT: u8 = 3;
const FRAME_GOODBYE: u8 = 4;
const LENGTH_BYTES: usize = 4;
/// Kind, two numbers, length and text of a hub id.
const MAX_FRAME_HEAD_BYTES: usize = 1 + 8 + 8 + 1 + MAX_ID_BYTES;
/// Payloads up to this size are copied out of the read buffer, so that one that is kept does not keep the buffer.
const COPY_BYTES: usize = 4 << 10;

/// Bytes that are not this protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed(pub(super) &'static str);

/// Largest payload of a lane.
pub(super) fn max_payload_bytes(lane: Lane) -> usize {
    match lane {
        Lane::Ctl => MAX_CTL_FRAME_BYTES,
        Lane::Bulk => MAX_BULK_FRAME_BYTES,
    }
}

/// The first message of either end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Greeting {
    pub(super) lane: Lane,
    pub(super) has_key: bool,
    pub(super) nonce: [u8; NONCE_BYTES],
    pub(super) node: NodeRef,
    pub(super) address: String,
}

impl Greeting {
    /// Head and body.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(128);
        body.put_u8(match self.lane {
            Lane::Ctl => 0,
            Lane::Bulk => 1,
        });
        body.put_u8(u8::from(self.has_key));
        body.put_slice(&self.nonce);
        body.put_u64(self.node.incarnation.0);
        let name = self.node.name.as_str().as_bytes();
        // Names have at most 255 bytes and addresses at most `MAX_ADDRESS_BYTES`: checked where they come in.
        body.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        body.put_slice(name);
        body.put_u16(u16::try_from(self.address.len()).unwrap_or(u16::MAX));
        body.put_slice(self.address.as_bytes());
        let mut greeting = Vec::with_capacity(GREETING_HEAD_BYTES + body.len());
        greeting.put_slice(&MAGIC);
        greeting.put_u16(VERSION);
        greeting.put_u16(VERSION);
        greeting.put_u16(u16::try_from(body.len()).unwrap_or(u16::MAX));
        greeting.put_slice(&body);
        greeting
    }

    /// Reads the body.
    pub(super) fn decode(mut body: &[u8]) -> Result<Self, Malformed> {
        let short = Malformed("greeting is too short");
        let lane = match body.try_get_u8().map_err(|_| short)? {
            0 => Lane::Ctl,
            1 => Lane::Bulk,
            _ => return Err(Malformed("unknown lane")),
        };
        let has_key = match body.try_get_u8().map_err(|_| short)? {
            0 => false,
            1 => true,
            _ => return Err(Malformed("unknown authentication mode")),
        };
        let mut nonce = [0; NONCE_BYTES];
        body.try_copy_to_slice(&mut nonce).map_err(|_| short)?;
        let incarnation = Incarnation(body.try_get_u64().map_err(|_| short)?);
        let name_bytes = usize::from(body.try_get_u8().map_err(|_| short)?);
        let name = take_text(&mut body, name_bytes)?;
        let name = NodeName::new(name).map_err(|_| Malformed("node name is empty"))?;
        let address_bytes = usize::from(body.try_get_u16().map_err(|_| short)?);
        if address_bytes > MAX_ADDRESS_BYTES {
            return Err(Malformed("address is too long"));
        }
        let address = take_text(&mut body, address_bytes)?.to_owned();
        Ok(Self { lane, has_key, nonce, node: NodeRef { name, incarnation }, address })
    }
}

/// The fixed part of a greeting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct GreetingHead {
    pub(super) lowest_version: u16,
    pub(super) highest_version: u16,
    pub(super) body_bytes: usize,
}

impl GreetingHead {
    pub(super) fn decode(head: &[u8; GREETING_HEAD_BYTES]) -> Result<Self, Malformed> {
        let mut rest = &head[..];
        let mut magic = [0; MAGIC.len()];
        rest.copy_to_slice(&mut magic);
        if magic != MAGIC {
            return Err(Malformed("not a node of process-hub"));
        }
        let head = Self {
            lowest_version: rest.get_u16(),
            highest_version: rest.get_u16(),
            body_bytes: usize::from(rest.get_u16()),
        };
        if head.body_bytes > MAX_GREETING_BODY_BYTES {
            return Err(Malformed("greeting is too long"));
        }
        Ok(head)
    }
}

fn take_text<'a>(rest: &mut &'a [u8], bytes: usize) -> Result<&'a str, Malformed> {
    let Some((text, after)) = rest.split_at_checked(bytes) else {
        return Err(Malformed("text is cut off"));
    };
    *rest = after;
    std::str::from_utf8(text).map_err(|_| Malformed("text is not UTF-8"))
}

/// What an end offers to go on from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Offer {
    pub(super) claim: Claim,
    /// The last number received on this lane.
    pub(super) received: u64,
    /// The control connection this end lost last; 0 for none.
    pub(super) lost_connection: u64,
}

impl Offer {
    pub(super) fn encode(&self) -> [u8; OFFER_BYTES] {
        let mut bytes = [0; OFFER_BYTES];
        let mut rest = &mut bytes[..];
        rest.put_u64(self.claim.half);
        rest.put_u64(self.claim.bound_to);
        rest.put_u64(self.received);
        rest.put_u64(self.lost_connection);
        bytes
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() != OFFER_BYTES {
            return Err(Malformed("offer has the wrong length"));
        }
        let claim = Claim { half: bytes.get_u64(), bound_to: bytes.get_u64() };
        if claim.half == 0 {
            return Err(Malformed("half has no id"));
        }
        Ok(Self { claim, received: bytes.get_u64(), lost_connection: bytes.get_u64() })
    }
}

/// Why an end refuses the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    AuthenticationFailed,
    VersionMismatch,
    /// Another connection of the pair is kept.
    Duplicate,
    /// The sessions do not match; try again.
    Stale,
}

impl Refusal {
    pub(super) fn encode(self) -> Vec<u8> {
        let code = match self {
            Self::AuthenticationFailed => 1,
            Self::VersionMismatch => 2,
            Self::Duplicate => 3,
            Self::Stale => 4,
        };
        encode_message(MESSAGE_REFUSAL, &[code])
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, Malformed> {
        match body.first() {
            Some(1) => Ok(Self::AuthenticationFailed),
            Some(2) => Ok(Self::VersionMismatch),
            Some(3) => Ok(Self::Duplicate),
            Some(4) => Ok(Self::Stale),
            Some(_) | None => Err(Malformed("unknown refusal")),
        }
    }
}

/// A handshake message with its head.
pub(super) fn encode_message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(MESSAGE_HEAD_BYTES + body.len());
    message.put_u8(kind);
    message.put_u16(u16::try_from(body.len()).unwrap_or(u16::MAX));
    message.put_slice(body);
    message
}

/// One frame, as it arrives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Frame {
    Data { acknowledged: u64, frame: Numbered },
    Swim(Bytes),
    Acknowledgement(u64),
    Goodbye,
}

/// Appends the head of a data frame; the payload follows.
pub(super) fn put_data_head(buffer: &mut BytesMut, frame: &Numbered, acknowledged: u64) {
    let hub = match &frame.channel {
        Channel::Hub(hub) => hub.as_str().as_bytes(),
        Channel::Swim => &[],
    };
    let length = 1 + 8 + 8 + 1 + hub.len() + frame.bytes.len();
    put_length(buffer, length);
    buffer.put_u8(FRAME_DATA);
    buffer.put_u64(frame.seq);
    buffer.put_u64(acknowledged);
    buffer.put_u8(u8::try_from(hub.len()).unwrap_or(u8::MAX));
    buffer.put_slice(hub);
}

/// Appends the head of a membership frame; the payload follows.
pub(super) fn put_swim_head(buffer: &mut BytesMut, payload_bytes: usize) {
    put_length(buffer, 1 + payload_bytes);
    buffer.put_u8(FRAME_SWIM);
}

/// Appends an acknowledgement.
pub(super) fn put_acknowledgement(buffer: &mut BytesMut, received: u64) {
    put_length(buffer, 9);
    buffer.put_u8(FRAME_ACKNOWLEDGEMENT);
    buffer.put_u64(received);
}

/// Appends a goodbye.
pub(super) fn put_goodbye(buffer: &mut BytesMut) {
    put_length(buffer, 1);
    buffer.put_u8(FRAME_GOODBYE);
}

fn put_length(buffer: &mut BytesMut, length: usize) {
    buffer.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

/// Splits what was read into frames.
#[derive(Debug)]
pub(super) struct Splitter {
    lane: Lane,
    /// The hubs seen last: their ids are shared instead of copied for each frame.
    hubs: Vec<HubId>,
}

/// Hub ids kept by a [`Splitter`].
const MAX_HUBS: usize = 16;

impl Splitter {
    pub(super) fn new(lane: Lane) -> Self {
        Self { lane, hubs: Vec::new() }
    }

    /// The next whole frame, or how many bytes are missing at least.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Result<Frame, usize>, Malformed> {
        if buffer.len() < LENGTH_BYTES {
            return Ok(Err(LENGTH_BYTES - buffer.len()));
        }
        let length = (&buffer[..LENGTH_BYTES]).get_u32() as usize;
        if length == 0 || length > MAX_FRAME_HEAD_BYTES + max_payload_bytes(self.lane) {
            return Err(Malformed("frame length is out of range"));
        }
        let missing = (LENGTH_BYTES + length).saturating_sub(buffer.len());
        if missing > 0 {
            return Ok(Err(missing));
        }
        buffer.advance(LENGTH_BYTES);
        let kind = buffer[0];
        buffer.advance(1);
        self.body(kind, buffer, length - 1).map(Ok)
    }

    /// Takes `length` bytes, which are there.
    fn body(&mut self, kind: u8, buffer: &mut BytesMut, length: usize) -> Result<Frame, Malformed> {
        match kind {
            FRAME_DATA => self.data(buffer, length),
            FRAME_SWIM => Ok(Frame::Swim(self.payload(buffer, length)?)),
            FRAME_ACKNOWLEDGEMENT if length == 8 => Ok(Frame::Acknowledgement(buffer.get_u64())),
            FRAME_GOODBYE if length == 0 => Ok(Frame::Goodbye),
            _ => Err(Malformed("unknown frame")),
        }
    }

    fn data(&mut self, buffer: &mut BytesMut, length: usize) -> Result<Frame, Malformed> {
        let short = Malformed("data frame is too short");
        let length = length.checked_sub(17).ok_or(short)?;
        let seq = buffer.get_u64();
        let acknowledged = buffer.get_u64();
        let hub_bytes = usize::from(buffer.get_u8());
        let length = length.checked_sub(hub_bytes).ok_or(short)?;
        let channel = self.channel(&buffer[..hub_bytes])?;
        buffer.advance(hub_bytes);
        let bytes = self.payload(buffer, length)?;
        Ok(Frame::Data { acknowledged, frame: Numbered { seq, channel, bytes } })
    }

    fn channel(&mut self, text: &[u8]) -> Result<Channel, Malformed> {
        if let Some(hub) = self.hubs.iter().find(|hub| hub.as_str().as_bytes() == text) {
            return Ok(Channel::Hub(hub.clone()));
        }
        let text = std::str::from_utf8(text).map_err(|_| Malformed("hub id is not UTF-8"))?;
        let hub = HubId::new(text).map_err(|_| Malformed("hub id is empty"))?;
        if self.hubs.len() == MAX_HUBS {
            self.hubs.remove(0);
        }
        self.hubs.push(hub.clone());
        Ok(Channel::Hub(hub))
    }

    fn payload(&self, buffer: &mut BytesMut, length: usize) -> Result<Bytes, Malformed> {
        if length > max_payload_bytes(self.lane) {
            return Err(Malformed("payload is too large"));
        }
        if length > COPY_BYTES {
            return Ok(buffer.split_to(length).freeze());
        }
        let payload = Bytes::copy_from_slice(&buffer[..length]);
        buffer.advance(length);
        Ok(payload)
    }
}

#[cfg(test)]
mod tests;
