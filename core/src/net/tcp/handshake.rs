//! Greeting and authentication (A9). Nothing here changes the state of the transport: what comes out is a connection
//! whose other end proved itself, and only then are frames decoded.

use std::fmt;
use std::io;

use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::wire::{
    GREETING_HEAD_BYTES, Greeting, GreetingHead, MAX_MESSAGE_BYTES, MESSAGE_HEAD_BYTES, MESSAGE_PROOF, MESSAGE_REFUSAL,
    Malformed, NONCE_BYTES, OFFER_BYTES, Offer, PROOF_BYTES, Refusal, VERSION, encode_message,
};
use crate::engine::Lane;
use crate::error::Error;
use crate::ids::NodeRef;
use crate::net::key::Keys;

const LABEL: &[u8] = b"process-hub proof 1";

/// Who this node is in a handshake.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) node: NodeRef,
    pub(super) address: String,
    /// None: no authentication.
    pub(super) keys: Option<Keys>,
}

/// Why there is no connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// Nothing listens there.
    Refused,
    /// The other end closed the connection in the middle.
    Dropped(String),
    /// It took too long.
    TimedOut,
    /// The other end is no node, or broke the protocol.
    Malformed(&'static str),
    /// One end did not prove the key.
    Authentication(&'static str),
    /// No common version.
    Version(String),
    /// The other end keeps another connection of the pair.
    Duplicate,
    /// The other end's session does not match.
    Stale,
    /// The address is this node's own, or its node is linked already.
    NotNeeded,
    /// The address cannot be used at all.
    Address(Box<Error>),
    /// Anything else the system says.
    Io(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::Dropped(why) => write!(f, "closed during the handshake: {why}"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Malformed(what) | Self::Authentication(what) => f.write_str(what),
            Self::Version(versions) => write!(f, "no common protocol version: {versions}"),
            Self::Duplicate => f.write_str("another connection of the pair is kept"),
            Self::Stale => f.write_str("sessions do not match"),
            Self::NotNeeded => f.write_str("not needed"),
            Self::Address(error) => f.write_str(&error.message),
            Self::Io(why) => f.write_str(why),
        }
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.0)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        #[allow(clippy::wildcard_enum_match_arm, reason = "ErrorKind is open; all others are reported as text")]
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Dropped(error.to_string()),
            _ => Self::Io(error.to_string()),
        }
    }
}

#[derive(Clone, Copy)]
enum Role {
    Dialer = 1,
    Acceptor = 2,
}

/// Both greetings as they were sent: what the proofs cover.
struct Transcript(Vec<u8>);

impl Transcript {
    fn new(dialer: &[u8], acceptor: &[u8]) -> Self {
        Self([dialer, acceptor].concat())
    }

    /// The same number at both ends, new for each connection: the nonces are in it.
    fn connection_id(&self) -> u64 {
        let digest = digest::digest(&digest::SHA256, &self.0);
        let mut id = [0; 8];
        id.copy_from_slice(&digest.as_ref()[..8]);
        u64::from_be_bytes(id).max(1)
    }

    fn text(&self, role: Role, offer: &[u8]) -> Vec<u8> {
        [LABEL, &[role as u8], &self.0, offer].concat()
    }
}

/// A dial whose other end told its name, which it has not proved yet.
pub(super) struct Greeted {
    stream: TcpStream,
    transcript: Transcript,
    pub(super) greeting: Greeting,
}

/// A dialled connection whose ends proved themselves.
pub(super) struct Dialled {
    pub(super) stream: TcpStream,
    pub(super) id: u64,
    pub(super) greeting: Greeting,
    pub(super) offer: Offer,
}

/// An accepted connection whose dialer proved itself and waits for the answer.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) id: u64,
    pub(super) greeting: Greeting,
    pub(super) offer: Offer,
    transcript: Transcript,
    /// The key the dialer proved; we answer with the same one, so that lists in different order go together.
    key: usize,
}

/// The dialer's greeting and what the acceptor says to it.
pub(super) async fn greet(mut stream: TcpStream, identity: &Identity, lane: Lane) -> Result<Greeted, Failure> {
    let ours = our_greeting(identity, lane)?.encode();
    stream.write_all(&ours).await?;
    let (theirs, greeting) = read_greeting(&mut stream).await?;
    if greeting.lane != lane {
        return Err(Failure::Malformed("the other end answers for another lane"));
    }
    if greeting.has_key != identity.keys.is_some() {
        return Err(Failure::Authentication("one end uses a key and the other insecure_plaintext"));
    }
    Ok(Greeted { stream, transcript: Transcript::new(&ours, &theirs), greeting })
}

impl Greeted {
    /// Proves us, and checks the acceptor's proof.
    pub(super) async fn prove(mut self, identity: &Identity, ours: Offer) -> Result<Dialled, Failure> {
        let proof = proof_message(identity, 0, &self.transcript, Role::Dialer, ours);
        self.stream.write_all(&proof).await?;
        let (proof, offer) = match read_message(&mut self.stream).await? {
            Message::Refusal(refusal) => return Err(refused(refusal)),
            Message::Proof { proof, offer } => (proof, offer),
        };
        if let Some(keys) = &identity.keys {
            let text = self.transcript.text(Role::Acceptor, &offer);
            if keys.verify(&text, &proof).is_none() {
                return Err(Failure::Authentication("the other end did not prove the key"));
            }
        }
        Ok(Dialled {
            id: self.transcript.connection_id(),
            stream: self.stream,
            greeting: self.greeting,
            offer: Offer::decode(&offer)?,
        })
    }
}

/// The acceptor's side up to the dialer's proof.
pub(super) async fn accept(mut stream: TcpStream, identity: &Identity) -> Result<Accepted, Failure> {
    let (theirs, greeting) = match read_greeting(&mut stream).await {
        Ok(greeting) => greeting,
        Err(Failure::Version(versions)) => {
            // Our greeting tells the dialer what we speak.
            let ours = our_greeting(identity, Lane::Ctl)?.encode();
            stream.write_all(&ours).await?;
            return Err(Failure::Version(versions));
        }
        Err(failure) => return Err(failure),
    };
    let ours = our_greeting(identity, greeting.lane)?.encode();
    stream.write_all(&ours).await?;
    if greeting.has_key != identity.keys.is_some() {
        return Err(Failure::Authentication("one end uses a key and the other insecure_plaintext"));
    }
    let transcript = Transcript::new(&theirs, &ours);
    let (proof, offer) = match read_message(&mut stream).await? {
        Message::Refusal(refusal) => return Err(refused(refusal)),
        Message::Proof { proof, offer } => (proof, offer),
    };
    let key = match &identity.keys {
        None => 0,
        Some(keys) => {
            let Some(key) = keys.verify(&transcript.text(Role::Dialer, &offer), &proof) else {
                stream.write_all(&Refusal::AuthenticationFailed.encode()).await?;
                return Err(Failure::Authentication("the other end did not prove the key"));
            };
            key
        }
    };
    Ok(Accepted { id: transcript.connection_id(), stream, greeting, offer: Offer::decode(&offer)?, transcript, key })
}

impl Accepted {
    /// Our proof and offer, to be written next.
    pub(super) fn answer(&self, identity: &Identity, ours: Offer) -> Vec<u8> {
        proof_message(identity, self.key, &self.transcript, Role::Acceptor, ours)
    }
}

fn our_greeting(identity: &Identity, lane: Lane) -> Result<Greeting, Failure> {
    let mut nonce = [0; NONCE_BYTES];
    SystemRandom::new().fill(&mut nonce).map_err(|_| Failure::Io("the system gave no random numbers".to_owned()))?;
    Ok(Greeting {
        lane,
        has_key: identity.keys.is_some(),
        nonce,
        node: identity.node.clone(),
        address: identity.address.clone(),
    })
}

fn proof_message(identity: &Identity, key: usize, transcript: &Transcript, role: Role, offer: Offer) -> Vec<u8> {
    let offer = offer.encode();
    let proof = match &identity.keys {
        Some(keys) => keys.prove_with(key, &transcript.text(role, &offer)),
        None => [0; PROOF_BYTES],
    };
    encode_message(MESSAGE_PROOF, &[&proof[..], &offer].concat())
}

fn refused(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::AuthenticationFailed => Failure::Authentication("the other end does not accept our key"),
        Refusal::VersionMismatch => Failure::Version("told by the other end".to_owned()),
        Refusal::Duplicate => Failure::Duplicate,
        Refusal::Stale => Failure::Stale,
    }
}

async fn read_greeting(stream: &mut TcpStream) -> Result<(Vec<u8>, Greeting), Failure> {
    let mut head = [0; GREETING_HEAD_BYTES];
    stream.read_exact(&mut head).await?;
    let decoded = GreetingHead::decode(&head)?;
    if !(decoded.lowest_version..=decoded.highest_version).contains(&VERSION) {
        return Err(Failure::Version(format!(
            "we speak {VERSION}, they speak {} to {}",
            decoded.lowest_version, decoded.highest_version
        )));
    }
    let mut bytes = vec![0; GREETING_HEAD_BYTES + decoded.body_bytes];
    bytes[..GREETING_HEAD_BYTES].copy_from_slice(&head);
    stream.read_exact(&mut bytes[GREETING_HEAD_BYTES..]).await?;
    let greeting = Greeting::decode(&bytes[GREETING_HEAD_BYTES..])?;
    Ok((bytes, greeting))
}

enum Message {
    Proof { proof: [u8; PROOF_BYTES], offer: [u8; OFFER_BYTES] },
    Refusal(Refusal),
}

async fn read_message(stream: &mut TcpStream) -> Result<Message, Failure> {
    let mut head = [0; MESSAGE_HEAD_BYTES];
    stream.read_exact(&mut head).await?;
    let length = usize::from(u16::from_be_bytes([head[1], head[2]]));
    if length > MAX_MESSAGE_BYTES {
        return Err(Failure::Malformed("handshake message is too long"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    match head[0] {
        MESSAGE_PROOF => {
            let Some((proof, offer)) = body.split_first_chunk::<PROOF_BYTES>() else {
                return Err(Failure::Malformed("proof is too short"));
            };
            let offer = offer.try_into().map_err(|_| Failure::Malformed("offer has the wrong length"))?;
            Ok(Message::Proof { proof: *proof, offer })
        }
        MESSAGE_REFUSAL => Ok(Message::Refusal(Refusal::decode(&body)?)),
        _ => Err(Failure::Malformed("unknown handshake message")),
    }
}
