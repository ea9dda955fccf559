//! The swarm: each seed draws its own configuration, and which kinds of faults exist at all.

use std::collections::BTreeMap;
use std::time::Duration;

use process_hub::config::{
    Distribution, Fallback, HubConfig, Migration, PartitionTolerance, Profile, Redundancy, RedundancySignal,
    ReplicationFactor, ReplicationModel, RestartConfig, Synchronization,
};
use process_hub::ids::{HubId, NodeName};
use process_hub::observe::HookName;
use process_hub::strategy::ZONE_LABEL;

use super::Options;
use super::decider::DeciderDraw;
use super::draw::Draw;
use super::machines::node_name;
use super::time::micros;

/// The network of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NetworkDraw {
    pub(crate) delay_min_us: u64,
    pub(crate) delay_spread_us: u64,
    pub(crate) loss_ppm: u32,
    pub(crate) repeat_ppm: u32,
    pub(crate) reorder_ppm: u32,
    pub(crate) late_ppm: u32,
    pub(crate) late_max_us: u64,
}

/// Which faults a run knows; each with probability one half.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FaultClasses {
    pub(crate) one_way_cut: bool,
    pub(crate) partition: bool,
    pub(crate) clog: bool,
    pub(crate) crash: bool,
    pub(crate) crash_at_effect: bool,
    pub(crate) pause: bool,
    pub(crate) new_name: bool,
    /// Crashes, pauses and cuts aimed at open handovers.
    pub(crate) aimed: bool,
    pub(crate) storm: bool,
}

impl FaultClasses {
    pub(crate) const NONE: Self = Self {
        one_way_cut: false,
        partition: false,
        clog: false,
        crash: false,
        crash_at_effect: false,
        pause: false,
        new_name: false,
        aimed: false,
        storm: false,
    };
}

/// The children's code of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostDraw {
    pub(crate) delay_max_us: u64,
    pub(crate) slow_ppm: u32,
    pub(crate) slow_max_us: u64,
    pub(crate) fail_ppm: u32,
    pub(crate) exit_ppm: u32,
}

/// The users of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkDraw {
    pub(crate) children: usize,
    pub(crate) pause_min_us: u64,
    pub(crate) pause_max_us: u64,
    /// Mean pause between graceful restarts of a node.
    pub(crate) churn_us: u64,
}

/// Everything drawn for one seed.
#[derive(Clone, Debug)]
pub(crate) struct Swarm {
    pub(crate) nodes: usize,
    /// A script says what happens: no node starts, nothing strikes and nobody asks by itself.
    pub(crate) is_scripted: bool,
    pub(crate) safety_us: u64,
    pub(crate) hubs: Vec<HubConfig>,
    pub(crate) network: NetworkDraw,
    pub(crate) faults: FaultClasses,
    pub(crate) fault_pause_us: u64,
    pub(crate) host: HostDraw,
    /// How the hosts decide where a strategy is theirs.
    pub(crate) decider: DeciderDraw,
    pub(crate) work: WorkDraw,
    pub(crate) drifting_clocks: bool,
    /// Real membership, or a detector without packets.
    pub(crate) uses_swim: bool,
    /// Machines are in this many zones, one after the other; 0: in none.
    pub(crate) zones: usize,
    /// Inputs are handled in batches: the engine's frames leave up to this much later.
    pub(crate) batch_us: u64,
    /// The hooks that have handlers.
    pub(crate) hooks: u64,
}

/// All hooks.
pub(crate) const ALL_HOOKS: u64 = u64::MAX >> 1;
/// The hooks that checkers read.
const READ_HOOKS: u64 = HookName::StateLost.bit()
    | HookName::ConflictResolved.bit()
    | HookName::ChildQuarantined.bit()
    | HookName::ChildProcessPidUpdated.bit();

impl Swarm {
    pub(crate) fn new(options: &Options, draw: &mut Draw) -> Self {
        let nodes = options.nodes.unwrap_or_else(|| usize::try_from(draw.between(1, 9)).unwrap_or(1));
        let safety_us = options.minutes.map_or_else(|| draw.between(60, 600), |minutes| minutes * 60) * 1_000_000;
        let hub_count = if draw.chance(10) { 2 } else { 1 };
        let profile = profile(draw);
        let hubs = (0..hub_count).map(|index| hub(index, &profile, draw)).collect();
        let faults = FaultClasses {
            one_way_cut: draw.chance(50),
            partition: draw.chance(50),
            clog: draw.chance(50),
            crash: draw.chance(50),
            crash_at_effect: draw.chance(50),
            pause: draw.chance(50),
            new_name: draw.chance(50),
            aimed: draw.chance(50),
            storm: draw.chance(50),
        };
        Self {
            nodes,
            is_scripted: false,
            safety_us,
            hubs,
            network: network(draw),
            faults,
            fault_pause_us: draw.spread(4_000_000, 60_000_000),
            host: host(draw),
            decider: DeciderDraw::default(),
            work: WorkDraw {
                children: children(draw),
                pause_min_us: 10_000,
                pause_max_us: draw.spread(1_000_000, 8_000_000),
                churn_us: draw.spread(20_000_000, 120_000_000),
            },
            drifting_clocks: draw.chance(50),
            uses_swim: draw.chance(75),
            zones: 0,
            batch_us: if draw.chance(50) { 0 } else { draw.spread(10, 2_000) },
            hooks: match draw.between(0, 3) {
                0 => ALL_HOOKS,
                1 => READ_HOOKS | HookName::ChildDataAlter.bit(),
                _ => READ_HOOKS,
            },
        }
    }

    /// Draws the strategies that a plain run has the defaults of.
    pub(crate) fn draw_strategies(&mut self, draw: &mut Draw) {
        for hub in &mut self.hubs {
            hub.redundancy = redundancy(draw);
        }
        if draw.chance(30) {
            self.zones = usize::try_from(draw.between(2, 3)).unwrap_or(2);
        }
        for hub in &mut self.hubs {
            let interval = hub.synchronization.sync_interval();
            hub.synchronization = synchronization(draw).with_sync_interval(interval);
            if draw.chance(20) {
                hub.distribution = guided(draw);
                // A mapping has a length.
                if let Redundancy::Replication { factor: factor @ ReplicationFactor::ClusterSize, .. } =
                    &mut hub.redundancy
                {
                    *factor = ReplicationFactor::Count(2);
                }
            }
        }
        self.decider = DeciderDraw::new(draw);
        for hub in &mut self.hubs {
            if draw.chance(25) {
                hub.migration = Migration::hosted("mine", hub.migration.clone());
            }
        }
    }

    /// Draws hubs that go by loads.
    pub(crate) fn draw_loads(&mut self, draw: &mut Draw) {
        for hub in &mut self.hubs {
            let distribution = load_balanced(draw);
            if draw.chance(25) && hub.distribution == Distribution::ConsistentHashing {
                hub.distribution = distribution;
            }
        }
    }

    /// The labels of the machine in this place.
    pub(crate) fn labels(&self, slot: usize) -> BTreeMap<String, String> {
        let zone = slot.checked_rem(self.zones).map(|zone| (ZONE_LABEL.to_owned(), format!("zone{zone}")));
        zone.into_iter().collect()
    }

    /// Draws a strategy with a quorum. Names are kept, as they are counted; and so few are outside of a quorum that they
    /// cannot begin a cluster of their own (R10).
    pub(crate) fn draw_quorum(&mut self, draw: &mut Draw) {
        self.faults.new_name = false;
        let nodes = u32::try_from(self.nodes).unwrap_or(1);
        let fewest = (1..=nodes).find(|initial| initial + initial / 2 >= nodes).unwrap_or(nodes);
        let initial = u32::try_from(draw.between(fewest.into(), nodes.into())).unwrap_or(nodes);
        let lease = Duration::from_millis([500, 1_500, 1_500, 4_000][draw.below(4)]);
        for hub in &mut self.hubs {
            hub.partition_tolerance = match draw.between(0, 9) {
                0..=6 => PartitionTolerance::MajorityQuorum {
                    initial_cluster_size: initial,
                    track_max_size: draw.chance(70),
                    lease,
                },
                7 | 8 => PartitionTolerance::StaticQuorum {
                    quorum_size: nodes / 2 + 1,
                    startup_confirm: draw.chance(50),
                    lease,
                },
                _ => PartitionTolerance::DynamicQuorum {
                    quorum_size: u32::try_from(draw.between(51, 90)).unwrap_or(60),
                    threshold_time: Duration::from_millis(draw.spread(1_000, 60_000)),
                    lease,
                },
            };
        }
    }

    /// Whether a hub counts members, so that not every part of a cluster can settle.
    pub(crate) fn has_quorum(&self) -> bool {
        self.hubs.iter().any(|hub| hub.partition_tolerance.has_quorum())
    }

    /// How long a move may take: its source waits out twice the readiness of a target that fell silent (R5), and that
    /// is twice the worst detection; host code may hang for a minute on top.
    pub(crate) fn longest_move_us(&self) -> u64 {
        let longest = self.hubs.iter().map(|hub| {
            let lease = match hub.partition_tolerance {
                PartitionTolerance::Divergence => Duration::ZERO,
                PartitionTolerance::StaticQuorum { lease, .. }
                | PartitionTolerance::DynamicQuorum { lease, .. }
                | PartitionTolerance::MajorityQuorum { lease, .. } => lease * 4,
            };
            hub.migration_base_timeout + hub.profile.worst_detection() * 4 + lease
        });
        longest.map(micros).max().unwrap_or(0) + 60_000_000
    }

    /// How long a cluster without faults may take to settle.
    pub(crate) fn settle_us(&self) -> u64 {
        let slowest = self.hubs.iter().map(|hub| {
            hub.synchronization.sync_interval() * 4
                + hub.migration_base_timeout * 3
                + hub.profile.worst_detection() * 6
                + hub.restart.backoff.1
                + hub.hubs_discover_interval * 2
        });
        // A handler may take 60 s before it counts as a crash (semantics.md R5), on top of everything else.
        slowest.map(micros).max().unwrap_or(0) + 90_000_000
    }
}

fn synchronization(draw: &mut Draw) -> Synchronization {
    if draw.chance(50) {
        return Synchronization::default();
    }
    let recipients = u32::try_from(draw.between(1, 4)).unwrap_or(1);
    Synchronization::gossip().with_recipients(recipients).with_restricted_init(draw.chance(50))
}

fn guided(draw: &mut Draw) -> Distribution {
    let fallback = if draw.chance(50) { Fallback::Wait } else { Fallback::ConsistentHashing };
    Distribution::Guided { fallback }
}

fn load_balanced(draw: &mut Draw) -> Distribution {
    let decay_factor = [0.0, 0.5, 0.9, 1.0][draw.below(4)];
    let history = u32::try_from(draw.spread(1, 30)).unwrap_or(1);
    Distribution::load_balanced()
        .with_push_interval(milliseconds(draw, 500, 30_000))
        .with_history(history, decay_factor)
        .with_nodeup_redistribution(draw.chance(50))
}

/// Where the users map a child, if its hub goes by a mapping: to machines one after the other, under their first names.
pub(crate) fn mapping(hub: &HubConfig, machines: usize, child: usize) -> Vec<NodeName> {
    match hub.distribution {
        Distribution::ConsistentHashing | Distribution::LoadBalanced { .. } | Distribution::Custom(_) => {
            return Vec::new();
        }
        Distribution::Guided { .. } => {}
    }
    let count = match hub.redundancy {
        Redundancy::Replication { factor: ReplicationFactor::Count(count), .. } => count as usize,
        Redundancy::Replication { factor: ReplicationFactor::ClusterSize, .. }
        | Redundancy::Singularity
        | Redundancy::Custom(_) => 1,
    };
    (child..child + count).map(|place| node_name(place % machines.max(count), 0)).collect()
}

fn redundancy(draw: &mut Draw) -> Redundancy {
    if draw.chance(40) {
        return Redundancy::Singularity;
    }
    let signals = [RedundancySignal::None, RedundancySignal::Active, RedundancySignal::Passive, RedundancySignal::All];
    Redundancy::Replication {
        factor: match draw.between(0, 9) {
            0..=5 => ReplicationFactor::Count(2),
            6 | 7 => ReplicationFactor::Count(3),
            8 => ReplicationFactor::Count(u32::try_from(draw.between(1, 6)).unwrap_or(1)),
            _ => ReplicationFactor::ClusterSize,
        },
        model: if draw.chance(30) { ReplicationModel::ActiveActive } else { ReplicationModel::ActivePassive },
        signal: if draw.chance(50) { RedundancySignal::All } else { signals[draw.below(4)] },
    }
}

fn profile(draw: &mut Draw) -> Profile {
    match draw.between(0, 19) {
        0 => Profile::fast(),
        1..=4 => Profile::lan(),
        _ => Profile::wan(),
    }
}

fn milliseconds(draw: &mut Draw, low: u64, high: u64) -> Duration {
    Duration::from_millis(draw.spread(low, high))
}

fn hub(index: u8, profile: &Profile, draw: &mut Draw) -> HubConfig {
    let handover = draw.chance(75);
    let handover_data_wait = milliseconds(draw, 200, 3_000);
    let migration = if draw.chance(50) {
        Migration::ColdSwap { handover, handover_data_wait }
    } else {
        Migration::HotSwap {
            retention: milliseconds(draw, 100, 5_000),
            handover,
            confirm_handover: draw.chance(50),
            handover_data_wait,
            child_migration_timeout: milliseconds(draw, 500, 10_000),
        }
    };
    HubConfig {
        hub_id: hub_id(index),
        node: None,
        child_specs: Vec::new(),
        redundancy: Redundancy::Singularity,
        migration,
        synchronization: Synchronization::PubSub { sync_interval: milliseconds(draw, 1_000, 15_000) },
        partition_tolerance: PartitionTolerance::Divergence,
        distribution: Distribution::ConsistentHashing,
        restart: RestartConfig {
            max_restarts: 10,
            window: Duration::from_secs(60),
            backoff: (Duration::from_millis(10), Duration::from_secs(30)),
        },
        hubs_discover_interval: milliseconds(draw, 1_000, 10_000),
        deadlock_recovery_timeout: milliseconds(draw, 5_000, 60_000),
        migration_base_timeout: milliseconds(draw, 2_000, 15_000),
        shutdown_timeout: Duration::from_secs(60),
        host_threads: 8,
        profile: profile.clone(),
    }
}

/// The id of the hub with this index.
#[allow(clippy::unwrap_used, reason = "the text is ours and short")]
fn hub_id(index: u8) -> HubId {
    HubId::new(format!("hub{index}")).unwrap()
}

fn network(draw: &mut Draw) -> NetworkDraw {
    let delay_min_us = draw.spread(50, 20_000);
    let class = |draw: &mut Draw, ppm: u32| if draw.chance(50) { ppm } else { 0 };
    let loss_ppm = [10_000, 50_000, 200_000, 300_000][draw.below(4)];
    NetworkDraw {
        delay_min_us,
        delay_spread_us: draw.spread(50, 80_000),
        loss_ppm: class(draw, loss_ppm),
        repeat_ppm: class(draw, 250_000),
        reorder_ppm: class(draw, 300_000),
        late_ppm: class(draw, 50_000),
        late_max_us: draw.spread(10_000, 5_000_000),
    }
}

fn host(draw: &mut Draw) -> HostDraw {
    let fails = draw.chance(50);
    let slows = draw.chance(50);
    let exits = draw.chance(50);
    let when = |is_on: bool, ppm: u32| if is_on { ppm } else { 0 };
    HostDraw {
        delay_max_us: draw.spread(50, 50_000),
        slow_ppm: when(slows, 20_000),
        slow_max_us: draw.spread(500_000, 60_000_000),
        fail_ppm: when(fails, 40_000),
        exit_ppm: when(exits, 30_000),
    }
}

fn children(draw: &mut Draw) -> usize {
    match draw.between(0, 19) {
        0 => 0,
        1..=13 => draw.below(40) + 1,
        14..=18 => draw.below(100) + 1,
        _ => draw.below(300) + 1,
    }
}
