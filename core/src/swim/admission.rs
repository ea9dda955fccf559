//! Who may have a name (R13).
//!
//! Each side of a new link says hello and judges the other. A name is taken when another incarnation holds it
//! and answers a probe; the probe goes over this node's link and through other members, so that a node that
//! has no link to the holder does not give its name away. Without an answer in time, or anybody to ask, the
//! newcomer replaces the holder. One with a lower incarnation (a clock was set back) is told a rank above
//! the holder's and takes it, which makes it the later one for every member.

use std::time::Duration;

use foca::{Member, State};

use super::identity::{Condition, Id, Record};
use super::timers::Due;
use super::wire::{Hello, Message};
use super::{Evidence, Step, Swim, SwimEffect};
use crate::ids::{Contact, NodeRef};
use crate::time::Timestamp;

/// Pause before hello is said again; doubles up to [`LONGEST_HELLO_PAUSE`].
pub(super) const FIRST_HELLO_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_HELLO_PAUSE: Duration = Duration::from_secs(8);
/// A refused node has this long to hear so: a transport may drop what is queued when a link is closed.
const CLOSE_AFTER: Duration = Duration::from_millis(200);
/// How long the holder of a name has to answer (R13).
const NAME_CHECK: Duration = Duration::from_millis(300);
/// Probes within that time.
const NAME_PROBES_COUNT: u32 = 3;

/// What this node thinks of the other end of a link.
pub(super) enum Admission {
    /// It did not say hello yet.
    Unknown,
    /// Another incarnation holds its name; that one is being asked.
    Checking(Box<NameCheck>),
    /// It is, or was, a member.
    Accepted,
    /// It was told that its name is taken; the link is about to be closed.
    Refused,
}

/// A question to the holder of a name.
pub(super) struct NameCheck {
    nonce: u64,
    holder: Id,
    /// The node at the other end of this link.
    newcomer: Record,
    probes_left: u32,
    since: Timestamp,
    /// The newcomer is a member, and this record of a later holder came by hearsay. True after most restarts;
    /// stale where a clock was set back.
    hearsay: Option<Record>,
}

impl Admission {
    pub(super) const fn is_accepted(&self) -> bool {
        match self {
            Self::Accepted => true,
            Self::Checking(check) => check.hearsay.is_some(),
            Self::Unknown | Self::Refused => false,
        }
    }
}

impl Swim {
    pub(super) fn say_hello(&mut self, peer: &NodeRef, step: &mut Step<'_>) {
        let me = self.own_record();
        let is_established = self.is_established;
        let Some(link) = self.links.get_mut(peer) else {
            return;
        };
        let has_heard_you = !matches!(link.admission, Admission::Unknown);
        link.told_established = is_established;
        let again = Due::Hello(peer.clone(), link.session);
        self.timers.add(step.now + link.next_hello_after, again);
        link.next_hello_after = (link.next_hello_after * 2).min(LONGEST_HELLO_PAUSE);
        let hello = Hello { me, is_established, has_heard_you };
        self.send(peer, &Message::Hello(hello), step);
    }

    pub(super) fn repeat_hello(&mut self, peer: &NodeRef, session: u64, step: &mut Step<'_>) {
        let is_due = self.links.get(peer).is_some_and(|link| link.session == session && !link.is_welcomed);
        if is_due && !self.is_going() {
            self.say_hello(peer, step);
        }
    }

    pub(super) fn hello(&mut self, from: &NodeRef, hello: Hello, step: &mut Step<'_>) {
        let Hello { me: record, is_established, has_heard_you } = hello;
        if record.id.node != *from || record.condition != Condition::Alive {
            self.rejected_packets_count += 1;
            return;
        }
        if self.leaving.is_some() {
            self.tell_leave(from, step);
            return;
        }
        let Some(link) = self.links.get(from).filter(|link| !matches!(link.admission, Admission::Refused)) else {
            return;
        };
        if link.is_welcomed && !has_heard_you && !self.is_going() {
            // Its end of the link began anew, ours did not.
            self.say_hello(from, step);
        }
        match self.final_evidence(from) {
            None if from.name == self.me.node.name => {
                self.settle_own_name(from, &record, is_established, step);
            }
            None => self.admit(record, None, step),
            // It is on its way out; what it needs to know it knows.
            Some(Evidence::Left) => {}
            Some(Evidence::Replaced | Evidence::Refused | Evidence::Suspected) => {
                self.refuse_replaced(from, step);
            }
        }
    }

    /// Two living nodes with this node's name. Both ends decide by the same facts, so exactly one goes: the
    /// newcomer; of two members the one that was replaced; of two newcomers the later one.
    fn settle_own_name(&mut self, from: &NodeRef, record: &Record, is_established: bool, step: &mut Step<'_>) {
        let am_established = self.links.get(from).is_some_and(|link| link.told_established);
        let me = self.foca.identity();
        let am_later = (me.rank, me.node.incarnation) > (record.id.rank, record.id.node.incarnation);
        let stays = match (am_established, is_established) {
            (true, false) => true,
            (false, true) => false,
            (true, true) => am_later,
            (false, false) => !am_later,
        };
        if stays {
            self.refuse(from, self.me.clone(), step);
        } else {
            // The other end says so too, but a word may be lost with the link that bears it.
            self.name_taken(record.id.contact(), step);
        }
    }

    /// Accepts a newcomer, unless another incarnation holds its name and was not `asked` yet.
    fn admit(&mut self, newcomer: Record, asked: Option<&NodeRef>, step: &mut Step<'_>) {
        let node = newcomer.id.node.clone();
        let Some(link) = self.links.get_mut(&node) else {
            return;
        };
        if asked.is_none()
            && let Admission::Checking(check) = &mut link.admission
        {
            check.newcomer = newcomer;
            return;
        }
        let holder = self
            .known(&node.name)
            .filter(|member| member.state() != State::Down)
            .map(|member| member.id().clone())
            .filter(|holder| holder.node != node && Some(&holder.node) != asked);
        match holder {
            Some(holder) if !self.is_surely_gone(&holder, &newcomer.id) => {
                self.start_name_check(holder, newcomer, None, step);
            }
            Some(_) | None => self.accept(newcomer, 0, step),
        }
    }

    /// Two processes cannot listen at one address.
    fn is_surely_gone(&self, holder: &Id, newcomer: &Id) -> bool {
        !self.links.contains_key(&holder.node) && holder.address == newcomer.address
    }

    /// A linked member is said to be replaced. If the other one answers it is so; if only the linked one does,
    /// it keeps the name. Returns whether the record may be applied at once.
    pub(super) fn is_hearsay_settled(&mut self, known: &Member<Id>, record: &Record, step: &mut Step<'_>) -> bool {
        let node = &known.id().node;
        match self.links.get(node).map(|link| &link.admission) {
            None | Some(Admission::Unknown | Admission::Refused) => true,
            Some(Admission::Checking(_)) => false,
            Some(Admission::Accepted) => {
                let holder = record.id.clone();
                self.remind(node, step);
                self.start_name_check(holder, Record::of(known), Some(record.clone()), step);
                false
            }
        }
    }

    fn start_name_check(&mut self, holder: Id, newcomer: Record, hearsay: Option<Record>, step: &mut Step<'_>) {
        let node = newcomer.id.node.clone();
        let nonce = self.next_nonce();
        if let Some(link) = self.links.get_mut(&node) {
            link.admission = Admission::Checking(Box::new(NameCheck {
                nonce,
                holder,
                newcomer,
                probes_left: NAME_PROBES_COUNT,
                since: step.now,
                hearsay,
            }));
            self.step_name_check(&node, nonce, step);
        }
    }

    pub(super) fn step_name_check(&mut self, node: &NodeRef, nonce: u64, step: &mut Step<'_>) {
        let Some(Admission::Checking(check)) = self.links.get_mut(node).map(|link| &mut link.admission) else {
            return;
        };
        if check.nonce != nonce {
            return;
        }
        let holder = check.holder.node.clone();
        let is_member_asked_too = check.hearsay.is_some();
        if check.probes_left > 0 {
            check.probes_left -= 1;
            let pause = NAME_CHECK / NAME_PROBES_COUNT;
            self.timers.add(step.now + pause, Due::NameCheck(node.clone(), nonce));
            if self.ask_widely(&holder, nonce, step) || is_member_asked_too {
                return;
            }
        }
        self.end_name_check(node, step);
    }

    /// The holder did not answer, or is gone.
    fn end_name_check(&mut self, node: &NodeRef, step: &mut Step<'_>) {
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        let last_heard = link.last_heard;
        let check = match std::mem::replace(&mut link.admission, Admission::Unknown) {
            Admission::Checking(check) => check,
            other @ (Admission::Unknown | Admission::Accepted | Admission::Refused) => {
                link.admission = other;
                return;
            }
        };
        match check.hearsay {
            None => self.admit(check.newcomer, Some(&check.holder.node), step),
            Some(_) if last_heard > check.since => {
                let rank = check.holder.rank.saturating_add(1);
                self.accept(check.newcomer, rank, step);
            }
            Some(record) => {
                link.admission = Admission::Accepted;
                self.apply(record.into_member(), true, step);
            }
        }
    }

    /// An answer came: if the holder of a name was asked, the name is taken.
    pub(super) fn name_is_alive(&mut self, holder: &NodeRef, nonce: u64, step: &mut Step<'_>) {
        let newcomer = self.links.iter().find_map(|(node, link)| match &link.admission {
            Admission::Checking(check) if check.nonce == nonce && check.holder.node == *holder => {
                let is_valid = check.hearsay.is_some() || self.is_up(holder);
                is_valid.then(|| (node.clone(), check.holder.contact()))
            }
            Admission::Checking(_) | Admission::Unknown | Admission::Accepted | Admission::Refused => None,
        });
        if let Some((newcomer, by)) = newcomer {
            self.refuse(&newcomer, by, step);
        }
    }

    /// The link to this node is gone: whoever waits for its name may not have to wait any longer.
    pub(super) fn name_holder_lost(&mut self, holder: &NodeRef, step: &mut Step<'_>) {
        let known = self.known_active(holder).map(|member| member.id().clone());
        let waiting: Vec<NodeRef> = self
            .links
            .iter()
            .filter_map(|(node, link)| match &link.admission {
                Admission::Checking(check) if check.holder.node == *holder && check.hearsay.is_none() => {
                    let is_over = known.as_ref().is_none_or(|id| self.is_surely_gone(id, &check.newcomer.id));
                    is_over.then(|| node.clone())
                }
                Admission::Checking(_) | Admission::Unknown | Admission::Accepted | Admission::Refused => None,
            })
            .collect();
        for node in waiting {
            self.end_name_check(&node, step);
        }
    }

    /// Makes a linked node a member, at `least_rank` or above.
    pub(super) fn accept(&mut self, newcomer: Record, least_rank: u64, step: &mut Step<'_>) {
        let mut id = newcomer.id;
        id.rank = id.rank.max(least_rank);
        let node = id.node.clone();
        if let Some(known) = self.known(&node.name).map(Member::id) {
            let least = if known.node == node { known.rank } else { known.rank.saturating_add(1) };
            id.rank = id.rank.max(least);
        }
        let rank = id.rank;
        let mut is_welcomed = false;
        if let Some(link) = self.links.get_mut(&node) {
            link.admission = Admission::Accepted;
            is_welcomed = link.is_welcomed;
        }
        self.apply(Member::new(id, newcomer.refutation, State::Alive), true, step);
        if self.known_active(&node).is_some_and(|member| member.state() == State::Suspect) {
            self.remind(&node, step);
        }
        let view_hash = self.view_hash();
        self.send(&node, &Message::Welcome { rank, view_hash }, step);
        if is_welcomed && self.me.node < node {
            // Its welcome came while its name was being checked, when nothing could be exchanged yet.
            self.send_state(&node, true, step);
        }
    }

    /// Tells a node that its name is taken, and closes the link when it had time to hear that.
    pub(super) fn refuse(&mut self, node: &NodeRef, by: Contact, step: &mut Step<'_>) {
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        if matches!(link.admission, Admission::Refused) {
            return;
        }
        link.admission = Admission::Refused;
        let close = Due::Close(node.clone(), link.session);
        self.timers.add(step.now + CLOSE_AFTER, close);
        self.send(node, &Message::Taken { by }, step);
    }

    pub(super) fn close_link(&mut self, node: &NodeRef, session: u64, step: &mut Step<'_>) {
        if self.links.get(node).is_some_and(|link| link.session == session) {
            self.links.remove(node);
            step.effects.push(SwimEffect::Disconnect(node.clone()));
        }
    }

    /// A replaced incarnation came back.
    fn refuse_replaced(&mut self, node: &NodeRef, step: &mut Step<'_>) {
        match self.known(&node.name).map(|member| member.id().contact()) {
            Some(by) => self.refuse(node, by, step),
            None => step.effects.push(SwimEffect::Disconnect(node.clone())),
        }
    }

    pub(super) fn welcomed(&mut self, from: &NodeRef, rank: u64, view_hash: u64, step: &mut Step<'_>) {
        let Some(link) = self.links.get_mut(from) else {
            return;
        };
        link.is_welcomed = true;
        let is_accepted = link.is_accepted();
        self.raise_rank(rank, step);
        if !self.is_established {
            self.is_established = true;
            self.is_newcomer_until = step.now + super::links::LARGER_DIALS_AFTER;
            step.effects.push(SwimEffect::Welcome);
            self.touch_members();
        }
        // One side is enough to begin the exchange.
        if is_accepted && self.me.node < *from {
            self.compare_digest(from, view_hash, step);
        }
    }

    pub(super) fn name_taken(&mut self, by: Contact, step: &mut Step<'_>) {
        let is_about_me = by.node.name == self.me.node.name && by.node != self.me.node;
        if is_about_me && !self.told_name_taken {
            self.told_name_taken = true;
            step.effects.push(SwimEffect::NameTaken { by });
        }
    }
}
