//! The members of the hub, the view this node acts on, and when all members act on the same one.
//!
//! A *member* is a node that is up and told its [`Status`] for this hub. The *view* is a snapshot of the members,
//! changed in debounced steps (R14). Every status carries the hash of its sender's view and the number of the last
//! entry of its log. A view is **settled** when every member reports the same hash and we have every member's log
//! as far as it was when it said so. From then on we know whatever anybody did under an earlier view: only then is
//! anything started (R3).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::ids::{KindName, NodeRef};
use crate::strategy::Candidate;
use crate::swim::Evidence;
use crate::time::Timestamp;
use crate::wire::{Inbox, LogEntry, MemberInfo, Outbox, Status};

/// How long a node that is up has to tell that it runs this hub.
const STATUS_GRACE: Duration = Duration::from_millis(500);

/// A node that is up, and what we know of its hub.
#[derive(Default)]
pub(super) struct Peer {
    /// When membership said that it is up.
    pub(super) up_at: Timestamp,
    /// The last status, once there is one. Its record is in `info`.
    pub(super) status: Option<Status>,
    /// Its record.
    pub(super) info: Option<MemberInfo>,
    /// The version of our record that it has.
    pub(super) heard_info: u64,
    /// When its hub started; frames of an earlier one are refused.
    pub(super) started_ms: u64,
    /// It said that its hub ends, or it was refused.
    pub(super) is_refused: bool,
    /// Its oldest open request, as far as we know.
    pub(super) open_from: u64,
    /// How far we have its log.
    pub(super) known_seq: u64,
    /// How far it has ours.
    pub(super) acked_seq: u64,
    /// How far our log was sent to it.
    pub(super) sent_seq: u64,
    /// It has, or was sent, what it asked of our log. Before, it is sent it whomever the strategy chooses.
    pub(super) is_served: bool,
    /// The latest round of its digest that was seen here.
    pub(super) digest_round: u64,
    /// We compared our wanted children with its since it became a member.
    pub(super) is_wanted_synced: bool,
    /// Such a comparison was begun by either end.
    pub(super) is_comparing: bool,
    /// Its wanted hash was equal to ours at this time.
    pub(super) agreed_at: Timestamp,
    /// An acknowledgement of its log is due.
    pub(super) owes_ack: bool,
    /// Pieces of a snapshot that is coming in.
    pub(super) snapshot: Option<PartialSnapshot>,
    /// What waits to be sent: control, bulk.
    pub(super) outboxes: [Outbox; 2],
    /// The frame that carried `status`.
    pub(super) status_number: u64,
    pub(super) inbox: Inbox,
}

/// A snapshot of which some pieces are here.
pub(super) struct PartialSnapshot {
    pub(super) seq: u64,
    pub(super) pieces: BTreeMap<u32, Vec<LogEntry>>,
}

impl Peer {
    /// It runs this hub and may be in the view.
    pub(super) fn is_member(&self) -> bool {
        self.status.is_some() && !self.is_refused
    }
}

/// How long a silent member is remembered (R1).
const REMEMBERED: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
/// Nodes that are down of which it is remembered which frames were seen.
const MAX_INBOXES: usize = 64;
/// Gone nodes of which it is remembered how far their logs are known.
const MAX_HEARD: usize = 1024;

/// One node in the view.
#[derive(Clone, Debug)]
pub(super) struct ViewMember {
    pub(super) info: MemberInfo,
    pub(super) kinds: BTreeSet<KindName>,
}

impl ViewMember {
    fn new(info: MemberInfo) -> Self {
        let kinds = info.kinds.iter().map(|kind| kind.name.clone()).collect();
        Self { info, kinds }
    }

    fn candidate<'a>(&'a self, node: &'a NodeRef) -> Option<Candidate<'a>> {
        let Self { info: MemberInfo { weight, labels, is_leaving, .. }, kinds } = self;
        (!is_leaving).then_some(Candidate { node, weight: *weight, labels, kinds })
    }
}

/// The members as this node acts on them, itself included.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// Counts the views of this node.
    pub(super) number: u64,
    pub(super) hash: u64,
    pub(super) members: BTreeMap<NodeRef, ViewMember>,
}

impl View {
    pub(super) fn new(number: u64, infos: BTreeMap<NodeRef, MemberInfo>) -> Self {
        let encoded = postcard::to_allocvec(&infos).unwrap_or_default();
        Self {
            number,
            hash: xxh3_64(&encoded),
            members: infos.into_iter().map(|(node, info)| (node, ViewMember::new(info))).collect(),
        }
    }

    /// The members that take children.
    pub(super) fn candidates(&self) -> Vec<Candidate<'_>> {
        self.members.iter().filter_map(|(node, member)| member.candidate(node)).collect()
    }

    /// A member that takes children.
    pub(super) fn candidate(&self, node: &NodeRef) -> Option<Candidate<'_>> {
        let (node, member) = self.members.get_key_value(node)?;
        member.candidate(node)
    }

    pub(super) fn contains(&self, node: &NodeRef) -> bool {
        self.members.contains_key(node)
    }

    /// Whether some member registered the kind.
    pub(super) fn offers(&self, kind: &KindName) -> bool {
        self.members.values().any(|member| member.kinds.contains(kind))
    }
}

/// The members and the logs of those that are gone.
#[derive(Default)]
pub(super) struct Membership {
    pub(super) peers: BTreeMap<NodeRef, Peer>,
    pub(super) view: View,
    /// Gone members whose children are not all adopted, and how far we have their logs.
    pub(super) departed: BTreeMap<NodeRef, u64>,
    /// How far we heard the logs of nodes that are gone, also of those with nothing left to adopt.
    pub(super) heard: BTreeMap<NodeRef, u64>,
    /// Members that fell silent, since when: they may come back with what they had (R1).
    pub(super) silent: BTreeMap<NodeRef, Timestamp>,
    /// Which frames of nodes that are down were seen: they may come back, and a late copy after them.
    pub(super) inboxes: BTreeMap<NodeRef, Inbox>,
    /// Why members are gone that the view still has.
    pub(super) gone: BTreeMap<NodeRef, Evidence>,
    pub(super) is_settled: bool,
    /// When all peers were told our status last.
    pub(super) told_all_at: Timestamp,
    /// Heartbeats in a row that tried to agree on the present view.
    pub(super) tries: u32,
    /// Rises when this node was stalled or got a lease: what members said before counts no more, they have to answer
    /// this number.
    pub(super) generation: u64,
}

impl Membership {
    /// The other members of the view.
    pub(super) fn others<'a>(&'a self, me: &'a NodeRef) -> impl Iterator<Item = &'a NodeRef> {
        self.view.members.keys().filter(move |node| *node != me)
    }

    /// Whether every member's log is here as far as it was when the member told of it last.
    pub(super) fn has_all_logs(&self) -> bool {
        let mut members = self.peers.values().filter(|peer| !peer.is_refused);
        members.all(|peer| peer.status.as_ref().is_none_or(|status| peer.known_seq >= status.seq))
    }

    pub(super) fn member(&self, node: &NodeRef) -> Option<&Peer> {
        self.peers.get(node).filter(|peer| peer.is_member())
    }

    /// Whether the last words of a gone node are known here as far as that. To this node it may be there: then what it
    /// says itself goes before what others remember of it.
    pub(super) fn has_heard(&self, gone: &NodeRef, seq: u64) -> bool {
        self.view.contains(gone)
            || self.heard.get(gone).is_some_and(|known| *known >= seq)
            || self.peers.get(gone).is_some_and(|peer| peer.known_seq >= seq)
    }

    /// Whether every member that may come back is here. A member is remembered for a day.
    pub(super) fn is_everybody_here(&mut self, now: Timestamp) -> bool {
        self.silent.retain(|_, since| now.since(*since) < REMEMBERED);
        self.gone.is_empty() && self.departed.is_empty() && self.silent.is_empty()
    }

    /// Notes that a member went; a silent one may come back.
    pub(super) fn note_gone(&mut self, node: &NodeRef, evidence: Evidence, now: Timestamp) {
        match evidence {
            Evidence::Suspected => {
                self.silent.remove(node);
                self.remember_silent(node, now, now);
            }
            Evidence::Refused | Evidence::Left | Evidence::Replaced => {
                self.silent.remove(node);
            }
        }
    }

    /// Remembers a silent member, unless it was silent for too long.
    pub(super) fn remember_silent(&mut self, node: &NodeRef, since: Timestamp, now: Timestamp) {
        if self.silent.len() < MAX_HEARD && now.since(since) < REMEMBERED {
            let known = self.silent.entry(node.clone()).or_insert(since);
            *known = since.min(*known);
        }
    }

    /// Keeps what was seen of a node that is down.
    pub(super) fn keep_inbox(&mut self, node: &NodeRef, inbox: Inbox) {
        while self.inboxes.len() >= MAX_INBOXES
            && let Some(oldest) = self.inboxes.keys().min_by_key(|node| node.incarnation).cloned()
        {
            self.inboxes.remove(&oldest);
        }
        self.inboxes.insert(node.clone(), inbox);
    }

    /// Notes how far the log of a gone node is known.
    pub(super) fn hear(&mut self, gone: &NodeRef, seq: u64) {
        while self.heard.len() >= MAX_HEARD
            && let Some(oldest) = self.heard.keys().min_by_key(|node| node.incarnation).cloned()
        {
            self.heard.remove(&oldest);
        }
        let known = self.heard.entry(gone.clone()).or_default();
        *known = seq.max(*known);
    }

    /// Whether every member acts on our view and we know what it did before. See the module's doc.
    ///
    /// A node that is up but not in the view makes it unsettled too: it may hold what seems to be nobody's. One that
    /// never tells a status does not run this hub, and is waited for only so long.
    pub(super) fn compute_settled(&self, me: &NodeRef, now: Timestamp) -> bool {
        let is_nobody_new = self.peers.iter().all(|(node, peer)| match &peer.status {
            _ if peer.is_refused => true,
            Some(_) => self.view.contains(node),
            None => now.since(peer.up_at) >= STATUS_GRACE,
        });
        let is_agreed = |node| self.peers.get(node).is_some_and(|peer| self.is_agreed_with(peer, me));
        is_nobody_new && self.others(me).all(is_agreed)
    }

    /// Whether a peer acts on our view and we know what it did before.
    pub(super) fn is_agreed_with(&self, peer: &Peer, me: &NodeRef) -> bool {
        peer.is_wanted_synced
            && peer.status.as_ref().is_some_and(|status| {
                status.view_hash == self.view.hash
                    && status.heard_generation >= self.generation
                    && peer.known_seq >= status.seq
                    && status.departed.iter().all(|(gone, seq)| gone == me || self.has_heard(gone, *seq))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Incarnation, NodeName};

    /// A newcomer had a member's log, and then took what another remembered of it, for whom it was gone, for its rows.
    #[test]
    fn old_words_of_a_node_that_is_there_come_late_then_they_were_heard() {
        let node = NodeRef { name: NodeName::new("n").unwrap(), incarnation: Incarnation(1) };
        let mut membership = Membership::default();
        membership.peers.insert(node.clone(), Peer { known_seq: 5, ..Peer::default() });
        assert!(membership.has_heard(&node, 5));
        assert!(!membership.has_heard(&node, 6));
    }
}
