//! How the ghost model follows the instances: what the host is asked, and what it answers.

use std::collections::BTreeSet;

use process_hub::host::call::{HostAnswer, HostCall, HostRequest, InstanceEvent, StartReason};
use process_hub::ids::InstanceId;
use process_hub::spec::{Mode, RestartPolicy};

use super::super::fact::{child_index, spec_number};
use super::super::host::{State, decode_message};
use super::super::queue::{HubIndex, ProcessId};
use super::super::time::WorldTime;
use super::{End, Ghost, GhostChild, Intent, Run};

impl Ghost {
    pub(super) fn called(&mut self, process: ProcessId, hub: HubIndex, call: &HostCall) {
        let now = self.now;
        let is_first = matches!(&call.request, HostRequest::Start(context) if context.reason == StartReason::Initial);
        let company = if is_first { self.company_of(hub, process) } else { BTreeSet::new() };
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
                company,
                started: None,
                stopping: None,
                ended: None,
                state: State::default(),
                taken_count: 0,
                has_received: false,
                promoted: None,
                signals: Vec::new(),
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
                run.signals.push(*mode);
                run.in_flight = Some((call.number, call.request.callback()));
            }
            HostRequest::SetRole(epoch, mode) => {
                if run.mode == Mode::Passive && *mode == Mode::Active && !run.has_received {
                    run.promoted = Some(now);
                    run.known_by = BTreeSet::from([process]);
                }
                if *mode == Mode::Passive {
                    run.has_received = false;
                }
                run.mode = *mode;
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

    pub(super) fn completed(&mut self, process: ProcessId, call: &HostCall, answer: &HostAnswer) {
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
                run.has_received = true;
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
            | HostRequest::SetRole(..)
            | HostRequest::Stop(_)
            | HostRequest::Discard
            | HostRequest::AlterSpec { .. } => {}
        }
    }

    pub(super) fn acted(&mut self, process: ProcessId, instance: InstanceId, event: &InstanceEvent) {
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
    pub(super) fn may_be_over(&mut self, process: ProcessId, instance: InstanceId) {
        let now = self.now;
        for child in &mut self.children {
            if child.restart != RestartPolicy::Permanent && live_run(child, process, instance).is_some() {
                child.intents.push(Intent::unknown_stop(now));
            }
        }
    }
}

fn live_run(child: &mut GhostChild, process: ProcessId, instance: InstanceId) -> Option<&mut Run> {
    let index = *child.live.iter().find(|index| {
        let run = &child.runs[**index];
        run.process == process && run.instance == instance
    })?;
    Some(&mut child.runs[index])
}

fn end_run(child: &mut GhostChild, process: ProcessId, instance: InstanceId, now: WorldTime, end: End) {
    if let Some(run) = live_run(child, process, instance) {
        run.ended = Some((now, end));
        run.in_flight = None;
    }
    let runs = &child.runs;
    child.live.retain(|index| runs[*index].is_live());
}
