//! How the ghost model follows what happens.

use std::collections::BTreeSet;
use std::sync::Arc;

use process_hub::engine::{Command, IfExists, Outcome};
use process_hub::error::{Error, ErrorKind};
use process_hub::host::call::{HostAnswer, HostCall, HostRequest, InstanceEvent};
use process_hub::ids::{ChildId, Epoch, InstanceId, RequestId};
use process_hub::observe::{HookEvent, HookName};
use process_hub::spec::{RestartPolicy, Row};

use super::fact::{Fact, child_index, spec_number};
use super::ghost::{
    End, Ghost, GhostHub, GhostProcess, GhostRequest, GhostRow, Intent, Life, OpEnd, Run, Wish, WishEnd,
};
use super::host::{State, decode_message};
use super::queue::{HubIndex, ProcessId, Verdict};

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
            Fact::Called { process, call, .. } => self.called(*process, call),
            Fact::Completed { process, call, answer, .. } => self.completed(*process, call, answer),
            Fact::Acted { process, instance, event, .. } => self.acted(*process, *instance, event),
            Fact::Row { process, child, row, .. } => self.row(*process, child, *row),
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

    /// The hub ended: nobody waits for its requests any more.
    pub(crate) fn close_requests(&mut self, process: ProcessId, hub: HubIndex) {
        let open: Vec<_> = self.requests.keys().filter(|key| (key.0, key.1) == (process, hub)).copied().collect();
        for (process, hub, request) in open {
            self.requests.remove(&(process, hub, request));
            self.end_intents(process, request, |_| WishEnd::Unknown);
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

    fn called(&mut self, process: ProcessId, call: &HostCall) {
        let now = self.now;
        let Some(child) = child_index(&call.child).and_then(|index| self.children.get_mut(index)) else {
            return;
        };
        if let HostRequest::Start(context) = &call.request {
            self.motions += 1;
            child.live.push(child.runs.len());
            child.runs.push(Run {
                process,
                instance: call.instance,
                epoch: context.epoch,
                mode: context.mode,
                reason: context.reason,
                spec: spec_number(&context.spec.args.data),
                begun: now,
                started: None,
                stopping: None,
                ended: None,
                state: State::default(),
                taken_count: 0,
                last_handled: None,
                epochs: vec![context.epoch],
                known_by: BTreeSet::from([process]),
                was_listed: false,
                has_exited: false,
                in_flight: Some((call.number, call.request.callback())),
            });
            return;
        }
        let Some(run) = live_run(child, process, call.instance) else {
            return;
        };
        match &call.request {
            HostRequest::Stop(reason) => {
                run.stopping = Some(*reason);
                run.in_flight = Some((call.number, "stop"));
            }
            HostRequest::Discard => {
                end_run(child, process, call.instance, now, End::Discarded);
                if child.restart != RestartPolicy::Permanent {
                    child.intents.push(Intent::unknown_stop(now));
                }
            }
            HostRequest::RedundancySignal(mode) => {
                run.mode = *mode;
                run.in_flight = Some((call.number, call.request.callback()));
            }
            HostRequest::SetEpoch(epoch) => {
                run.epoch = *epoch;
                run.epochs.push(*epoch);
            }
            HostRequest::Handle { .. }
            | HostRequest::PrepareState
            | HostRequest::AlterState(_)
            | HostRequest::ResolveConflict(_)
            | HostRequest::HandoverStart(_) => {
                run.in_flight = Some((call.number, call.request.callback()));
            }
            HostRequest::Run | HostRequest::CancelRun | HostRequest::Start(_) | HostRequest::AlterSpec { .. } => {}
        }
    }

    fn completed(&mut self, process: ProcessId, call: &HostCall, answer: &HostAnswer) {
        let now = self.now;
        let Some(child) = child_index(&call.child).and_then(|index| self.children.get_mut(index)) else {
            return;
        };
        let index =
            child.runs.iter().rposition(|run| run.process == process && run.instance == call.instance && run.is_live());
        let Some(index) = index else {
            return;
        };
        let run = &mut child.runs[index];
        if run.in_flight.is_some_and(|(number, _)| number == call.number) {
            run.in_flight = None;
        }
        if let HostRequest::Stop(reason) = &call.request {
            let end = End::Stopped(*reason);
            end_run(child, process, call.instance, now, end);
            return;
        }
        let HostAnswer::Done(_) = answer else {
            if matches!(call.request, HostRequest::Start(_)) {
                end_run(child, process, call.instance, now, End::NeverStarted);
                if child.restart != RestartPolicy::Permanent {
                    child.intents.push(Intent::unknown_stop(now));
                }
            }
            return;
        };
        match &call.request {
            HostRequest::Start(_) => run.started = Some(now),
            HostRequest::Handle { message, .. } => {
                run.last_handled = Some(now);
                let Some(op) = decode_message(message) else {
                    return;
                };
                run.state.add(op);
                child.last_handler = Some(index);
                if let Some(op) = self.ops.get_mut(op.0 as usize) {
                    op.handled.push((process, call.instance, now));
                }
            }
            HostRequest::AlterState(payload) => {
                run.taken_count += 1;
                if let Some(state) = State::decode(payload) {
                    run.state = state;
                }
            }
            HostRequest::ResolveConflict(payload) => {
                if let Some(state) = State::decode(payload) {
                    run.state.merge(&state);
                }
            }
            HostRequest::Run
            | HostRequest::CancelRun
            | HostRequest::PrepareState
            | HostRequest::RedundancySignal(_)
            | HostRequest::HandoverStart(_)
            | HostRequest::SetEpoch(_)
            | HostRequest::Stop(_)
            | HostRequest::Discard
            | HostRequest::AlterSpec { .. } => {}
        }
    }

    fn acted(&mut self, process: ProcessId, instance: InstanceId, event: &InstanceEvent) {
        let now = self.now;
        self.may_be_over(process, instance);
        for child in &mut self.children {
            let Some(run) = live_run(child, process, instance) else {
                continue;
            };
            match event {
                InstanceEvent::Exit(_) => run.has_exited = true,
                InstanceEvent::StopSelf => child.intents.push(Intent::unknown_stop(now)),
                InstanceEvent::RetentionHandled => {}
            }
        }
    }

    /// An instance ended by itself: the child may be over with it (R21).
    fn may_be_over(&mut self, process: ProcessId, instance: InstanceId) {
        let now = self.now;
        for child in &mut self.children {
            if child.restart != RestartPolicy::Permanent && live_run(child, process, instance).is_some() {
                child.intents.push(Intent::unknown_stop(now));
            }
        }
    }

    fn row(&mut self, process: ProcessId, child: &ChildId, row: Option<&Arc<Row>>) {
        let now = self.now;
        let own_name = self.process(process).node.name.clone();
        let Some(child) = child_index(child).and_then(|index| self.children.get_mut(index)) else {
            return;
        };
        let row = row.map(|row| GhostRow {
            spec: spec_number(&row.spec.args.data).unwrap_or(u32::MAX),
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
            if told.any(|(node, _, epoch)| node == name && run.epochs.contains(epoch)) {
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

    fn issued(&mut self, process: ProcessId, hub: HubIndex, request: RequestId, command: &Command) {
        let now = self.now;
        let wish = |child: &ChildId, wish: Wish, ghost: &mut Self| {
            ghost.disturbed = now;
            if let Some(child) = child_index(child).and_then(|i| ghost.children.get_mut(i)) {
                child.intents.push(Intent {
                    wish,
                    request: Some((process, request)),
                    issued: now,
                    ended: None,
                    deaths_since: 0,
                });
            }
        };
        let mut op = None;
        match command {
            Command::Start(specs, _) => {
                for spec in specs {
                    let number = spec_number(&spec.args.data).unwrap_or(u32::MAX);
                    wish(&spec.id, Wish::Start(number), self);
                }
            }
            Command::Stop(children, _) => {
                for child in children {
                    wish(child, Wish::Stop, self);
                }
            }
            Command::Drain(_) | Command::Shutdown(_) => {
                self.disturbed = now;
                self.process_mut(process).is_leaving = true;
            }
            Command::Call(message) => op = decode_message(&message.message),
            Command::Send(message) => op = decode_message(&message.message),
            Command::Register(_)
            | Command::Where(_)
            | Command::Plan(_)
            | Command::Sync(_)
            | Command::WhichChildren(_)
            | Command::AcknowledgeLoss(_)
            | Command::SubscribeHooks(_) => {}
        }
        let open = GhostRequest { command: command.clone(), issued: now, op };
        self.requests.insert((process, hub, request), open);
    }

    fn end_intents(&mut self, process: ProcessId, request: RequestId, end: impl Fn(usize) -> WishEnd) {
        let now = self.now;
        for (index, child) in self.children.iter_mut().enumerate() {
            let mine = |intent: &&mut Intent| intent.request == Some((process, request)) && intent.ended.is_none();
            for intent in child.intents.iter_mut().rev().filter(mine) {
                intent.ended = Some((now, end(index)));
            }
        }
    }

    fn replied(&mut self, process: ProcessId, hub: HubIndex, request: RequestId, result: &Result<Outcome, Error>) {
        let now = self.now;
        let Some(open) = self.requests.remove(&(process, hub, request)) else {
            return;
        };
        if let Some(op) = open.op.and_then(|op| self.ops.get_mut(op.0 as usize)) {
            let end = match result {
                Ok(_) => OpEnd::Answered,
                Err(error) if error.maybe_executed => OpEnd::Unknown,
                // `child_failed` answers that the handler ran and raised.
                Err(error) if error.kind == ErrorKind::ChildFailed => OpEnd::Unknown,
                Err(_) => OpEnd::NotExecuted,
            };
            op.ended = Some((now, end));
        }
        if !matches!(open.command, Command::Start(..) | Command::Stop(..)) {
            return;
        }
        self.disturbed = now;
        // A start that returns what exists writes nothing, and a stop elsewhere may stand.
        let returns_existing = if let Command::Start(_, options) = &open.command {
            !options.check_existing || options.if_exists == IfExists::Return
        } else {
            false
        };
        let granted = if returns_existing { WishEnd::Unknown } else { WishEnd::Granted };
        self.end_intents(process, request, |index| match result {
            Ok(Outcome::Started(started)) => {
                let is_child = |id: &ChildId| child_index(id) == Some(index);
                if started.rollback {
                    WishEnd::Unknown
                } else if started.started.iter().any(|child| is_child(&child.id)) {
                    granted
                } else {
                    match started.errors.iter().find(|error| is_child(&error.id)) {
                        Some(error) => refusal(error.kind),
                        None => WishEnd::Unknown,
                    }
                }
            }
            Ok(Outcome::Stopped(stopped)) => {
                let is_child = |id: &ChildId| child_index(id) == Some(index);
                if stopped.stopped.iter().any(|child| is_child(&child.id)) {
                    WishEnd::Granted
                } else {
                    match stopped.errors.iter().find(|error| is_child(&error.id)) {
                        Some(error) => refusal(error.kind),
                        None => WishEnd::Unknown,
                    }
                }
            }
            Ok(_) => WishEnd::Unknown,
            Err(error) => refusal(error.kind),
        });
    }
}

/// Whether an error of a start or stop says that nothing changed. A failed first start unwants the child, also on
/// another side that has it.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "an error that is not known to change nothing may have changed something"
)]
const fn refusal(kind: ErrorKind) -> WishEnd {
    match kind {
        ErrorKind::AlreadyStarted | ErrorKind::NotFound | ErrorKind::UnknownKind | ErrorKind::InvalidArgument => {
            WishEnd::Refused
        }
        _ => WishEnd::Unknown,
    }
}

fn live_run(child: &mut super::ghost::GhostChild, process: ProcessId, instance: InstanceId) -> Option<&mut Run> {
    let index = *child.live.iter().find(|index| {
        let run = &child.runs[**index];
        run.process == process && run.instance == instance
    })?;
    Some(&mut child.runs[index])
}

fn end_run(
    child: &mut super::ghost::GhostChild,
    process: ProcessId,
    instance: InstanceId,
    now: super::time::WorldTime,
    end: End,
) {
    if let Some(run) = live_run(child, process, instance) {
        run.ended = Some((now, end));
        run.in_flight = None;
    }
    let runs = &child.runs;
    child.live.retain(|index| runs[*index].is_live());
}
