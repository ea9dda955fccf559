//! What an engine is made of.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use xxhash_rust::xxh3::xxh3_64;

use super::{Engine, Numbers};
use crate::config::HubConfig;
use crate::host::call::KindInfo;
use crate::ids::NodeRef;
use crate::strategy::{Strategies, weight_thousandths};
use crate::time::Timestamp;
use crate::wire::MemberInfo;

/// Bits of an epoch below the term (R4).
pub(super) const TERM_SHIFT: u32 = 20;

/// What an engine is made of.
#[derive(Clone, Debug)]
pub struct EngineSetup {
    /// The hub's configuration.
    pub config: HubConfig,
    /// Labels of this node.
    pub labels: BTreeMap<String, String>,
    /// Weight of this node.
    pub weight: f64,
    /// This node.
    pub node: NodeRef,
    /// The kinds registered so far.
    pub kinds: Vec<KindInfo>,
    /// The wall clock at the start, in Unix milliseconds; larger than at every earlier start of this hub.
    pub wall_ms: u64,
    /// Seed of the engine's generator.
    pub seed: u64,
}

/// What happened in an engine so far, and how much it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Moves begun as the source.
    pub handovers_started: u64,
    /// Moves whose target became active.
    pub handovers_done: u64,
    /// Moves given up, the old instance going on.
    pub handovers_aborted: u64,
    /// Children started afresh because their node is gone.
    pub failovers: u64,
    /// Losses of state reported.
    pub states_lost: u64,
    /// Replicas that became the child because its node is gone.
    pub promotions: u64,
    /// Supervised restarts.
    pub restarts: u64,
    /// Host calls made.
    pub host_calls: u64,
    /// Completions of calls that were not open any more.
    pub late_completions: u64,
    /// Frames received.
    pub frames_in: u64,
    /// Frames that were none.
    pub bad_frames: u64,
    /// Instances here.
    pub children: u64,
    /// Children known.
    pub registry_rows: u64,
    /// Moves open as the source.
    pub open_moves: u64,
}

/// The timings an engine works with.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) view_debounce: Duration,
    /// Running late by more than this is a stall: others may have declared this node dead.
    pub(super) stall: Duration,
    /// How long a target stays ready in doubt (R5).
    pub(super) readiness: Duration,
    pub(super) move_budget: Duration,
    pub(super) deadlock_recovery: Duration,
    pub(super) max_restarts: u32,
    pub(super) restart_window: Duration,
    pub(super) backoff: (Duration, Duration),
    /// Hash over the strategy options that all members must share.
    pub(super) fingerprint: u64,
}

pub(super) fn build(now: Timestamp, setup: EngineSetup) -> Engine {
    let EngineSetup { config, labels, weight, node, kinds, wall_ms, seed } = setup;
    let strategies = Strategies::from_config(&config);
    let fingerprint = xxh3_64(&postcard::to_allocvec(&strategies.fingerprint()).unwrap_or_default());
    let kinds: BTreeMap<_, _> = kinds.into_iter().map(|kind| (kind.name.clone(), kind)).collect();
    let options = strategies.partition_tolerance.quorum();
    let partition = options.map(|options| Box::new(super::partition::Partition::new(&node, options, now, wall_ms)));
    let lease_wait = options.map_or(Duration::ZERO, |options| options.wait());
    Engine {
        me: node,
        partition,
        hub_id: config.hub_id,
        settings: Settings {
            view_debounce: config.profile.view_debounce,
            stall: config.profile.suspicion,
            readiness: config.profile.worst_detection() * 2 + lease_wait,
            move_budget: config.migration_base_timeout,
            deadlock_recovery: config.deadlock_recovery_timeout,
            max_restarts: config.restart.max_restarts,
            restart_window: config.restart.window,
            backoff: config.restart.backoff,
            fingerprint,
        },
        strategies,
        factor: 1,
        now,
        started_at: now,
        wall_ms,
        term: wall_ms / 1000,
        // Two starts of one node never use the same transfer number: the seed differs.
        numbers: Numbers { transfer: (seed & 0x7fff_ffff) << 24, ..Numbers::default() },
        random: ChaCha8Rng::seed_from_u64(seed),
        effects: Vec::new(),
        counters: super::Counters::default(),
        membership: super::Membership::default(),
        info: MemberInfo {
            version: 1,
            kinds: kinds.values().cloned().collect(),
            weight: weight_thousandths(weight),
            labels,
            is_leaving: false,
        },
        kinds,
        children: super::Children::default(),
        registry: super::Registry::default(),
        log: super::log::OwnLog::default(),
        placements: super::Placements::new(),
        instances: super::IndexMap::default(),
        endings: super::ending::Endings::default(),
        calls: super::calls::Calls::default(),
        refused_moves: super::IndexMap::default(),
        moves: super::reconcile::Moves::default(),
        requests: BTreeMap::new(),
        unplaced_statics: BTreeMap::new(),
        arbiter: super::arbiter::Arbiter::default(),
        assigning: super::assigning::Assigning::default(),
        balance: super::balance::Balance::default(),
        router: super::routes::Router::default(),
        timers: super::Timers::default(),
        sweep: None,
        batch: Vec::new(),
        hooks: super::hooks::HookState::default(),
        drain: None,
        status: super::HubStatus::default(),
        status_of: 0,
        is_ended: false,
    }
}
