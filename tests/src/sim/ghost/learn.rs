//! How the ghost model follows what happens.

use std::sync::Arc;

use process_hub::ids::{ChildId, Epoch};
use process_hub::observe::{HookEvent, HookName};
use process_hub::spec::{Mode, Row};

use super::super::fact::{Fact, child_index, spec_number};
use super::super::queue::{ProcessId, Verdict};
use super::{End, Ghost, GhostHub, GhostProcess, GhostRow, Life, WishEnd};

/// As many deaths as it takes for nothing to be certain any more.
const FORGOTTEN: u32 = 1_000;

impl Ghost {
    /// Takes note of a fact.
    pub(crate) fn learn(&mut self, fact: &Fact<'_>) {
        match fact {
            Fact::ProcessUp { node, slot, kinds, weight, hub_count } => {
                self.disturbed = self.now;
                self.processes.push(GhostProcess {
                    node: (*node).clone(),
                    slot: *slot,
                    life: Life::Up,
                    changed: self.now,
                    kinds: kinds.clone(),
                    weight: *weight,
                    is_leaving: false,
                    hubs: (0..*hub_count).map(|_| GhostHub::default()).collect(),
                });
            }
            Fact::ProcessDown { process, .. } => self.bury(*process),
            Fact::Suspended(process) => self.set_life(*process, Life::Paused),
            Fact::Resumed(process) => self.set_life(*process, Life::Up),
            Fact::Link { from, to, passes } => {
                self.disturbed = self.now;
                self.links.insert((*from, *to), (*passes, self.now));
            }
            Fact::Fault(_) => self.disturbed = self.now,
            Fact::Member { process, peer, verdict } => {
                let now = self.now;
                self.disturbed = now;
                if matches!(verdict, Verdict::Down(_)) {
                    // The engine acts on it before its status says so.
                    for hub in &mut self.process_mut(*process).hubs {
                        if let Some(since) = hub.members.get_mut(*peer) {
                            *since = now;
                        }
                    }
                }
            }
            Fact::Healed(core) => {
                self.disturbed = self.now;
                self.core = Some(core.clone());
                self.healed = Some(self.now);
                for child in &mut self.children {
                    let told = core.iter().filter_map(|id| child.rows.get(id));
                    child.held_in_core = told.map(|row| row.spec).collect();
                }
            }
            Fact::Frame { .. } => {}
            Fact::RunEnded { process, instance, .. } => self.may_be_over(*process, *instance),
            Fact::Called { process, hub, call } => self.called(*process, *hub, call),
            Fact::Completed { process, call, answer, .. } => self.completed(*process, call, answer),
            Fact::Acted { process, instance, event, .. } => self.acted(*process, *instance, event),
            Fact::Row { process, child, row, .. } => self.row(*process, child, *row),
            Fact::Lease { until, .. } => {
                if *until <= self.now {
                    self.disturbed = self.now;
                }
            }
            Fact::Status { process, hub, status } => {
                let now = self.now;
                let hub = &mut self.processes[process.0 as usize].hubs[usize::from(*hub)];
                hub.is_locked = status.is_locked;
                hub.is_partitioned = status.is_partitioned;
                hub.members.retain(|member, _| status.members.contains(member));
                for member in &status.members {
                    hub.members.entry(member.clone()).or_insert(now);
                    let highest = hub.highest.entry(member.name.clone()).or_default();
                    *highest = member.incarnation.max(*highest);
                }
            }
            Fact::Hook { process, event, .. } => self.hook(*process, event),
            Fact::Issued { process, hub, request, command } => self.issued(*process, *hub, *request, command),
            Fact::Cancelled { process, hub, request } => {
                self.requests.remove(&(*process, *hub, *request));
                self.end_intents(*process, *request, |_| WishEnd::Unknown);
            }
            Fact::Replied { process, hub, request, result } => self.replied(*process, *hub, *request, result),
            Fact::Overdue { .. } | Fact::Failed { .. } | Fact::Spins { .. } => {}
        }
    }

    fn set_life(&mut self, process: ProcessId, life: Life) {
        let now = self.now;
        self.disturbed = now;
        let process = self.process_mut(process);
        process.life = life;
        process.changed = now;
    }

    fn bury(&mut self, process: ProcessId) {
        self.set_life(process, Life::Down);
        let now = self.now;
        for child in &mut self.children {
            // The last that knew the child: from now on nobody has to.
            let is_forgotten = child.rows.remove(&process).is_some() && child.rows.is_empty();
            let runs = &mut child.runs;
            child.live.retain(|index| {
                let run = &mut runs[*index];
                if run.process == process {
                    run.ended = Some((now, End::Died));
                }
                run.is_live()
            });
            for intent in &mut child.intents {
                if intent.request.is_some_and(|(at, _)| at == process) && intent.ended.is_none() {
                    intent.ended = Some((now, WishEnd::Unknown));
                }
                intent.deaths_since += if is_forgotten { FORGOTTEN } else { 1 };
            }
        }
        self.requests.retain(|(at, _, _), _| *at != process);
    }

    fn row(&mut self, process: ProcessId, child: &ChildId, row: Option<&Arc<Row>>) {
        let now = self.now;
        let own_name = self.process(process).node.name.clone();
        let Some(child) = child_index(child).and_then(|index| self.children.get_mut(index)) else {
            return;
        };
        let row = row.map(|row| GhostRow {
            spec: spec_number(&row.spec.args.data).unwrap_or(u32::MAX),
            mapping: row.spec.mapping.clone(),
            instances: row
                .instances
                .iter()
                .map(|instance| (instance.node.clone(), instance.mode, instance.epoch))
                .collect(),
            state_lost: row.state_lost.as_deref().cloned(),
        });
        let own = row.iter().flat_map(|row| &row.instances).find(|(name, _, _)| *name == own_name);
        if let Some((_, _, epoch)) = own {
            for index in &child.live {
                let run = &mut child.runs[*index];
                run.was_listed |= run.process == process && run.epoch == *epoch;
            }
        }
        // Rows tell of recent instances.
        for run in child.runs.iter_mut().rev().take(8) {
            let name = &self.processes[run.process.0 as usize].node.name;
            let mut told = row.iter().flat_map(|row| &row.instances);
            // Who was told of a replica knows nothing of what it did as the child.
            let is_it = |mode: Mode| run.promoted.is_none() || mode == Mode::Active;
            if told.any(|(node, mode, epoch)| node == name && run.epochs.contains(epoch) && is_it(*mode)) {
                run.known_by.insert(process);
            }
        }
        let spec = row.as_ref().map(|row| row.spec);
        let before = match row {
            Some(row) => child.rows.insert(process, row),
            None => child.rows.remove(&process),
        };
        if let Some(before) = before
            && spec != Some(before.spec)
        {
            child.dropped.insert((process, before.spec), now);
        }
    }

    fn hook(&mut self, process: ProcessId, event: &HookEvent) {
        let now = self.now;
        let text = |key: &str| event.payload.get(key).and_then(|value| value.as_str());
        let Some(child) = text("child_id")
            .and_then(|id| id.strip_prefix('c')?.parse::<usize>().ok())
            .and_then(|index| self.children.get_mut(index))
        else {
            return;
        };
        if event.name == HookName::StateLost {
            let epoch = event.payload.get("epoch").and_then(serde_json::Value::as_u64);
            let epoch = Epoch(epoch.unwrap_or(u64::MAX));
            child.losses.push((process, epoch, now));
        } else if event.name == HookName::ConflictResolved {
            child.conflicts.push(now);
        } else if event.name == HookName::ChildQuarantined {
            child.quarantined = Some(now);
        }
    }
}
