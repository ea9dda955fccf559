//! Membership: foca and the driver around it, pure (A7).
//!
//! foca probes, gossips and remembers; the driver decides. It vets what peers say before foca hears it
//! (`vet`), owns the suspicion timers and checks before it declares a member down (`suspicion`), asks
//! whether a name is taken (`admission`), compares views (`exchange`) and asks for links (`links`).
//! After each input it tells the net change of the members (`settle`).

mod admission;
mod exchange;
mod foca_driver;
mod identity;
mod leave;
mod links;
mod settle;
mod suspicion;
#[cfg(test)]
mod tests;
mod timers;
mod vet;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use foca::{Foca, NoCustomBroadcast};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use self::foca_driver::Gossip;
use self::identity::Id;
use self::leave::Leaving;
use self::links::Link;
use self::settle::{Departed, Touch};
use self::suspicion::{Health, Suspicion};
use self::timers::{Due, Timers};
use self::wire::{IdCodec, Message};
use crate::config::Profile;
use crate::ids::{Contact, NodeName, NodeRef};
use crate::time::Timestamp;

/// Why a member counts as gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Evidence {
    /// Its link was closed and two reconnects were refused: nothing listens there (R14).
    Refused,
    /// It did not answer probes, nor the last check.
    Suspected,
    /// It said that it leaves.
    Left,
    /// A newer incarnation has its name (R13).
    Replaced,
}

/// What a node's membership starts with.
#[derive(Clone, Debug)]
pub struct SwimSetup {
    /// This node. Its address has at most 255 bytes.
    pub contact: Contact,
    /// The timers of failure detection.
    pub profile: Profile,
    /// Seeds the random choices; the same seed and inputs give the same effects.
    pub seed: u64,
}

/// One input of membership.
#[derive(Clone, Debug)]
pub enum SwimInput {
    /// An authenticated link to this node is up; comes before any packet over it.
    LinkUp(Contact),
    /// The link is gone.
    LinkDown {
        /// The other end.
        node: NodeRef,
        /// Whether the reconnects of R14 were refused.
        refused: bool,
    },
    /// A packet came over the link of this node.
    Packet {
        /// The other end, as authenticated by the link.
        from: NodeRef,
        /// What it sent.
        bytes: Bytes,
    },
    /// The user wants this node to leave.
    Leave,
    /// The moment of [`Swim::next_deadline`] came; earlier it does nothing.
    Tick,
}

/// What membership wants done, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SwimEffect {
    /// Send this over the link; without one it may be dropped. At most 60 KiB, mostly below 1200 bytes.
    Packet {
        /// To whom.
        to: NodeRef,
        /// The encoded packet.
        bytes: Bytes,
    },
    /// A link to this node is wanted.
    Connect(Contact),
    /// Close the link to this node.
    Disconnect(NodeRef),
    /// This node is a member. Comes only after [`SwimEffect::Welcome`].
    Up(Contact),
    /// This node is no member any more.
    Down(NodeRef, Evidence),
    /// On a newcomer, once: a member accepted it.
    Welcome,
    /// This node must not go on under its name: a living node has it, or it was replaced (R13). It says no more
    /// hello and asks for no more links.
    NameTaken {
        /// Who has the name.
        by: Contact,
    },
    /// This node's leave is acknowledged or given up. Nothing comes after it.
    Left,
}

/// Lateness from which this node counts as stalled.
const STALL: Duration = Duration::from_millis(150);

/// The membership of one node.
pub struct Swim {
    me: Contact,
    profile: Profile,
    foca: Foca<Id, IdCodec, ChaCha8Rng, NoCustomBroadcast>,
    rng: ChaCha8Rng,
    timers: Timers,
    gossip: Gossip,
    links: BTreeMap<NodeRef, Link>,
    /// What the hubs were told: the members that are up.
    published: BTreeMap<NodeName, Contact>,
    departed: BTreeMap<NodeName, Departed>,
    /// Incarnations that never come back, why, and until when that is remembered.
    finals: BTreeMap<NodeRef, (Evidence, Timestamp)>,
    suspicions: BTreeMap<NodeName, Suspicion>,
    /// Members that may have changed during this input.
    touched: BTreeMap<NodeName, Touch>,
    health: Health,
    /// Lateness is counted from here, so that one stall counts once.
    excused_until: Timestamp,
    /// A member has accepted this node.
    is_established: bool,
    /// Nobody but the member that took this node in may know it yet: until then it dials whoever it learns of.
    is_newcomer_until: Timestamp,
    told_name_taken: bool,
    /// This node took a new identity during this input: its peers have to learn it.
    has_new_identity: bool,
    leaving: Option<Leaving>,
    has_left: bool,
    next_nonce: u64,
    rejected_packets_count: u64,
}

/// One call of [`Swim::handle`].
struct Step<'a> {
    now: Timestamp,
    effects: &'a mut Vec<SwimEffect>,
}

impl Swim {
    /// A node that knows nobody yet.
    #[must_use]
    pub fn new(now: Timestamp, setup: SwimSetup) -> Self {
        let SwimSetup { contact, profile, seed } = setup;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let foca =
            Foca::new(Id::new(&contact), foca_driver::config(&profile, 1), ChaCha8Rng::from_rng(&mut rng), IdCodec);
        let mut swim = Self {
            me: contact,
            profile,
            foca,
            rng,
            timers: Timers::default(),
            gossip: Gossip::default(),
            links: BTreeMap::new(),
            published: BTreeMap::new(),
            departed: BTreeMap::new(),
            finals: BTreeMap::new(),
            suspicions: BTreeMap::new(),
            touched: BTreeMap::new(),
            health: Health::new(now),
            excused_until: now,
            is_established: false,
            is_newcomer_until: now,
            told_name_taken: false,
            has_new_identity: false,
            leaving: None,
            has_left: false,
            next_nonce: 0,
            rejected_packets_count: 0,
        };
        swim.schedule_sync(now);
        swim
    }

    /// Takes one input and appends what is to be done.
    pub fn handle(&mut self, now: Timestamp, input: SwimInput, effects: &mut Vec<SwimEffect>) {
        if self.has_left {
            return;
        }
        let step = &mut Step { now, effects };
        self.notice_stall(now);
        match input {
            SwimInput::LinkUp(contact) => self.link_up(contact, step),
            SwimInput::LinkDown { node, refused } => self.link_down(&node, refused, step),
            SwimInput::Packet { from, bytes } => self.packet(&from, &bytes, step),
            SwimInput::Leave => self.start_leave(step),
            SwimInput::Tick => {
                while let Some(due) = self.timers.pop(now) {
                    self.fire(due, step);
                }
            }
        }
        if !self.has_left {
            self.settle(step);
        }
    }

    /// When the next [`SwimInput::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Timestamp {
        self.timers.next_deadline()
    }

    /// The members that are up, without this node.
    pub fn members(&self) -> impl Iterator<Item = &Contact> {
        self.published.values()
    }

    /// How unwell this node itself is: 0 to 7.
    #[must_use]
    pub fn health(&self) -> u8 {
        self.health.score()
    }

    /// Packets that were ignored: unknown, damaged, or from a node without an accepted link.
    #[must_use]
    pub fn rejected_packets_count(&self) -> u64 {
        self.rejected_packets_count
    }

    fn fire(&mut self, due: Due, step: &mut Step<'_>) {
        match due {
            Due::Foca(timer) => self.foca_timer(timer, step),
            Due::Suspicion(name, number) => self.step_suspicion(&name, number, step),
            Due::NameCheck(newcomer, nonce) => self.step_name_check(&newcomer, nonce, step),
            Due::Hello(peer, session) => self.repeat_hello(&peer, session, step),
            Due::Close(node, session) => self.close_link(&node, session, step),
            Due::Dial(node) => self.dial_member(&node, step),
            Due::Leave => self.step_leave(step),
            Due::Sync => self.sync(step),
        }
    }

    fn packet(&mut self, from: &NodeRef, bytes: &[u8], step: &mut Step<'_>) {
        let Some(link) = self.links.get_mut(from) else {
            self.rejected_packets_count += 1;
            return;
        };
        link.last_heard = step.now;
        let is_member_link = link.is_accepted() && self.final_evidence(from).is_none();
        let Some(message) = Message::decode(bytes) else {
            self.rejected_packets_count += 1;
            return;
        };
        self.health.heard(step.now);
        match message {
            Message::Hello(hello) => self.hello(from, hello, step),
            Message::Welcome { rank, view_hash } => self.welcomed(from, rank, view_hash, step),
            Message::Taken { by } => self.name_taken(by, step),
            Message::Probe(probe) => self.probed(from, probe, step),
            Message::Answer { origin, nonce, me } => self.answered(origin, nonce, me, step),
            Message::Leave => self.peer_leaves(from, step),
            Message::LeaveAck => self.leave_acknowledged(from, step),
            Message::Foca(data) if is_member_link => self.foca_packet(from, data, step),
            Message::State { records, wants_reply } if is_member_link => {
                self.take_state(from, records, wants_reply, step)
            }
            Message::Digest { view_hash } if is_member_link => {
                self.compare_digest(from, view_hash, step);
            }
            Message::Foca(_) | Message::State { .. } | Message::Digest { .. } => {
                self.rejected_packets_count += 1;
            }
        }
    }

    /// Sends a message over the link of `to`; without one nothing happens.
    fn send(&self, to: &NodeRef, message: &Message<'_>, step: &mut Step<'_>) {
        if let Some(bytes) = message.encode() {
            self.send_packet(to.clone(), bytes, step);
        }
    }

    fn send_packet(&self, to: NodeRef, bytes: Bytes, step: &mut Step<'_>) {
        if self.links.contains_key(&to) {
            step.effects.push(SwimEffect::Packet { to, bytes });
        }
    }

    fn next_nonce(&mut self) -> u64 {
        self.next_nonce += 1;
        self.next_nonce
    }
}

impl fmt::Debug for Swim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Swim")
            .field("me", &self.me)
            .field("members", &self.published.values())
            .field("health", &self.health.score())
            .finish_non_exhaustive()
    }
}
