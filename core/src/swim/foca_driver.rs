//! Calls foca and carries out what it asks for.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use bytes::Bytes;
use foca::{
    Config, Foca, Member, Message as FocaMessage, NoCustomBroadcast, Notification, PeriodicParams, Runtime, State,
    Timer,
};
use rand_chacha::ChaCha8Rng;

use super::identity::{Condition, Id, Record};
use super::timers::Due;
use super::wire::{FocaPacket, IdCodec, MAX_FOCA_BYTES, Message};
use super::{Step, Swim};
use crate::config::Profile;
use crate::ids::{NodeName, NodeRef};
use crate::swim::Evidence;
use crate::time::Timestamp;

/// Shortest delay of a timer, so that a configuration of zeros cannot keep a tick busy for ever.
const SHORTEST_DELAY: Duration = Duration::from_millis(1);
const INDIRECT_PROBES: NonZeroUsize = nonzero(3);

const fn nonzero(number: usize) -> NonZeroUsize {
    match NonZeroUsize::new(number) {
        Some(number) => number,
        None => NonZeroUsize::MIN,
    }
}

/// foca's configuration for a cluster of this size (engine.md §2.1).
pub(super) fn config(profile: &Profile, node_count: usize) -> Config {
    let every = |frequency, members| Some(PeriodicParams { frequency, num_members: nonzero(members) });
    Config {
        probe_period: profile.probe_period.max(SHORTEST_DELAY),
        probe_rtt: profile.probe_timeout.max(SHORTEST_DELAY),
        num_indirect_probes: INDIRECT_PROBES,
        max_transmissions: max_transmissions(node_count),
        suspect_to_down_after: profile.suspicion,
        // The driver forgets departed members itself: it knows when another node heard of them.
        remove_down_after: None,
        max_packet_size: nonzero(MAX_FOCA_BYTES),
        notify_down_members: true,
        periodic_announce: every(Duration::from_secs(5), 1),
        periodic_announce_to_down_members: every(Duration::from_secs(2), 2),
        periodic_gossip: every(profile.gossip.max(SHORTEST_DELAY), 3),
    }
}

/// 4 · log₁₀(n + 1), at least 4, in whole numbers: floats would differ between machines.
fn max_transmissions(node_count: usize) -> NonZeroU8 {
    let target = node_count.saturating_add(1);
    let mut count = 4_u8;
    // 10^(k/4) in thousandths for k = 5, 6, … continues with a factor of 1.778 per step.
    let mut needed = 17_783_usize;
    while target.saturating_mul(1000) >= needed && count < 40 {
        count += 1;
        needed = needed.saturating_mul(17_783) / 10_000;
    }
    NonZeroU8::new(count).unwrap_or(NonZeroU8::MIN)
}

/// What foca asked for during one call.
#[derive(Default)]
pub(super) struct Outbox {
    packets: Vec<(NodeRef, Bytes)>,
    timers: Vec<(Timer<Id>, Duration)>,
    changed: Vec<NodeName>,
    displaced: Vec<NodeRef>,
    acks_count: u32,
    failed_probes: Vec<Id>,
    has_new_identity: bool,
    own_refutation: u16,
}

impl Runtime<Id> for Outbox {
    fn notify(&mut self, notification: Notification<'_, Id>) {
        match notification {
            Notification::MemberUp(id) | Notification::MemberDown(id) => {
                self.changed.push(id.node.name.clone());
            }
            Notification::Rename(before, after) => {
                self.changed.push(after.node.name.clone());
                if before.node != after.node {
                    self.displaced.push(before.node.clone());
                }
            }
            Notification::Rejoin(_) => self.has_new_identity = true,
            Notification::DataReceived(header) => {
                if matches!(header.message, FocaMessage::Ack(_) | FocaMessage::ForwardedAck { .. }) {
                    self.acks_count += 1;
                }
            }
            Notification::DataSent(header) => self.own_refutation = header.src_incarnation,
            Notification::ProbeFailed(_, id) => self.failed_probes.push(id.clone()),
            // The rounds of anti-entropy go on whether or not anybody is up, so isolation needs no other answer.
            Notification::Active | Notification::Idle | Notification::Defunct => {}
        }
    }

    fn send_to(&mut self, to: Id, data: &[u8]) {
        self.packets.extend(Message::Foca(data).encode().map(|packet| (to.node, packet)));
    }

    fn submit_after(&mut self, event: Timer<Id>, after: Duration) {
        self.timers.push((event, after));
    }
}

/// The rounds of gossip. They rest while there is nothing to tell: an idle node would wake up ten times a second for
/// them.
#[derive(Default)]
pub(super) struct Gossip {
    /// foca's timer of the next round, which is due once there is something to tell.
    at_rest: Option<Timer<Id>>,
    last_at: Timestamp,
}

type Machine = Foca<Id, IdCodec, ChaCha8Rng, NoCustomBroadcast>;

impl Swim {
    /// Lets foca do something and carries out what it asks for. Its errors mean that a packet or a timer was of
    /// no use any more.
    pub(super) fn with_foca(
        &mut self,
        step: &mut Step<'_>,
        call: impl FnOnce(&mut Machine, &mut Outbox) -> Result<(), foca::Error>,
    ) {
        let mut outbox = Outbox::default();
        if call(&mut self.foca, &mut outbox).is_err() {
            self.rejected_packets_count += 1;
        }
        self.carry_out(outbox, step);
    }

    fn carry_out(&mut self, outbox: Outbox, step: &mut Step<'_>) {
        for (to, packet) in outbox.packets {
            self.send_packet(to, packet, step);
        }
        for (timer, delay) in outbox.timers {
            self.schedule_foca(timer, delay, step);
        }
        for node in outbox.displaced {
            self.displaced(node, step);
        }
        for name in outbox.changed {
            self.touch(name);
        }
        self.has_new_identity |= outbox.has_new_identity;
        for _ in 0..outbox.acks_count {
            self.health.acknowledged();
        }
        for id in outbox.failed_probes {
            self.probe_failed(&id, step);
        }
        self.resume_gossip(step);
    }

    /// A timer of foca is due.
    pub(super) fn foca_timer(&mut self, timer: Timer<Id>, step: &mut Step<'_>) {
        if matches!(timer, Timer::PeriodicGossip(_)) {
            self.gossip.last_at = step.now;
        }
        self.with_foca(step, |foca, outbox| foca.handle_timer(timer, outbox));
    }

    fn resume_gossip(&mut self, step: &Step<'_>) {
        if self.foca.updates_backlog() > 0
            && let Some(timer) = self.gossip.at_rest.take()
        {
            let at = (self.gossip.last_at + self.profile.gossip).max(step.now + SHORTEST_DELAY);
            self.timers.add(at, Due::Foca(timer));
        }
    }

    fn schedule_foca(&mut self, timer: Timer<Id>, delay: Duration, step: &Step<'_>) {
        let delay = match timer {
            // Suspicions and departed members are the driver's.
            Timer::ChangeSuspectToDown { .. } | Timer::RemoveDown(_) => return,
            Timer::ProbeRandomMember(_) | Timer::SendIndirectProbe { .. } => {
                delay * (1 + u32::from(self.health.score()))
            }
            Timer::PeriodicGossip(_) => {
                self.gossip.at_rest = Some(timer);
                return;
            }
            Timer::PeriodicAnnounce(_) | Timer::PeriodicAnnounceDown(_) => delay,
        };
        self.timers.add(step.now + delay.max(SHORTEST_DELAY), Due::Foca(timer));
    }

    /// A packet of foca from a member: its updates are vetted before foca hears them.
    pub(super) fn foca_packet(&mut self, from: &NodeRef, data: &[u8], step: &mut Step<'_>) {
        let Some(packet) = FocaPacket::decode(data) else {
            self.rejected_packets_count += 1;
            return;
        };
        let source = packet.header.src.clone();
        if source.node != *from {
            self.rejected_packets_count += 1;
            return;
        }
        let is_for_us = packet.header.dst == *self.foca.identity();
        self.with_foca(step, |foca, outbox| foca.handle_data(&data[..packet.header_bytes], outbox));
        let is_active =
            self.known(&source.node.name).is_some_and(|member| member.state() != State::Down && *member.id() == source);
        if is_for_us && is_active && !packet.records.is_empty() {
            self.apply_vetted(packet.records, true, step);
        }
    }

    /// Tells foca what of these records passes.
    pub(super) fn apply_vetted(&mut self, records: Vec<Record>, is_gossiped_on: bool, step: &mut Step<'_>) {
        for record in records {
            if let Some(member) = self.vet(record, step) {
                self.apply(member, is_gossiped_on, step);
            }
        }
    }

    /// Tells foca about one member.
    pub(super) fn apply(&mut self, member: Member<Id>, is_gossiped_on: bool, step: &mut Step<'_>) {
        self.touch(member.id().node.name.clone());
        self.with_foca(step, |foca, outbox| foca.apply_many(std::iter::once(member), is_gossiped_on, outbox));
    }

    /// What foca knows under this name.
    pub(super) fn known(&self, name: &NodeName) -> Option<&Member<Id>> {
        self.foca.iter_membership_state().find(|member| member.id().node.name == *name)
    }

    /// What foca knows about this node, if it counts as up.
    pub(super) fn known_active(&self, node: &NodeRef) -> Option<&Member<Id>> {
        self.known(&node.name).filter(|member| member.id().node == *node && member.state() != State::Down)
    }

    pub(super) fn declare_down(&mut self, node: &NodeRef, evidence: Evidence, step: &mut Step<'_>) {
        if let Some(member) = self.known_active(node) {
            let down = Member::new(member.id().clone().gone(evidence), member.incarnation(), State::Down);
            self.touch_departed(node.name.clone(), evidence, Duration::ZERO);
            self.apply(down, true, step);
        }
    }

    /// This node's own record. foca tells its refutation number only in what it sends, so it writes one more
    /// packet, which goes nowhere.
    pub(super) fn own_record(&mut self) -> Record {
        let id = self.foca.identity().clone();
        let mut outbox = Outbox::default();
        if self.foca.announce(id.clone(), &mut outbox).is_err() {
            self.rejected_packets_count += 1;
        }
        Record { id, refutation: outbox.own_refutation, condition: Condition::Alive }
    }

    /// Takes an identity that wins against everything below `rank`.
    pub(super) fn raise_rank(&mut self, rank: u64, step: &mut Step<'_>) {
        let id = self.foca.identity();
        if rank <= id.rank {
            return;
        }
        let raised = Id { rank, ..id.clone() };
        self.with_foca(step, |foca, outbox| {
            foca.change_identity(raised, &mut *outbox)?;
            // A new identity starts disconnected until something is applied.
            foca.apply_many(std::iter::empty(), false, outbox)
        });
        self.has_new_identity = true;
    }

    pub(super) fn adjust_to_size(&mut self) {
        let config = config(&self.profile, self.published.len() + 1);
        if self.foca.set_config(config).is_err() {
            self.rejected_packets_count += 1;
        }
    }

    /// Makes foca forget a member that is down.
    pub(super) fn forget(&mut self, name: &NodeName, step: &mut Step<'_>) {
        if let Some(member) = self.known(name) {
            let timer = Timer::RemoveDown(member.id().clone());
            self.with_foca(step, |foca, outbox| foca.handle_timer(timer, outbox));
        }
    }
}
