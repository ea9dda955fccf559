//! Without a quorum nothing acts (A11, R10, R11): the engine's side of `quorum`.
//!
//! Three gates, one place each: requests of users pass `admit`, starts wait for a settled view, which without
//! `may_start` no view is, and when the lease is over `lose_quorum` stops whatever runs before anything else counts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::children::Slot;
use super::local::{Local, Phase};
use super::quorum::{Around, Out, Quorum};
use super::{Command, Effect, Engine, Outcome, TimerKey};
use crate::error::{Error, ErrorKind};
use crate::host::call::StopReason;
use crate::ids::{CallNumber, NodeRef, RequestId};
use crate::strategy::{QuorumOptions, QuorumRule};
use crate::swim::Evidence;
use crate::time::Timestamp;
use crate::wire::{Message, QuorumMessage};

/// Requests that wait for the first quorum.
const MAX_HELD: usize = 4096;

/// What the engine keeps beside the machine.
#[derive(Debug)]
pub(super) struct Partition {
    quorum: Quorum,
    /// There is a lease, and the engine acts on it.
    is_acting: bool,
    had_quorum: bool,
    /// Something changed that the machine has to know.
    is_due: bool,
    /// The lease that the host was told of.
    told: Timestamp,
    /// Requests from before the first quorum, and since when they wait.
    held: BTreeMap<u64, (Command, Timestamp)>,
    /// Who waits for a smaller cluster.
    resets: BTreeSet<u64>,
    /// Members that are certainly gone.
    dead: BTreeSet<NodeRef>,
    is_warned: bool,
}

impl Partition {
    pub(super) fn new(me: &NodeRef, options: QuorumOptions, now: Timestamp, started_ms: u64) -> Self {
        Self {
            quorum: Quorum::new(me.clone(), options, now, started_ms),
            is_acting: false,
            had_quorum: false,
            is_due: true,
            told: Timestamp::NEVER,
            held: BTreeMap::new(),
            resets: BTreeSet::new(),
            dead: BTreeSet::new(),
            is_warned: false,
        }
    }

    /// The oldest request that waits for the first quorum.
    pub(super) fn first_held(&self) -> Option<u64> {
        self.held.keys().next().copied()
    }
}

impl Command {
    /// How long its answer may take, if it needs a quorum.
    const fn needs_quorum(&mut self) -> Option<&mut Duration> {
        match self {
            Self::Start(_, options) => Some(&mut options.timeout),
            Self::Stop(_, timeout) | Self::Drain(timeout) => Some(timeout),
            Self::Call(command) | Self::Send(command) => Some(&mut command.timeout),
            Self::Register(_)
            | Self::Shutdown(_)
            | Self::Where(_)
            | Self::Plan(_)
            | Self::Sync(_)
            | Self::WhichChildren(_)
            | Self::AcknowledgeLoss(_)
            | Self::ResetClusterSize(..)
            | Self::SubscribeHooks(_) => None,
        }
    }
}

impl Engine {
    /// Whether this node lacks the quorum it needs.
    pub(super) fn is_partitioned(&self) -> bool {
        self.partition.as_ref().is_some_and(|partition| !partition.is_acting)
    }

    /// Whether what nobody in the view has may be started here.
    pub(super) fn may_start(&self) -> bool {
        let view = &self.membership.view;
        self.partition.as_ref().is_none_or(|partition| {
            partition.is_acting && partition.quorum.may_start(self.now, |node| view.contains(node))
        })
    }

    /// The term of the next epoch, where a quorum decides on it (R4).
    pub(super) fn quorum_term(&self) -> Option<u64> {
        self.partition.as_ref().map(|partition| partition.quorum.term())
    }

    fn partitioned(&self, operation: &str) -> Error {
        let why = self.partition.as_ref().map(|partition| partition.quorum.why()).unwrap_or_default();
        Error::new(ErrorKind::Partitioned, operation, why).with_node(self.me.name.as_str())
    }

    /// Lets a command through, or answers it, or holds it until there is a quorum.
    pub(super) fn admit(&mut self, request: RequestId, mut command: Command) -> Option<Command> {
        let now = self.now;
        let Some(partition) = self.partition.as_mut().filter(|partition| !partition.is_acting) else {
            return Some(command);
        };
        let Some(timeout) = command.needs_quorum().map(|timeout| *timeout) else {
            return Some(command);
        };
        if partition.had_quorum || partition.quorum.options().startup_confirm {
            let error = self.partitioned("request");
            self.reply(request, Err(error));
        } else if partition.held.len() >= MAX_HELD {
            let message = format!("{MAX_HELD} requests wait for the first quorum");
            self.reply(request, Err(Error::new(ErrorKind::Overloaded, "request", message)));
        } else {
            partition.held.insert(request.0, (command, now));
            self.timers.arm(TimerKey::RequestEnd(request.0), now + timeout);
        }
        None
    }

    /// The time of a request that waits for a quorum, or for a smaller cluster, is over.
    pub(super) fn quorum_wait_over(&mut self, id: u64) {
        if self.forget_held(id) {
            let why = self.partitioned("request").message;
            let error = Error::new(ErrorKind::Timeout, "request", format!("there was no quorum in time: {why}"));
            self.reply(RequestId(id), Err(error));
        }
    }

    /// Whether there was such a request.
    pub(super) fn forget_held(&mut self, id: u64) -> bool {
        let Some(partition) = &mut self.partition else {
            return false;
        };
        let was_held = partition.held.remove(&id).is_some() || partition.resets.remove(&id);
        if was_held {
            self.timers.disarm(&TimerKey::RequestEnd(id));
        }
        was_held
    }

    /// The requests that wait here.
    pub(super) fn held_requests(&self) -> Vec<u64> {
        let partition = self.partition.iter();
        partition.flat_map(|partition| partition.held.keys().chain(&partition.resets).copied()).collect()
    }

    fn release_held(&mut self) {
        let held = self.partition.as_mut().map(|partition| std::mem::take(&mut partition.held)).unwrap_or_default();
        for (id, (mut command, since)) in held {
            self.timers.disarm(&TimerKey::RequestEnd(id));
            if let Some(timeout) = command.needs_quorum() {
                *timeout = timeout.saturating_sub(self.now.since(since));
            }
            self.command(RequestId(id), command);
        }
    }

    /// A user wants fewer members to count.
    pub(super) fn reset_cluster_size_request(&mut self, request: RequestId, size: u32, timeout: Duration) {
        let operation = "reset_cluster_size";
        let members = self.membership.view.members.len();
        let Some(partition) = self.partition.as_mut() else {
            let message = "only `majority_quorum` has a cluster size";
            return self.reply(request, Err(Error::new(ErrorKind::InvalidArgument, operation, message)));
        };
        if !matches!(partition.quorum.options().rule, QuorumRule::Majority { .. }) {
            let message = "only `majority_quorum` has a cluster size";
            return self.reply(request, Err(Error::new(ErrorKind::InvalidArgument, operation, message)));
        }
        if (size as usize) < members {
            let message = format!("{members} members are there, more than {size}");
            return self.reply(request, Err(Error::new(ErrorKind::InvalidArgument, operation, message)));
        }
        if !partition.is_acting {
            let error = self.partitioned(operation);
            return self.reply(request, Err(error));
        }
        partition.quorum.reset(size);
        partition.resets.insert(request.0);
        partition.is_due = true;
        self.timers.arm(TimerKey::RequestEnd(request.0), self.now + timeout);
    }

    /// Something the quorum depends on changed: it is looked at in this turn.
    pub(super) fn quorum_is_due(&mut self) {
        if let Some(partition) = &mut self.partition {
            partition.is_due = true;
        }
    }

    /// Notes whether a node is certainly gone.
    pub(super) fn quorum_hears_of(&mut self, node: &NodeRef, evidence: Option<Evidence>) {
        if let Some(partition) = &mut self.partition {
            partition.is_due = true;
            match evidence {
                Some(Evidence::Refused | Evidence::Left) => {
                    partition.dead.insert(node.clone());
                }
                Some(Evidence::Suspected | Evidence::Replaced) => {}
                None => partition.dead.retain(|dead| dead.name != node.name),
            }
        }
    }

    pub(super) fn quorum_received(&mut self, from: &NodeRef, message: QuorumMessage) {
        let (now, around) = (self.now, self.around());
        let Some(partition) = &mut self.partition else {
            return;
        };
        partition.is_due = true;
        let mut out = Out::new();
        partition.quorum.received(now, from, message, &around, &mut out);
        self.send_quorum(out);
    }

    fn around(&self) -> Around {
        let runs_nothing = |local: &Local| matches!(local.phase, Phase::Quarantined { .. } | Phase::Ending);
        let has_none = self.children.locals().all(|(_, local)| runs_nothing(local));
        Around {
            members: self.membership.others(&self.me).cloned().collect(),
            agrees: self.membership.compute_settled(&self.me, self.now),
            is_idle: has_none && self.endings.is_empty(),
            is_leaving: self.is_vacating(),
            dead: self.partition.as_ref().map(|partition| partition.dead.clone()).unwrap_or_default(),
            term: self.term.max(self.unix_ms() / 1000),
        }
    }

    fn send_quorum(&mut self, out: Out) {
        for (to, message) in out {
            self.send_ctl(&to, &Message::Quorum(Box::new(message)));
        }
    }

    /// Without a lease nothing runs: looked at before anything else of a turn.
    pub(super) fn check_lease(&mut self) {
        let now = self.now;
        if self.partition.as_ref().is_some_and(|partition| partition.is_acting && !partition.quorum.has_lease(now)) {
            self.lose_quorum();
        }
    }

    /// Goes on with what is to be decided about the quorum, and acts on what was.
    pub(super) fn go_on_with_quorum(&mut self) {
        let now = self.now;
        let is_due = |partition: &Partition| partition.is_due || partition.quorum.next_due() <= now;
        if !self.partition.as_deref().is_some_and(is_due) {
            return;
        }
        let around = self.around();
        let mut out = Out::new();
        let Some(partition) = &mut self.partition else {
            return;
        };
        partition.is_due = false;
        partition.quorum.tick(now, &around, &mut out);
        // After a lapse the node begins anew, once nothing is left of what it ran.
        let has_lease = partition.quorum.has_lease(now) && (partition.is_acting || around.is_idle);
        let (was_acting, until) = (partition.is_acting, partition.quorum.lease_until());
        let resets = if partition.quorum.is_reset() { std::mem::take(&mut partition.resets) } else { BTreeSet::new() };
        self.send_quorum(out);
        match (was_acting, has_lease) {
            (true, false) => self.lose_quorum(),
            (false, true) => self.gain_quorum(),
            (true, true) | (false, false) => {}
        }
        self.tell_lease(if has_lease { until } else { Timestamp(0) });
        for id in resets {
            self.timers.disarm(&TimerKey::RequestEnd(id));
            self.reply(RequestId(id), Ok(Outcome::Done));
        }
        if self.membership.is_settled && !self.may_start() {
            self.membership.is_settled = false;
            self.arm_heartbeat();
        } else {
            self.check_settled();
        }
        self.warn_of_small_quorum();
        self.drain_progress();
        if let Some(due) = self.partition.as_ref().map(|partition| partition.quorum.next_due()) {
            self.timers.arm(TimerKey::Quorum, due);
        }
    }

    /// Grants what was asked for in this turn.
    pub(super) fn flush_quorum(&mut self) {
        let now = self.now;
        if let Some(partition) = &mut self.partition {
            let mut out = Out::new();
            partition.quorum.flush(now, &mut out);
            self.send_quorum(out);
        }
    }

    fn tell_lease(&mut self, until: Timestamp) {
        let fenced = CallNumber(0);
        if let Some(partition) = &mut self.partition
            && std::mem::replace(&mut partition.told, until) != until
        {
            self.effects.push(Effect::Lease { until, fenced });
        }
    }

    fn gain_quorum(&mut self) {
        if let Some(partition) = &mut self.partition {
            partition.is_acting = true;
            partition.had_quorum = true;
        }
        // Nothing runs here any more: nothing is started before the others know that, and this node what they did about it.
        self.doubt_members();
        self.release_held();
    }

    /// Stops everything at once: another side may act as soon as the lease is over everywhere.
    pub(super) fn lose_quorum(&mut self) {
        let Some(partition) = &mut self.partition else {
            return;
        };
        partition.is_acting = false;
        partition.is_due = true;
        partition.told = Timestamp(0);
        let fenced = CallNumber(self.numbers.call);
        self.effects.push(Effect::Lease { until: Timestamp(0), fenced });
        self.membership.is_settled = false;
        let running: Vec<Slot> = self
            .children
            .locals()
            .filter(|(_, local)| !matches!(local.phase, Phase::Quarantined { .. }))
            .map(|(child, _)| child)
            .collect();
        for child in running {
            self.stop_local(child, StopReason::Partitioned);
        }
        self.end_retentions();
        let error = self.partitioned("request");
        self.fail_requests(&error);
        self.arm_heartbeat();
    }

    fn warn_of_small_quorum(&mut self) {
        if let Some(partition) = self.partition.as_mut().filter(|partition| !partition.is_warned)
            && let Some((quorum, names)) = partition.quorum.below_majority()
        {
            partition.is_warned = true;
            tracing::warn!(
                target: "process_hub::engine", hub = %self.hub_id, quorum, members = names,
                "a quorum is no majority of the members: both sides of a split may run the same children",
            );
        }
    }

    /// Whether this hub still has a slot, and enough members are here to consent that it gives it up: none of them needs
    /// a lease for that.
    pub(super) fn has_slot_to_vacate(&self) -> bool {
        let view = &self.membership.view;
        self.partition.as_ref().is_some_and(|partition| partition.quorum.can_vacate(|node| view.contains(node)))
    }
}
