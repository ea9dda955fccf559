//! The pure hub: `handle(now, Input) → Effects` (A1).
//!
//! Each file owns one kind of state and the transitions on it: `membership` and `views` who is there, `children` the
//! table of all children, `registry` and `log` what is wanted and observed, `reconcile` the one place that compares the two and acts (A3), `local`,
//! `supervisor` and `ending` the instances of this node, `outgoing`, `incoming` and `conflict` the handover machine,
//! `starts`, `stops` and `routing` what users ask for.

mod arbiter;
mod assigning;
mod balance;
mod calls;
mod children;
mod conflict;
mod decisions;
mod delivery;
mod drain;
mod ending;
mod frames;
mod giving_up;
mod hash;
mod hearing;
mod hooks;
mod incoming;
mod io;
mod learn;
mod local;
mod log;
mod mapping;
mod membership;
mod move_order;
mod outgoing;
mod partition;
mod placing;
mod publish;
mod queries;
mod quorum;
mod reconcile;
mod registry;
mod replicas;
mod requests;
mod routes;
mod routing;
mod setup;
mod silent;
mod spread;
mod starts;
mod stops;
mod supervisor;
mod sync;
mod timers;
mod views;

use std::collections::{BTreeMap, VecDeque};

use indexmap::IndexMap;
use rand_chacha::ChaCha8Rng;

pub use io::{
    ChildMapping, Command, Effect, HubStatus, IfExists, Input, Lane, MessageCommand, OnFailure, Outcome, PlanChange,
    Recipient, StartOptions,
};
pub use setup::{Counters, EngineSetup};

use crate::error::{Error, ErrorKind};
use crate::host::call::KindInfo;
use crate::ids::{ChildId, Epoch, HubId, InstanceId, KindName, NodeRef, RequestId, Token};
use crate::observe::HookName;
use crate::strategy::{Placements, Strategies};
use crate::time::Timestamp;
use crate::wire::{MemberInfo, RequestKey};
use children::{Children, Slot};
use hash::FixedHash;
use local::Phase;
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
    /// How many instances a child shall have in the present view.
    factor: usize,
    now: Timestamp,
    started_at: Timestamp,
    wall_ms: u64,
    /// The highest term seen (R4).
    term: u64,
    numbers: Numbers,
    /// Chooses who is told first; nothing else is left to chance.
    random: ChaCha8Rng,
    effects: Vec<Effect>,
    counters: Counters,

    membership: Membership,
    info: MemberInfo,
    kinds: BTreeMap<KindName, KindInfo>,
    children: Children,
    registry: Registry,
    log: log::OwnLog,
    placements: Placements,

    instances: IndexMap<InstanceId, Slot, FixedHash>,
    endings: ending::Endings,
    calls: calls::Calls,
    /// Moves that may never become active here: see `incoming`.
    refused_moves: IndexMap<ChildId, (Token, Timestamp), FixedHash>,
    moves: reconcile::Moves,

    requests: BTreeMap<u64, requests::Request>,
    /// Children of this node's configuration that nobody can run, and why.
    unplaced_statics: BTreeMap<ChildId, String>,
    arbiter: arbiter::Arbiter,
    assigning: assigning::Assigning,
    balance: balance::Balance,
    router: routes::Router,

    timers: Timers,
    /// The next slot of a pass over all children, downwards.
    sweep: Option<usize>,
    /// Room for the children that are reconciled in one step.
    batch: Vec<Slot>,
    hooks: hooks::HookState,
    drain: Option<drain::Drain>,
    /// Under a quorum strategy.
    partition: Option<Box<partition::Partition>>,
    status: HubStatus,
    /// The number of the view that `status` tells of.
    status_of: u64,
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
    /// The oldest request for which an owner is asked in the next frames.
    asked_from: Option<u64>,
    /// Counts the digests that this node sent around.
    digest: u64,
    /// Counts the frames to all peers: it must not start again when a peer comes back.
    frame: u64,
}

/// Entries that lists which are mostly empty keep room for.
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
        engine.arm_load();
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
        let due = self.next_due();
        if due != Timestamp::NEVER && now.since(due) > self.settings.stall {
            self.doubt_members();
        }
        if self.partition.is_some() {
            self.check_lease();
        }
        if matches!(input, Input::Command(..)) {
            self.plan_all();
        }
        if matches!(input, Input::Frame(..) | Input::Command(..)) {
            self.decide_all();
        }
        match input {
            Input::NodeUp(node) => self.node_up(node),
            Input::NodeDown(node, evidence) => self.node_down(&node, evidence),
            Input::Frame(from, frame) => self.frame(&from, &frame),
            Input::HostDone(number, answer) => self.host_done(number, answer),
            Input::Instance(instance, event) => self.instance_event(instance, event),
            Input::Command(request, command) => self.command(request, command),
            Input::Cancel(request) => self.cancel(request),
            Input::Load(sample) => self.load_measured(sample),
            Input::Tick => {}
        }
        self.go_on_with_starts();
        self.run_timers();
        if self.partition.is_some() {
            self.go_on_with_quorum();
        }
        self.reconcile_some();
        self.order_moves();
        std::mem::swap(&mut self.effects, effects);
    }

    /// Appends the frames and rows collected since the last flush. Call it after each batch of inputs.
    pub fn flush(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        std::mem::swap(&mut self.effects, effects);
        if !self.is_ended {
            self.flush_quorum();
            self.send_answers();
            self.send_log();
            self.send_acks();
        }
        self.publish_changed();
        self.flush_hooks();
        self.publish_status();
        self.send_frames();
        self.arbiter.end_turn();
        self.shrink();
        std::mem::swap(&mut self.effects, effects);
    }

    /// Gives back what a start, stop or move of many children at once needed.
    fn shrink(&mut self) {
        self.calls.shrink();
        self.timers.shrink();
        self.children.shrink();
    }

    /// When [`Input::Tick`] is wanted next; [`Timestamp::NEVER`] when nothing is pending.
    #[must_use]
    pub fn next_deadline(&self) -> Timestamp {
        if self.is_ended { Timestamp::NEVER } else { self.next_due() }
    }

    fn next_due(&self) -> Timestamp {
        if self.arbiter.is_due() { self.now } else { self.timers.next().min(self.calls.next()) }
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            children: self.children.local_count() as u64,
            registry_rows: self.children.len() as u64,
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
        while let Some(number) = self.calls.pop_due(self.now) {
            self.host_call_late(number);
        }
        while let Some(key) = self.timers.pop_due(self.now) {
            match key {
                TimerKey::Reconcile | TimerKey::Quorum => {}
                TimerKey::ViewChange => self.apply_view(),
                TimerKey::Status => self.heartbeat(),
                TimerKey::Sync => self.compare_wanted(),
                TimerKey::Move(child) => self.move_step_late(child),
                TimerKey::MoveBudget(child) => self.move_budget_over(child),
                TimerKey::MoveAgain(child) | TimerKey::Restart(child) => self.wake(child),
                TimerKey::Ending(instance) => self.ending_late(instance),
                TimerKey::RequestRetry(request) => self.request_retry(request),
                TimerKey::RequestEnd(request) => self.request_end(request),
                TimerKey::MessageEnd(id) => self.message_end(id),
                TimerKey::MessageRoute(id) => self.route_message(id),
                TimerKey::Pull(node) => self.pull_log(&node),
                // The turn's end chooses others.
                TimerKey::Spread => {}
                TimerKey::Load => self.measure_load(),
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
        let Some(command) = self.admit(request, command) else {
            return;
        };
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
            Command::ResetClusterSize(size, timeout) => self.reset_cluster_size_request(request, size, timeout),
            Command::SubscribeHooks(bits) => {
                self.subscribe_hooks(bits);
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
    fn next_epoch(&self, child: Slot) -> Epoch {
        let record = &self.children[child];
        let known = record.entry.highest_epoch();
        let used = record.local().map(|local| local.highest_epoch).unwrap_or_default();
        let refused = self.refused_moves.get(&record.id).map(|(token, _)| token.epoch).unwrap_or_default();
        // A tombstone that remembered the epoch may be forgotten by now: time stands in for it.
        let term = self.quorum_term().unwrap_or_else(|| self.term.max(self.unix_ms() / 1000));
        Epoch((known.max(used).max(refused).0 + 1).max(term << setup::TERM_SHIFT))
    }

    /// Whether this node is in its own view alone.
    fn is_alone(&self) -> bool {
        self.membership.view.members.len() <= 1
    }

    fn fire(&mut self, name: HookName, payload: impl FnOnce() -> serde_json::Value) {
        self.hooks.fire(&mut self.effects, name, payload);
    }

    /// The id of a child, for a message.
    fn id(&self, child: Slot) -> ChildId {
        self.children[child].id.clone()
    }

    /// Fires a hook about a child.
    fn fire_of(&mut self, name: HookName, child: Slot, payload: impl FnOnce(&ChildId) -> serde_json::Value) {
        let id = &self.children[child].id;
        self.hooks.fire(&mut self.effects, name, || payload(id));
    }

    /// Fences the hub when a count of ours does not add up: it would decide wrongly from then on (R20).
    fn check_invariants(&mut self) {
        let moving = self.children.locals().filter(|(_, local)| matches!(local.phase, Phase::Outgoing(_))).count();
        if moving != self.moves.open {
            self.is_ended = true;
            let what = format!("{} moves are counted as open, {moving} are", self.moves.open);
            self.effects.push(Effect::Failed(what));
        }
    }

    fn wake(&mut self, child: Slot) {
        self.restart_if_due(child);
        self.children.mark_dirty(child);
    }
}

/// Messages kept for a child that cannot handle them now (R7).
const MAX_HELD_MESSAGES: usize = 1024;

/// Marks the numbers of requests of our own, apart from the API's.
const INTERNAL_REQUEST: u64 = 1 << 63;
/// Requests of the users are below: they rise. Those of the driver and of the engine itself are above.
const FIRST_OWN_REQUEST: u64 = 1 << 62;

type Queue<T> = VecDeque<T>;
