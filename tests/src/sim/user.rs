//! The users: they start, stop, call and send, and restart nodes gracefully.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use process_hub::engine::{Command, IfExists, Input, MessageCommand, OnFailure, PlanChange, Recipient, StartOptions};
use process_hub::ids::RequestId;
use process_hub::payload::Payload;
use process_hub::spec::{ChildSpec, RestartPolicy};

use super::config::{Swarm, mapping};
use super::draw::Draw;
use super::fact::{Fact, child_id, spec_args};
use super::ghost::{GhostChild, GhostOp, Life};
use super::host::{Kind, OpId, encode_message};
use super::queue::{Event, HubIndex, ProcessId};
use super::time::{WorldTime, micros};
use super::violation::Check;
use super::world::World;

/// What one child is, all through a run.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) kind: Kind,
    pub(crate) hub: HubIndex,
    pub(crate) restart: RestartPolicy,
    pub(crate) pad_bytes: u64,
    /// What the users believe.
    pub(crate) is_wanted: bool,
}

/// The users' plan.
pub(crate) struct Users {
    roles: Vec<Role>,
    next_spec: u32,
    next_restart: WorldTime,
    has_started_all: bool,
}

impl Users {
    /// Users of these children.
    pub(crate) const fn new(roles: Vec<Role>) -> Self {
        Self { roles, next_spec: 1, next_restart: WorldTime(8_000_000), has_started_all: false }
    }

    /// Users of as many children as the swarm says.
    pub(crate) fn drawn(swarm: &Swarm, draw: &mut Draw) -> Self {
        let hub_count = swarm.hubs.len();
        let roles = (0..swarm.work.children)
            .map(|index| Role {
                kind: match draw.between(0, 19) {
                    0..=12 => Kind::Counter,
                    13..=15 => Kind::Worker,
                    16 | 17 => Kind::Plain,
                    _ => Kind::Rare,
                },
                hub: u8::try_from(index % hub_count).unwrap_or(0),
                restart: match draw.between(0, 9) {
                    0..=7 => RestartPolicy::Permanent,
                    8 => RestartPolicy::Transient,
                    _ => RestartPolicy::Temporary,
                },
                pad_bytes: match draw.between(0, 99) {
                    0..=79 => draw.between(0, 200),
                    80..=97 => draw.between(200, 20_000),
                    _ => draw.between(20_000, 700_000),
                },
                is_wanted: false,
            })
            .collect();
        Self::new(roles)
    }

    /// The children as the oracle knows them before anything happened.
    pub(crate) fn ghosts(&self) -> Vec<GhostChild> {
        let ghost = |role: &Role| GhostChild {
            hub: role.hub,
            kind: role.kind,
            restart: role.restart,
            runs: Vec::new(),
            live: Vec::new(),
            rows: std::collections::BTreeMap::new(),
            dropped: std::collections::BTreeMap::new(),
            held_in_core: BTreeSet::new(),
            intents: Vec::new(),
            losses: Vec::new(),
            conflicts: Vec::new(),
            quarantined: None,
            last_handler: None,
        };
        self.roles.iter().map(ghost).collect()
    }

    #[allow(clippy::unwrap_used, reason = "the texts are ours and short")]
    fn spec(&mut self, index: usize) -> ChildSpec {
        let role = &mut self.roles[index];
        role.is_wanted = true;
        let args = spec_args(self.next_spec, role.pad_bytes);
        self.next_spec += 1;
        let mut spec =
            ChildSpec::new(child_id(index).as_str(), role.kind.name()).unwrap().with_args(Payload::json(args));
        spec.restart = role.restart;
        spec
    }
}

impl World {
    /// The spec of a child's next start.
    pub(crate) fn spec(&mut self, index: usize) -> Arc<ChildSpec> {
        let hub = usize::from(self.users.roles[index].hub);
        let mapping = mapping(&self.swarm.hubs[hub], self.swarm.nodes, index);
        Arc::new(ChildSpec { mapping, ..self.users.spec(index) })
    }

    /// The first request of every hub: hooks.
    pub(crate) fn subscribe(&mut self, at: ProcessId, hub: HubIndex) -> Check {
        self.issue(at, hub, Command::SubscribeHooks(self.swarm.hooks), Duration::from_secs(5))
    }

    /// One action of the users, and when the next comes.
    pub(crate) fn user_acts(&mut self) -> Check {
        if self.healing.is_some() {
            return Ok(());
        }
        let work = self.swarm.work;
        let delay_us = self.streams.workload.spread(work.pause_min_us, work.pause_max_us);
        self.push_us(delay_us, Event::UserActs);
        if self.now >= self.users.next_restart {
            let draw = &mut self.streams.workload;
            let pause_us = draw.spread(work.churn_us / 2, work.churn_us * 2);
            self.users.next_restart = self.now.plus_us(pause_us);
            return self.restart_nodes();
        }
        let Some(at) = self.any_process() else {
            return Ok(());
        };
        if self.users.roles.is_empty() {
            return self.ask(at, 0);
        }
        if !self.users.has_started_all {
            self.users.has_started_all = true;
            return self.start_all(at);
        }
        match self.streams.workload.between(0, 99) {
            0..=11 => self.start_some(at),
            12..=16 => self.stop_some(at),
            17..=79 => self.message(at, true),
            80..=91 => self.message(at, false),
            _ => {
                let hub = self.streams.workload.below(self.swarm.hubs.len());
                self.ask(at, u8::try_from(hub).unwrap_or(0))
            }
        }
    }

    /// A process that runs and is not leaving.
    fn any_process(&mut self) -> Option<ProcessId> {
        let is_usable = |id: &ProcessId| {
            let process = self.process(*id);
            process.life == Life::Up && !process.is_leaving
        };
        let usable: Vec<_> = self.alive().into_iter().filter(is_usable).collect();
        self.streams.workload.pick(&usable).copied()
    }

    /// Issues a request and watches its deadline (L8).
    pub(crate) fn issue(&mut self, at: ProcessId, hub: HubIndex, command: Command, timeout: Duration) -> Check {
        let cell = &mut self.process_mut(at).hubs[usize::from(hub)];
        let request = RequestId(cell.next_request);
        cell.next_request += 1;
        self.observe(&Fact::Issued { process: at, hub, request, command: &command })?;
        let due_us = micros(timeout) * 103 / 100 + 600_000;
        let due = Event::RequestDue { at, hub, request, extended: false };
        self.push_us(due_us, due);
        let is_message = matches!(command, Command::Call(_) | Command::Start(..) | Command::Stop(..));
        let may_be_cancelled = is_message && self.healing.is_none() && !self.swarm.is_scripted;
        if may_be_cancelled && self.streams.workload.chance(1) {
            let delay_us = self.streams.workload.between(0, micros(timeout));
            self.push_us(delay_us, Event::UserCancels { at, hub, request });
        }
        self.turn(at, hub, Input::Command(request, command))
    }

    pub(crate) fn user_cancels(&mut self, at: ProcessId, hub: HubIndex, request: RequestId) -> Check {
        if !self.oracle.ghost.requests.contains_key(&(at, hub, request)) {
            return Ok(());
        }
        self.observe(&Fact::Cancelled { process: at, hub, request })?;
        self.turn(at, hub, Input::Cancel(request))
    }

    pub(crate) fn request_due(&mut self, at: ProcessId, hub: HubIndex, request: RequestId, extended: bool) -> Check {
        let Some(open) = self.oracle.ghost.requests.get(&(at, hub, request)) else {
            return Ok(());
        };
        // A pause meanwhile: its deadlines come late, all at once.
        if !extended && self.process(at).resumed >= open.issued {
            let due = Event::RequestDue { at, hub, request, extended: true };
            self.push_us(2_000_000, due);
            return Ok(());
        }
        self.observe(&Fact::Overdue { process: at, hub, request })
    }

    fn timeout(&mut self) -> Duration {
        Duration::from_micros(self.streams.workload.spread(100_000, 10_000_000))
    }

    fn start_all(&mut self, at: ProcessId) -> Check {
        for hub in 0..self.swarm.hubs.len() {
            let all: Vec<_> =
                (0..self.users.roles.len()).filter(|index| usize::from(self.users.roles[*index].hub) == hub).collect();
            self.start(at, u8::try_from(hub).unwrap_or(0), &all)?;
        }
        Ok(())
    }

    fn start_some(&mut self, at: ProcessId) -> Check {
        let count = self.streams.workload.spread(1, 12);
        let first = self.streams.workload.below(self.users.roles.len());
        let hub = self.users.roles[first].hub;
        let wants_new = !self.streams.workload.chance(5);
        let candidates: Vec<_> = (first..self.users.roles.len())
            .filter(|index| {
                let role = &self.users.roles[*index];
                role.hub == hub && !(wants_new && role.is_wanted)
            })
            .take(usize::try_from(count).unwrap_or(1))
            .collect();
        self.start(at, hub, &candidates)
    }

    fn start(&mut self, at: ProcessId, hub: HubIndex, children: &[usize]) -> Check {
        if children.is_empty() {
            return Ok(());
        }
        let specs = children.iter().map(|index| self.spec(*index)).collect();
        let timeout = self.timeout();
        let draw = &mut self.streams.workload;
        let options = StartOptions {
            timeout,
            check_existing: draw.chance(90),
            if_exists: if draw.chance(80) { IfExists::Error } else { IfExists::Return },
            on_failure: if draw.chance(85) { OnFailure::Continue } else { OnFailure::Rollback },
            metadata: None,
            child_mapping: None,
        };
        self.issue(at, hub, Command::Start(specs, options), timeout)
    }

    fn stop_some(&mut self, at: ProcessId) -> Check {
        let count = self.streams.workload.spread(1, 6);
        let first = self.streams.workload.below(self.users.roles.len());
        let hub = self.users.roles[first].hub;
        let chosen: Vec<_> = (first..self.users.roles.len())
            .filter(|index| self.users.roles[*index].hub == hub)
            .take(usize::try_from(count).unwrap_or(1))
            .collect();
        for index in &chosen {
            self.users.roles[*index].is_wanted = false;
        }
        let timeout = self.timeout();
        let children = chosen.into_iter().map(child_id).collect();
        self.issue(at, hub, Command::Stop(children, timeout), timeout)
    }

    fn message(&mut self, at: ProcessId, is_call: bool) -> Check {
        let index = self.streams.workload.below(self.users.roles.len());
        let hub = self.users.roles[index].hub;
        let op = OpId(u32::try_from(self.oracle.ghost.ops.len()).unwrap_or(u32::MAX));
        let timeout = self.timeout();
        let is_replicated = self.oracle.ghost.replication(hub).is_some();
        let recipient = if is_replicated && !is_call && self.streams.workload.chance(30) {
            Recipient::All
        } else {
            self.recipient(at)
        };
        let is_bound = is_replicated && recipient != Recipient::Active;
        self.oracle.ghost.ops.push(GhostOp { child: index, is_bound, ended: None, handled: Vec::new() });
        let message = MessageCommand {
            child: child_id(index),
            message: encode_message(op),
            recipient,
            timeout,
            chain: Arc::from([]),
        };
        let command = if is_call { Command::Call(message) } else { Command::Send(message) };
        self.issue(at, hub, command, timeout)
    }

    fn recipient(&mut self, at: ProcessId) -> Recipient {
        if self.streams.workload.chance(95) {
            return Recipient::Active;
        }
        let alive = self.alive();
        let some = self.streams.workload.pick(&alive).copied().unwrap_or(at);
        Recipient::Node(self.process(some).node.name.clone())
    }

    fn ask(&mut self, at: ProcessId, hub: HubIndex) -> Check {
        let timeout = self.timeout();
        let index = self.streams.workload.below(self.users.roles.len());
        let child = child_id(index);
        let command = match self.streams.workload.between(0, 5) {
            0 => Command::Where(child),
            1 => Command::WhichChildren(timeout),
            2 => Command::Sync(timeout),
            3 => Command::Plan(PlanChange::Leave(vec![self.process(at).node.name.clone()])),
            _ => Command::AcknowledgeLoss(child),
        };
        self.issue(at, hub, command, timeout.max(Duration::from_secs(5)))
    }

    /// A rolling restart of one node, sometimes of several at once.
    fn restart_nodes(&mut self) -> Check {
        let count = if self.streams.workload.chance(85) {
            1
        } else {
            self.streams.workload.between(1, self.swarm.nodes as u64)
        };
        for _ in 0..count {
            let Some(at) = self.any_process() else {
                break;
            };
            let timeout = Duration::from_micros(self.streams.workload.spread(2_000_000, 60_000_000));
            let drains_first = self.streams.workload.chance(20);
            self.process_mut(at).is_leaving = true;
            for hub in 0..u8::try_from(self.swarm.hubs.len()).unwrap_or(1) {
                if drains_first {
                    self.issue(at, hub, Command::Drain(timeout), timeout)?;
                }
                if self.process(at).hubs.is_empty() {
                    break;
                }
                self.issue(at, hub, Command::Shutdown(timeout), timeout)?;
                if self.process(at).hubs.is_empty() {
                    break;
                }
            }
            // L4 is checked by the deadline of the request; a node that never ends must not block the run.
            let patience_us = micros(timeout) * 2 + 20_000_000;
            self.push_us(patience_us, Event::Kill { process: at });
        }
        Ok(())
    }
}
