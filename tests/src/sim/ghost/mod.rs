//! The ghost model: what really is, known only to the simulator.

mod learn;
mod runs;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};

use process_hub::config::{HubConfig, Migration, Redundancy, RedundancySignal, ReplicationFactor, ReplicationModel};
use process_hub::engine::Command;
use process_hub::host::call::{StartReason, StopReason};
use process_hub::ids::{CallNumber, Epoch, Incarnation, InstanceId, NodeName, NodeRef, RequestId};
use process_hub::spec::{Mode, RestartPolicy, StateLost};

use super::config::Swarm;
use super::host::{Kind, OpId, State};
use super::queue::{HubIndex, ProcessId};
use super::time::WorldTime;

/// Whether a process runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    Up,
    Paused,
    Down,
}

/// One start of a node.
#[derive(Debug)]
pub(crate) struct GhostProcess {
    pub(crate) node: NodeRef,
    pub(crate) slot: usize,
    pub(crate) life: Life,
    /// When its life last changed.
    pub(crate) changed: WorldTime,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) weight: f64,
    /// It was told to drain or to leave.
    pub(crate) is_leaving: bool,
    pub(crate) hubs: Vec<GhostHub>,
}

/// One hub of a process.
#[derive(Debug, Default)]
pub(crate) struct GhostHub {
    /// The members it tells, and since when.
    pub(crate) members: BTreeMap<NodeRef, WorldTime>,
    /// The highest incarnation it ever told of each name.
    pub(crate) highest: BTreeMap<NodeName, Incarnation>,
    pub(crate) is_locked: bool,
    pub(crate) is_partitioned: bool,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// Its `stop` returned.
    Stopped(StopReason),
    /// It was written off.
    Discarded,
    /// Its process died.
    Died,
    /// Its `start` failed.
    NeverStarted,
}

/// One instance.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) process: ProcessId,
    pub(crate) instance: InstanceId,
    /// The fencing number it was last told.
    pub(crate) epoch: Epoch,
    pub(crate) mode: Mode,
    pub(crate) reason: StartReason,
    /// The number of the spec it was started with.
    pub(crate) spec: Option<u32>,
    pub(crate) begun: WorldTime,
    /// A first start: with whom its node was together when it began.
    pub(crate) company: BTreeSet<ProcessId>,
    pub(crate) started: Option<WorldTime>,
    pub(crate) stopping: Option<StopReason>,
    pub(crate) ended: Option<(WorldTime, End)>,
    pub(crate) state: State,
    /// How many states it was given.
    pub(crate) taken_count: u32,
    /// It was given a state since it was passive last.
    pub(crate) has_received: bool,
    /// It became active with the state it had.
    pub(crate) promoted: Option<WorldTime>,
    /// The roles that `redundancy_signal` told it.
    pub(crate) signals: Vec<Mode>,
    pub(crate) last_handled: Option<WorldTime>,
    /// Every fencing number it had.
    pub(crate) epochs: Vec<Epoch>,
    /// Who told it in a row, itself or another.
    pub(crate) known_by: BTreeSet<ProcessId>,
    /// Its node told it as the child.
    pub(crate) was_listed: bool,
    /// It left of its own accord.
    pub(crate) has_exited: bool,
    /// The call it is in, `Run` apart.
    pub(crate) in_flight: Option<(CallNumber, &'static str)>,
}

impl Run {
    pub(crate) const fn is_live(&self) -> bool {
        self.ended.is_none()
    }
}

/// What one hub tells of a child.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct GhostRow {
    pub(crate) spec: u32,
    pub(crate) mapping: Vec<NodeName>,
    pub(crate) instances: Vec<(NodeName, Mode, Epoch)>,
    pub(crate) state_lost: Option<StateLost>,
}

/// What users asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wish {
    /// Start with this spec.
    Start(u32),
    Stop,
}

/// How a wish ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WishEnd {
    /// Acknowledged.
    Granted,
    /// Refused: it changed nothing.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// One wish about one child.
#[derive(Debug)]
pub(crate) struct Intent {
    pub(crate) wish: Wish,
    pub(crate) request: Option<(ProcessId, RequestId)>,
    pub(crate) issued: WorldTime,
    pub(crate) ended: Option<(WorldTime, WishEnd)>,
    /// Processes that died since it was issued.
    pub(crate) deaths_since: u32,
    /// Whoever granted it told others as members: at least two hold it (R1).
    pub(crate) is_held_by_two: bool,
}

impl Intent {
    /// The child may have stopped itself.
    pub(crate) const fn unknown_stop(now: WorldTime) -> Self {
        Self {
            wish: Wish::Stop,
            request: None,
            issued: now,
            ended: Some((now, WishEnd::Unknown)),
            deaths_since: 0,
            is_held_by_two: false,
        }
    }
}

/// One child of the cluster.
#[derive(Debug)]
pub(crate) struct GhostChild {
    pub(crate) hub: HubIndex,
    pub(crate) kind: Kind,
    pub(crate) restart: RestartPolicy,
    /// Every instance there was, the live ones included.
    pub(crate) runs: Vec<Run>,
    /// Indices of the live runs.
    pub(crate) live: Vec<usize>,
    /// What each live process tells.
    pub(crate) rows: BTreeMap<ProcessId, GhostRow>,
    /// Specs a process told and then no longer told, since when.
    pub(crate) dropped: BTreeMap<(ProcessId, u32), WorldTime>,
    /// Specs that the core told when everything healed.
    pub(crate) held_in_core: BTreeSet<u32>,
    pub(crate) intents: Vec<Intent>,
    /// Hooks `state_lost`: who told which epoch, when.
    pub(crate) losses: Vec<(ProcessId, Epoch, WorldTime)>,
    /// When a conflict was told as resolved.
    pub(crate) conflicts: Vec<WorldTime>,
    /// When a restart budget was used up.
    pub(crate) quarantined: Option<WorldTime>,
    /// Which runs handled a message, latest last.
    pub(crate) last_handler: Option<usize>,
}

impl GhostChild {
    pub(crate) fn live_runs(&self) -> impl Iterator<Item = &Run> {
        self.live.iter().map(|index| &self.runs[*index])
    }

    pub(crate) fn run(&self, process: ProcessId, instance: InstanceId) -> Option<&Run> {
        self.runs.iter().rev().find(|run| run.process == process && run.instance == instance)
    }
}

/// How a message ended for its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OpEnd {
    Answered,
    /// An error that says it was not handled.
    NotExecuted,
    /// An error that says it may have been handled.
    Unknown,
}

/// One message to a child.
#[derive(Debug)]
pub(crate) struct GhostOp {
    pub(crate) child: usize,
    /// It is for the instance on a node or for all, and not for the active one.
    pub(crate) is_bound: bool,
    pub(crate) ended: Option<(WorldTime, OpEnd)>,
    /// Who handled it.
    pub(crate) handled: Vec<(ProcessId, InstanceId, WorldTime)>,
}

/// One open request.
#[derive(Debug)]
pub(crate) struct GhostRequest {
    pub(crate) command: Command,
    pub(crate) issued: WorldTime,
    pub(crate) op: Option<OpId>,
}

/// Everything the simulator knows.
#[derive(Debug)]
pub(crate) struct Ghost {
    pub(crate) now: WorldTime,
    pub(crate) hubs: Vec<HubConfig>,
    pub(crate) processes: Vec<GhostProcess>,
    pub(crate) children: Vec<GhostChild>,
    pub(crate) ops: Vec<GhostOp>,
    pub(crate) requests: BTreeMap<(ProcessId, HubIndex, RequestId), GhostRequest>,
    /// Per directed pair of slots: whether it passes, and since when.
    pub(crate) links: BTreeMap<(usize, usize), (bool, WorldTime)>,
    /// The last fault, change of the membership or request that changes what is wanted.
    pub(crate) disturbed: WorldTime,
    /// See the swarm.
    pub(crate) zones: usize,
    /// How many machines there are.
    pub(crate) machines: usize,
    /// Who stays in the healed phase.
    pub(crate) core: Option<Vec<ProcessId>>,
    pub(crate) healed: Option<WorldTime>,
    /// How often an instance was started.
    pub(crate) motions: u64,
    pub(crate) settle_us: u64,
    /// A move that began longer ago is over.
    pub(crate) longest_move_us: u64,
    /// Wall clocks differ so much that the later of two writes may count as the earlier.
    pub(crate) has_skew: bool,
}

impl Ghost {
    /// Before anything happened.
    pub(crate) fn new(swarm: &Swarm, children: Vec<GhostChild>) -> Self {
        Self {
            now: WorldTime::default(),
            hubs: swarm.hubs.clone(),
            processes: Vec::new(),
            children,
            ops: Vec::new(),
            requests: BTreeMap::new(),
            links: BTreeMap::new(),
            disturbed: WorldTime::default(),
            zones: swarm.zones,
            machines: swarm.nodes,
            core: None,
            healed: None,
            motions: 0,
            settle_us: swarm.settle_us(),
            longest_move_us: swarm.longest_move_us(),
            has_skew: swarm.drifting_clocks,
        }
    }

    pub(crate) fn process(&self, id: ProcessId) -> &GhostProcess {
        &self.processes[id.0 as usize]
    }

    pub(crate) fn process_mut(&mut self, id: ProcessId) -> &mut GhostProcess {
        &mut self.processes[id.0 as usize]
    }

    /// Since when both run, frames pass both ways, and both count each other as members.
    pub(crate) fn together_since(&self, hub: HubIndex, a: ProcessId, b: ProcessId) -> Option<WorldTime> {
        if a == b {
            return Some(self.process(a).changed);
        }
        let (p, q) = (self.process(a), self.process(b));
        if p.life != Life::Up || q.life != Life::Up {
            return None;
        }
        let link = |from, to| match self.links.get(&(from, to)) {
            None => Some(WorldTime::default()),
            Some((passes, since)) => passes.then_some(*since),
        };
        let ab = link(p.slot, q.slot)?;
        let ba = link(q.slot, p.slot)?;
        let pq = *p.hubs[usize::from(hub)].members.get(&q.node)?;
        let qp = *q.hubs[usize::from(hub)].members.get(&p.node)?;
        [p.changed, q.changed, ab, ba, pq, qp].into_iter().max()
    }

    /// With whom a process is together now.
    pub(crate) fn company_of(&self, hub: HubIndex, id: ProcessId) -> BTreeSet<ProcessId> {
        let everybody = (0..self.processes.len()).filter_map(|index| u32::try_from(index).ok().map(ProcessId));
        everybody.filter(|other| self.together_since(hub, id, *other).is_some()).collect()
    }

    /// No fault, change of members or request for long enough that everything must have settled.
    pub(crate) fn is_quiet(&self) -> bool {
        self.now.since_us(self.disturbed) > self.settle_us
    }

    /// Whether a move of this hub starts the new instance before it stops the old one.
    pub(crate) fn is_hot(&self, hub: HubIndex) -> bool {
        let is_hot = |migration: &Migration| matches!(migration, Migration::HotSwap { .. });
        match &self.hubs[usize::from(hub)].migration {
            Migration::Hosted(hosted) => is_hot(&hosted.base),
            migration @ (Migration::HotSwap { .. } | Migration::ColdSwap { .. }) => is_hot(migration),
        }
    }

    /// Whether a move of this hub takes the state along.
    pub(crate) fn hands_over(&self, hub: HubIndex) -> bool {
        self.hubs[usize::from(hub)].migration.hands_over()
    }

    /// Several instances of a child, if this hub has them: what is told to them, and whether all are active.
    pub(crate) fn replication(&self, hub: HubIndex) -> Option<(ReplicationModel, RedundancySignal)> {
        match &self.hubs[usize::from(hub)].redundancy {
            Redundancy::Singularity | Redundancy::Custom(_) => None,
            Redundancy::Replication { model, signal, .. } => Some((*model, *signal)),
        }
    }

    /// How many instances a child of this hub has among so many nodes.
    pub(crate) fn factor(&self, hub: HubIndex, nodes: usize) -> usize {
        match &self.hubs[usize::from(hub)].redundancy {
            Redundancy::Singularity | Redundancy::Custom(_) => 1,
            Redundancy::Replication { factor: ReplicationFactor::Count(count), .. } => {
                usize::try_from(*count).unwrap_or(1)
            }
            Redundancy::Replication { factor: ReplicationFactor::ClusterSize, .. } => nodes,
        }
    }

    /// An old instance that lives on for its retention: its node told it once and does not any more (R5).
    pub(crate) fn is_retained(&self, child: &GhostChild, run: &Run) -> bool {
        let name = &self.process(run.process).node.name;
        let is_listed = child
            .rows
            .get(&run.process)
            .is_some_and(|row| row.instances.iter().any(|(node, _, epoch)| node == name && *epoch == run.epoch));
        run.was_listed && !is_listed
    }

    pub(crate) fn describe(&self, id: ProcessId) -> String {
        self.process(id).node.to_string()
    }
}
