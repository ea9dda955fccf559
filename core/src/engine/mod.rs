//! The pure hub: `handle(now, Input) → Effects` (A1).
//!
//! Each file owns one kind of state and the transitions on it: `membership` and `views` who is there, `registry` and
//! `log` what is wanted and observed, `reconcile` the one place that compares the two and acts (A3), `local`,
//! `supervisor` and `ending` the instances of this node, `outgoing`, `incoming` and `conflict` the handover machine,
//! `starts`, `stops` and `routing` what users ask for.

mod arbiter;
mod calls;
mod conflict;
mod delivery;
mod drain;
mod ending;
mod giving_up;
mod hash;
mod hooks;
mod incoming;
mod io;
mod local;
mod log;
mod membership;
mod outgoing;
mod publish;
mod queries;
mod reconcile;
mod registry;
mod requests;
mod routing;
mod setup;
mod starts;
mod stops;
mod supervisor;
mod sync;
mod timers;
mod views;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use indexmap::{IndexMap, IndexSet};

pub use io::{
    Command, Effect, HubStatus, IfExists, Input, Lane, MessageCommand, OnFailure, Outcome, PlanChange, Recipient,
    StartOptions,
};
pub use setup::{Counters, EngineSetup};

use crate::error::{Error, ErrorKind};
use crate::host::call::KindInfo;
use crate::ids::{CallNumber, ChildId, Epoch, HubId, InstanceId, KindName, NodeRef, RequestId, Token};
use crate::observe::HookName;
use crate::strategy::{Placements, Strategies};
use crate::time::Timestamp;
use crate::wire::{Header, MemberInfo, Message, RequestKey, open};
use hash::FixedHash;
use local::{Local, Phase};
use membership::Membership;
use registry::Registry;
use setup::Settings;
use timers::{TimerKey, Timers};

/// One hub on one node, as a value: no clock, thread, socket or randomness of its own.
pub struct Engine {
    me: NodeRef,
    hub_id: HubId,
    settings: Settings,
    strategies: Strategies,
    now: Timestamp,
    started_at: Timestamp,
    wall_ms: u64,
    /// The highest term seen (R4).
    term: u64,
    numbers: Numbers,
    effects: Vec<Effect>,
    counters: Counters,

    membership: Membership,
    info: MemberInfo,
    kinds: BTreeMap<KindName, KindInfo>,
    registry: Registry,
    log: log::OwnLog,
    placements: Placements,

    locals: IndexMap<ChildId, Local, FixedHash>,
    instances: IndexMap<InstanceId, ChildId, FixedHash>,
    endings: ending::Endings,
    calls: IndexMap<CallNumber, calls::OpenCall, FixedHash>,
    /// Moves that may never become active here: see `incoming`.
    refused_moves: IndexMap<ChildId, (Token, Timestamp), FixedHash>,
    moves: reconcile::Moves,

    requests: BTreeMap<u64, requests::Request>,
    arbiter: arbiter::Arbiter,
    stop_waiters: IndexMap<ChildId, stops::StopWaiters, FixedHash>,
    router: routing::Router,

    timers: Timers,
    dirty: IndexSet<ChildId, FixedHash>,
    /// The next registry index of a pass over all children, downwards.
    sweep: Option<usize>,
    changed: IndexSet<ChildId, FixedHash>,
    hooks: hooks::HookState,
    drain: Option<drain::Drain>,
    status: HubStatus,
    is_ended: bool,
}

/// The engine's counters of things that need a number.
#[derive(Debug, Default)]
struct Numbers {
    call: u64,
    instance: u64,
    transfer: u64,
    internal_request: u64,
    /// The youngest request of the users.
    api_request: u64,
    /// Counts the frames to all peers: it must not start again when a peer comes back.
    frame: u64,
}

/// Entries that maps which are mostly empty keep room for.
const KEPT_CAPACITY: usize = 4096;
/// Children reconciled in one turn.
const RECONCILE_LIMIT: usize = 1024;

impl Engine {
    /// A hub that knows no other member.
    #[must_use]
    pub fn new(now: Timestamp, setup: EngineSetup) -> Self {
        let mut engine = setup::build(now, setup);
        engine.apply_view();
        engine.arm_heartbeat();
        engine
    }

    /// Takes one input and appends what is to be done. Frames are held back until [`Self::flush`].
    pub fn handle(&mut self, now: Timestamp, input: Input, effects: &mut Vec<Effect>) {
        if self.is_ended {
            self.refuse(input, effects);
            return;
        }
        self.now = self.now.max(now);
        std::mem::swap(&mut self.effects, effects);
        if self.timers.next() != Timestamp::NEVER && now.since(self.timers.next()) > self.settings.stall {
            self.stalled();
        }
        match input {
            Input::NodeUp(node) => self.node_up(node),
            Input::NodeDown(node, evidence) => self.node_down(&node, evidence),
            Input::Frame(from, frame) => self.frame(&from, &frame),
            Input::HostDone(number, answer) => self.host_done(number, answer),
            Input::Instance(instance, event) => self.instance_event(instance, event),
            Input::Command(request, command) => self.command(request, command),
            Input::Cancel(request) => self.cancel(request),
            Input::Tick => {}
        }
        self.run_timers();
        self.reconcile_some();
        std::mem::swap(&mut self.effects, effects);
    }

    /// Appends the frames and rows collected since the last flush. Call it after each batch of inputs.
    pub fn flush(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        std::mem::swap(&mut self.effects, effects);
        if !self.is_ended {
            self.send_start_answers();
            self.send_log();
            self.send_acks();
        }
        self.publish_changed();
        self.flush_hooks();
        self.publish_status();
        self.send_frames();
        self.shrink();
        std::mem::swap(&mut self.effects, effects);
    }

    /// Gives back what a start, stop or move of many children at once needed.
    fn shrink(&mut self) {
        if self.calls.is_empty() && self.calls.capacity() > KEPT_CAPACITY {
            self.calls.shrink_to(KEPT_CAPACITY);
            self.timers.shrink_to(KEPT_CAPACITY);
        }
        if self.dirty.is_empty() && self.dirty.capacity() > KEPT_CAPACITY {
            self.dirty.shrink_to(KEPT_CAPACITY);
        }
    }

    /// When [`Input::Tick`] is wanted next; [`Timestamp::NEVER`] when nothing is pending.
    #[must_use]
    pub fn next_deadline(&self) -> Timestamp {
        if self.is_ended { Timestamp::NEVER } else { self.timers.next() }
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            children: self.locals.len() as u64,
            registry_rows: self.registry.len() as u64,
            open_moves: self.moves.open as u64,
            ..self.counters
        }
    }

    /// After the end only requests are answered.
    fn refuse(&mut self, input: Input, effects: &mut Vec<Effect>) {
        if let Input::Command(request, _) = input {
            let error = Error::new(ErrorKind::Closed, "hub", "the hub has ended");
            effects.push(Effect::Reply(request, Err(error)));
        }
    }

    fn run_timers(&mut self) {
        while let Some(key) = self.timers.pop_due(self.now) {
            match key {
                TimerKey::Reconcile => {}
                TimerKey::ViewChange => self.apply_view(),
                TimerKey::Status => self.heartbeat(),
                TimerKey::Sync => self.compare_wanted(),
                TimerKey::HostCall(number) => self.host_call_late(number),
                TimerKey::Move(child) => self.move_step_late(&child),
                TimerKey::MoveBudget(child) => self.move_budget_over(&child),
                TimerKey::MoveAgain(child) | TimerKey::Restart(child) => self.wake(&child),
                TimerKey::Ending(instance) => self.ending_late(instance),
                TimerKey::RequestRetry(request) => self.request_retry(request),
                TimerKey::RequestEnd(request) => self.request_end(request),
                TimerKey::MessageEnd(id) => self.message_end(id),
                TimerKey::MessageRoute(id) => self.route_message(id),
                TimerKey::Pull(node) => self.pull_log(&node),
                TimerKey::DeadlockRecovery => self.recover_from_deadlock(),
                TimerKey::DrainEnd => self.drain_end(),
                TimerKey::ShutdownEnd => self.shutdown_end(),
            }
        }
    }

    fn command(&mut self, request: RequestId, command: Command) {
        if request.0 < FIRST_OWN_REQUEST {
            self.numbers.api_request = self.numbers.api_request.max(request.0);
        }
        if self.drain.as_ref().is_some_and(|drain| drain.ends_hub)
            && matches!(command, Command::Start(..) | Command::Register(_))
        {
            let error = Error::new(ErrorKind::Leaving, "hub", "the hub is ending").with_node(self.me.name.as_str());
            self.reply(request, Err(error));
            return;
        }
        match command {
            Command::Start(specs, options) => self.start_request(request, specs, options),
            Command::Stop(ids, timeout) => self.stop_request(Some(request), ids, timeout),
            Command::Call(command) => self.message_request(request, command, true),
            Command::Send(command) => self.message_request(request, command, false),
            Command::Register(kinds) => self.register(request, kinds),
            Command::Drain(timeout) => self.drain_request(request, timeout, false),
            Command::Shutdown(timeout) => self.drain_request(request, timeout, true),
            Command::Where(child) => self.where_request(request, &child),
            Command::Plan(change) => self.plan_request(request, change),
            Command::Sync(timeout) => self.sync_request(request, timeout),
            Command::WhichChildren(timeout) => self.which_children_request(request, timeout),
            Command::AcknowledgeLoss(child) => self.acknowledge_loss_request(request, &child),
            Command::SubscribeHooks(bits) => {
                self.hooks.subscribed = bits;
                self.reply(request, Ok(Outcome::Done));
            }
        }
    }

    fn reply(&mut self, request: RequestId, result: Result<Outcome, Error>) {
        if !matches!(result, Ok(Outcome::Reply(_))) {
            // Whoever reads the registry after the answer finds there what the answer tells (R1).
            self.publish_changed();
        }
        self.effects.push(Effect::Reply(request, result));
    }

    fn frame(&mut self, from: &NodeRef, frame: &Bytes) {
        self.counters.frames_in += 1;
        let Ok((header, body)) = open(frame) else {
            self.counters.bad_frames += 1;
            return;
        };
        let Some(peer) = self.membership.peers.get_mut(from) else {
            return;
        };
        let is_known_start = peer.started_ms == header.from_start;
        if is_known_start {
            peer.open_from = peer.open_from.max(header.open_from);
        }
        let open_from = peer.open_from;
        let is_for_us = header.to_start == self.wall_ms;
        if peer.started_ms != 0 && !is_known_start && header.from_start < peer.started_ms {
            return;
        }
        let messages = if is_known_start {
            peer.inbox.accept(header, &body)
        } else {
            // A hub that was started again, or one not met yet: only its status counts.
            crate::wire::Inbox::default().accept(header, &body)
        };
        let Ok(messages) = messages else {
            self.counters.bad_frames += 1;
            return;
        };
        for message in messages {
            if self.is_ended {
                return;
            }
            if let Message::Status(status) = message {
                self.status_received(from, header, *status);
                continue;
            }
            let is_overtaken = if let Message::Start { request, .. } | Message::Stop { request, .. } = &message {
                // Late on its way: the asker has had its answer, whatever it was.
                let is_answered = request.request < FIRST_OWN_REQUEST && request.request < open_from;
                // Asked before this node was stalled: the asker may have given up, or got it elsewhere. It asks again.
                is_answered || header.to_generation < self.membership.generation
            } else {
                false
            };
            if is_known_start && is_for_us && !is_overtaken {
                self.message(from, message);
            }
        }
    }

    fn message(&mut self, from: &NodeRef, message: Message) {
        match message {
            Message::Status(_) => {}
            Message::Delta { from: after, to, entries } => self.delta_received(from, after, to, entries),
            Message::DeltaAck(seq) => self.ack_received(from, seq),
            Message::PullLog(seq) => self.pull_received(from, seq),
            Message::Snapshot { seq, piece, pieces, entries } => {
                self.snapshot_received(from, seq, piece, pieces, entries);
            }
            Message::PullDeparted(node) => self.pull_departed_received(from, &node),
            Message::Departed { node, seq, rows } => self.departed_received(&node, seq, rows),
            Message::WantedBuckets(buckets) => self.buckets_received(from, &buckets),
            Message::WantedPush { buckets, entries, wants_answer } => {
                self.wanted_received(from, &buckets, entries, wants_answer);
            }
            Message::Start { request, view_hash, left_ms, return_existing, specs } => {
                self.start_received(from, request, view_hash, left_ms, return_existing, specs);
            }
            Message::Started(request, answers) => self.started_received(from, request, answers),
            Message::Stop { request, undoes, view_hash, ids } => {
                self.stop_received(from, request, undoes, view_hash, ids);
            }
            Message::Stopped(request, answers) => self.stopped_received(from, request, answers),
            Message::Prepare { child, token, view_hash, version, is_hot } => {
                self.prepare_received(from, &child, token, view_hash, version, is_hot);
            }
            Message::Prepared(child, token) => self.prepared_received(from, &child, token),
            Message::Refused { child, token, is_transient, why } => {
                self.refused_received(from, &child, token, is_transient, &why);
            }
            Message::State { child, token, state, hash } => self.state_received(from, &child, token, state, hash),
            Message::Ready { child, token, hash } => self.ready_received(from, &child, token, hash),
            Message::Commit { child, token, held, lost } => self.commit_received(from, &child, token, held, lost),
            Message::Activated { child, token, seq } => self.activated_received(from, &child, token, seq),
            Message::Abort(child, token) => self.abort_received(from, &child, token),
            Message::Aborted(child, token) => self.aborted_received(&child, token),
            Message::Conflict { child, loser, winner, state } => {
                self.conflict_received(from, &child, loser, winner, state);
            }
            Message::ConflictSeen(child, loser, is_seen) => self.conflict_seen(from, &child, loser, is_seen),
            Message::Call { child, held } => self.call_received(child, held),
            Message::Reply(id, result) => self.reply_received(id, result.map_err(|error| *error)),
            Message::Accepted(id) => self.accepted_received(id),
            Message::Bounce(id, hint) => self.bounce_received(from, id, hint),
            Message::Rerouted(id, to) => self.rerouted_received(from, id, to),
            Message::Query(id, child) => self.query_received(from, id, &child),
            Message::QueryAnswer(id, is_wanted) => self.query_answered(from, id, is_wanted),
            Message::WhichChildren(request) => self.which_children_received(from, request),
            Message::Children(request, children) => self.children_received(from, request, children),
            Message::AcknowledgeLoss(child) => self.clear_loss(&child),
            Message::Leave => self.leave_received(from),
            Message::LeaveAck => self.leave_acked(from),
            Message::StrategyMismatch(why) => self.strategy_refused(from, why),
        }
    }

    /// Queues a message to a member.
    fn send(&mut self, to: &NodeRef, lane: Lane, message: &Message) {
        if let Some(peer) = self.membership.peers.get_mut(to) {
            peer.outboxes[lane as usize].push(lane, message);
        }
    }

    fn send_ctl(&mut self, to: &NodeRef, message: &Message) {
        self.send(to, Lane::Ctl, message);
    }

    fn send_frames(&mut self) {
        let open_from = self.open_from();
        for (node, peer) in &mut self.membership.peers {
            for lane in [Lane::Ctl, Lane::Bulk] {
                let outbox = &mut peer.outboxes[lane as usize];
                if outbox.is_empty() {
                    continue;
                }
                let header = Header {
                    number: self.numbers.frame,
                    from_start: self.wall_ms,
                    to_start: peer.started_ms,
                    open_from,
                    to_generation: peer.status.as_ref().map_or(0, |status| status.generation),
                };
                let effects = &mut self.effects;
                self.numbers.frame = outbox.take(lane, header, |frame| {
                    effects.push(Effect::Send { to: node.clone(), lane, frame });
                });
            }
        }
    }

    /// The oldest open request of the users.
    fn open_from(&self) -> u64 {
        let first = self.requests.keys().next().copied().filter(|id| *id < FIRST_OWN_REQUEST);
        first.unwrap_or(self.numbers.api_request + 1)
    }

    fn next_transfer(&mut self) -> u64 {
        self.numbers.transfer += 1;
        self.numbers.transfer
    }

    /// A number for a request of our own.
    fn next_internal_request(&mut self) -> u64 {
        self.numbers.internal_request += 1;
        INTERNAL_REQUEST | self.numbers.internal_request
    }

    fn request_key(&self, request: u64) -> RequestKey {
        RequestKey { incarnation: self.me.incarnation, request }
    }

    /// Now, in Unix milliseconds.
    fn unix_ms(&self) -> u64 {
        self.unix_ms_at(self.now)
    }

    fn unix_ms_at(&self, at: Timestamp) -> u64 {
        let since = at.since(self.started_at).as_millis();
        self.wall_ms.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }

    /// An epoch above every one known for the child (R4).
    fn next_epoch(&self, child: &ChildId) -> Epoch {
        let known = self.registry.get(child.as_str()).map(registry::Entry::highest_epoch).unwrap_or_default();
        let used = self.locals.get(child).map(|local| local.highest_epoch).unwrap_or_default();
        let refused = self.refused_moves.get(child).map(|(token, _)| token.epoch).unwrap_or_default();
        // A tombstone that remembered the epoch may be forgotten by now: time stands in for it.
        let term = self.term.max(self.unix_ms() / 1000);
        Epoch((known.max(used).max(refused).0 + 1).max(term << setup::TERM_SHIFT))
    }

    /// Whether this node is in its own view alone.
    fn is_alone(&self) -> bool {
        self.membership.view.members.len() <= 1
    }

    fn fire(&mut self, name: HookName, payload: impl FnOnce() -> serde_json::Value) {
        self.hooks.fire(&mut self.effects, name, payload);
    }

    /// Fences the hub when a count of ours does not add up: it would decide wrongly from then on (R20).
    fn check_invariants(&mut self) {
        let moving = self.locals.values().filter(|local| matches!(local.phase, Phase::Outgoing(_))).count();
        if moving != self.moves.open {
            self.is_ended = true;
            let what = format!("{} moves are counted as open, {moving} are", self.moves.open);
            self.effects.push(Effect::Failed(what));
        }
    }

    fn mark_dirty(&mut self, child: &ChildId) {
        self.dirty.insert(child.clone());
    }

    fn wake(&mut self, child: &ChildId) {
        self.restart_if_due(child);
        self.mark_dirty(child);
    }
}

/// Messages kept for a child that cannot handle them now (R7).
const MAX_HELD_MESSAGES: usize = 1024;

/// Marks the numbers of requests of our own, apart from the API's.
const INTERNAL_REQUEST: u64 = 1 << 63;
/// Requests of the users are below: they rise. Those of the driver and of the engine itself are above.
const FIRST_OWN_REQUEST: u64 = 1 << 62;

type Queue<T> = VecDeque<T>;
