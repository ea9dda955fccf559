//! Packets of membership, and foca's codec.
//!
//! A packet is one version byte and one postcard [`Message`]; its variants are only ever appended.

use bytes::{Buf, BufMut, Bytes};
use foca::{Codec, Header, Member};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::identity::{Id, Record};
use crate::ids::{Contact, NodeRef};

/// The version of [`Message`].
const VERSION: u8 = 1;
/// Largest packet that carries foca's data.
const MAX_PACKET_BYTES: usize = 1200;
/// Version, variant and length around foca's data.
const ENVELOPE_BYTES: usize = 4;
/// Largest packet of foca itself; a constant of the cluster.
pub(super) const MAX_FOCA_BYTES: usize = MAX_PACKET_BYTES - ENVELOPE_BYTES;
/// Largest packet accepted.
pub(super) const MAX_MESSAGE_BYTES: usize = 60 << 10;
/// Records of one state packet end here, so that the last one always fits below [`MAX_MESSAGE_BYTES`].
pub(super) const STATE_BUDGET_BYTES: usize = 48 << 10;

/// One packet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Message<'a> {
    /// foca's own: probes, acks, gossip.
    Foca(&'a [u8]),
    /// First packet on a link.
    Hello(Hello),
    /// The name verdict "accepted", with the rank to take and the hash of my view.
    Welcome { rank: u64, view_hash: u64 },
    /// The name verdict "taken" (R13).
    Taken { by: Contact },
    /// What I know of members; `wants_reply` asks for the same.
    State { records: Vec<Record>, wants_reply: bool },
    /// The hash of my view.
    Digest { view_hash: u64 },
    /// Is this node alive? Answered by the target, handed on by a node that has a link to it.
    Probe(Probe),
    /// The target's answer, handed on to the origin.
    Answer { origin: NodeRef, nonce: u64, me: Record },
    /// I leave.
    Leave,
    /// I know that you leave.
    LeaveAck,
}

/// Who I am.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) me: Record,
    /// A member has accepted me.
    pub(super) is_established: bool,
    /// I have heard your hello on this link.
    pub(super) has_heard_you: bool,
}

/// A question whether a node is alive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Probe {
    pub(super) target: NodeRef,
    pub(super) origin: NodeRef,
    pub(super) nonce: u64,
    /// The suspected record, so that the target can refute it.
    pub(super) suspected: Option<Record>,
}

impl<'a> Message<'a> {
    /// The packet; `None` when it cannot be encoded or is too large.
    pub(super) fn encode(&self) -> Option<Bytes> {
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        bytes.push(VERSION);
        let bytes = postcard::to_extend(self, bytes).ok()?;
        (bytes.len() <= MAX_MESSAGE_BYTES).then(|| bytes.into())
    }

    /// The message of a packet; `None` for another version or anything that is not one whole message.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return None;
        }
        let (&VERSION, body) = bytes.split_first()? else {
            return None;
        };
        let (message, rest) = postcard::take_from_bytes(body).ok()?;
        rest.is_empty().then_some(message)
    }
}

/// A packet of foca, taken apart.
pub(super) struct FocaPacket {
    pub(super) header: Header<Id>,
    /// Where the updates begin.
    pub(super) header_bytes: usize,
    pub(super) records: Vec<Record>,
}

impl FocaPacket {
    pub(super) fn decode(packet: &[u8]) -> Option<Self> {
        let mut rest = packet;
        let header = IdCodec.decode_header(&mut rest).ok()?;
        let header_bytes = packet.len() - rest.len();
        let mut records = Vec::new();
        if rest.remaining() >= 2 {
            for _ in 0..rest.get_u16() {
                records.push(take(&mut rest).ok()?);
            }
        }
        (!rest.has_remaining()).then_some(Self { header, header_bytes, records })
    }
}

/// Most packets are smaller.
const USUAL_BYTES: usize = 256;
/// Three identities with names and addresses of the longest, in a packet that has room for two of them.
const MAX_VALUE_BYTES: usize = 2 << 10;

/// foca's codec: postcard values one after the other.
pub(super) struct IdCodec;

/// Why foca's data could not be coded.
#[derive(Debug, thiserror::Error)]
pub(super) enum CodecError {
    #[error("not a member or header")]
    Postcard(#[from] postcard::Error),
    #[error("{needed} bytes needed, {left} left")]
    NoRoom { needed: usize, left: usize },
}

impl Codec<Id> for IdCodec {
    type Error = CodecError;

    fn encode_header(&mut self, header: &Header<Id>, buf: impl BufMut) -> Result<(), CodecError> {
        put(&WireHeader::from(header), buf)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Id>, CodecError> {
        take::<WireHeader>(&mut buf).map(Header::from)
    }

    fn encode_member(&mut self, member: &Member<Id>, buf: impl BufMut) -> Result<(), CodecError> {
        put(&Record::of(member), buf)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Id>, CodecError> {
        take::<Record>(&mut buf).map(Record::into_member)
    }
}

fn put(value: &impl Serialize, mut buf: impl BufMut) -> Result<(), CodecError> {
    let mut room = [0; MAX_VALUE_BYTES];
    let bytes = postcard::to_slice(value, &mut room)?;
    let left = buf.remaining_mut();
    if left < bytes.len() {
        return Err(CodecError::NoRoom { needed: bytes.len(), left });
    }
    buf.put_slice(bytes);
    Ok(())
}

fn take<T: DeserializeOwned>(buf: &mut impl Buf) -> Result<T, CodecError> {
    let chunk = buf.chunk();
    let (value, rest) = postcard::take_from_bytes(chunk)?;
    let taken = chunk.len() - rest.len();
    buf.advance(taken);
    Ok(value)
}

#[derive(Serialize, Deserialize)]
struct WireHeader {
    source: Id,
    source_refutation: u16,
    destination: Id,
    message: WireMessage,
}

#[derive(Serialize, Deserialize)]
enum WireMessage {
    Ping(u8),
    Ack(u8),
    PingReq(Id, u8),
    IndirectPing(Id, u8),
    IndirectAck(Id, u8),
    ForwardedAck(Id, u8),
    Announce,
    Feed,
    Gossip,
    Broadcast,
    TurnUndead,
}

impl From<&Header<Id>> for WireHeader {
    fn from(header: &Header<Id>) -> Self {
        use foca::Message as M;
        let message = match &header.message {
            M::Ping(number) => WireMessage::Ping(*number),
            M::Ack(number) => WireMessage::Ack(*number),
            M::PingReq { target, probe_number } => WireMessage::PingReq(target.without_address(), *probe_number),
            M::IndirectPing { origin, probe_number } => {
                WireMessage::IndirectPing(origin.without_address(), *probe_number)
            }
            M::IndirectAck { target, probe_number } => {
                WireMessage::IndirectAck(target.without_address(), *probe_number)
            }
            M::ForwardedAck { origin, probe_number } => {
                WireMessage::ForwardedAck(origin.without_address(), *probe_number)
            }
            M::Announce => WireMessage::Announce,
            M::Feed => WireMessage::Feed,
            M::Gossip => WireMessage::Gossip,
            M::Broadcast => WireMessage::Broadcast,
            M::TurnUndead => WireMessage::TurnUndead,
        };
        Self {
            source: header.src.clone(),
            source_refutation: header.src_incarnation,
            destination: header.dst.without_address(),
            message,
        }
    }
}

impl From<WireHeader> for Header<Id> {
    fn from(wire: WireHeader) -> Self {
        use foca::Message as M;
        let message = match wire.message {
            WireMessage::Ping(number) => M::Ping(number),
            WireMessage::Ack(number) => M::Ack(number),
            WireMessage::PingReq(target, probe_number) => M::PingReq { target, probe_number },
            WireMessage::IndirectPing(origin, probe_number) => M::IndirectPing { origin, probe_number },
            WireMessage::IndirectAck(target, probe_number) => M::IndirectAck { target, probe_number },
            WireMessage::ForwardedAck(origin, probe_number) => M::ForwardedAck { origin, probe_number },
            WireMessage::Announce => M::Announce,
            WireMessage::Feed => M::Feed,
            WireMessage::Gossip => M::Gossip,
            WireMessage::Broadcast => M::Broadcast,
            WireMessage::TurnUndead => M::TurnUndead,
        };
        Self { src: wire.source, src_incarnation: wire.source_refutation, dst: wire.destination, message }
    }
}
