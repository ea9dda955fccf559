//! The life of a local instance: start, restart within a budget of its own, quarantine, exit (R21).

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::calls::{CALLBACK_LIMIT, Purpose, SHORT_CALLBACK, split};
use super::children::Slot;
use super::local::{Local, Phase, Waiter, Work};
use super::{Engine, TimerKey};
use crate::error::ErrorKind;
use crate::host::call::{HostAnswer, HostFailure, HostRequest, InstanceEvent, StartContext, StartReason, StopReason};
use crate::ids::{InstanceId, NodeRef, Token};
use crate::observe::HookName;
use crate::payload::Payload;
use crate::spec::{ChildSpec, Mode, OnError, RestartPolicy, StateLost};
use crate::wire::{InstanceRow, Stage};

impl Engine {
    /// A record for an instance of a child; nothing is started yet.
    pub(super) fn new_local(&mut self, child: Slot, spec: Arc<ChildSpec>, token: Token, phase: Phase) {
        self.numbers.instance += 1;
        let instance = InstanceId(self.numbers.instance);
        let kind = self.kinds.get(spec.kind.as_str());
        let local = Local {
            instance,
            has_state: kind.is_some_and(|kind| kind.has_state),
            has_run: kind.is_some_and(|kind| kind.has_run),
            spec,
            token,
            is_replica: false,
            mode: Mode::Active,
            told_mode: None,
            owes_signal: false,
            highest_epoch: token.epoch,
            since_ms: self.unix_ms(),
            lost: None,
            phase,
            call: None,
            early: None,
            body: None,
            is_body_cancelled: false,
            inbox: super::Queue::new(),
            waiters: Vec::new(),
            restarts: Vec::new(),
            shown: None,
            failed_moves: 0,
            failed_target: None,
        };
        self.instances.insert(instance, child);
        self.children.insert_local(child, local);
    }

    /// Starts a child here that nobody runs.
    pub(super) fn begin(
        &mut self,
        child: Slot,
        spec: Arc<ChildSpec>,
        reason: StartReason,
        lost: Option<Arc<StateLost>>,
        waiters: Vec<Waiter>,
        limit: Duration,
    ) {
        let epoch = self.next_epoch(child);
        let token = Token { epoch, incarnation: self.me.incarnation, transfer: self.next_transfer() };
        let is_first = reason == StartReason::Initial;
        self.new_local(child, spec, token, Phase::Starting { restore: None, is_first });
        if let Some(local) = self.children.local_mut(child) {
            local.waiters = waiters;
            local.lost = lost.map(|lost| Arc::new(StateLost { epoch, ..(*lost).clone() }));
        }
        self.publish_local(child);
        self.start_instance(child, reason, limit);
    }

    /// Calls `start` for the instance a child has.
    pub(super) fn start_instance(&mut self, child: Slot, reason: StartReason, limit: Duration) {
        let Some(local) = self.children.local(child) else {
            return;
        };
        let context = StartContext {
            hub_id: self.hub_id.clone(),
            node: self.me.name.clone(),
            spec: local.spec.clone(),
            epoch: local.token.epoch,
            mode: local.mode,
            reason,
        };
        self.occupy(child, HostRequest::Start(Arc::new(context)), limit, Purpose::Start);
    }

    /// Writes the row of what this node has of the child.
    pub(super) fn publish_local(&mut self, child: Slot) {
        let Some(local) = self.children.local(child) else {
            return;
        };
        let stage = match (&local.phase, local.is_replica) {
            (Phase::Incoming(_), _) => Stage::Incoming,
            (Phase::Starting { is_first: true, .. }, false) => Stage::Starting,
            (Phase::Starting { is_first: true, .. }, true) => Stage::NewReplica,
            (Phase::Quarantined { .. }, false) => Stage::Quarantined,
            (Phase::Quarantined { .. }, true) => Stage::QuarantinedReplica,
            (Phase::Starting { .. } | Phase::Active | Phase::Resting { .. } | Phase::Ending, true) => Stage::Replica,
            (Phase::Starting { .. } | Phase::Active | Phase::Resting { .. } | Phase::Ending, false)
            | (Phase::Outgoing(_), _) => Stage::Active,
        };
        let restarts = match &local.phase {
            Phase::Quarantined { restarts } => *restarts,
            Phase::Starting { .. }
            | Phase::Incoming(_)
            | Phase::Active
            | Phase::Resting { .. }
            | Phase::Outgoing(_)
            | Phase::Ending => 0,
        };
        let row = InstanceRow {
            token: local.token,
            restarts,
            stage,
            mode: local.mode,
            has_state: local.has_state,
            since_ms: local.since_ms,
            lost: local.lost.clone(),
        };
        self.put_row(child, row);
    }

    /// `start` ended.
    pub(super) fn start_ended(&mut self, child: Slot, answer: HostAnswer) {
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        match &mut local.phase {
            Phase::Incoming(_) => self.incoming_started(child, answer),
            Phase::Starting { restore, .. } => match (split(answer), restore) {
                (Ok(_), Some(state)) => {
                    let state = HostRequest::AlterState((**state).clone());
                    self.occupy(child, state, SHORT_CALLBACK, Purpose::Restore);
                }
                (Ok(_), None) => self.activate(child),
                (Err(failure), _) => self.start_failed(child, &failure),
            },
            Phase::Active | Phase::Resting { .. } | Phase::Quarantined { .. } | Phase::Outgoing(_) | Phase::Ending => {}
        }
    }

    /// `alter_handover_state` ended, for a restarted or a moved instance.
    pub(super) fn restore_ended(&mut self, child: Slot, answer: HostAnswer) {
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        match (&local.phase, &answer) {
            (Phase::Incoming(_), _) => return self.incoming_altered(child, answer),
            (Phase::Starting { .. }, _) => {}
            // A replica was taking the state when the move was given up: it goes on as what it is by now.
            (_, HostAnswer::Done(_)) => return self.instance_free(child),
            (_, HostAnswer::Failed(failure)) => {
                let why = failure.message.clone();
                return self.crashed(child, &why);
            }
        }
        if let Err(failure) = split(answer) {
            // It did not take what it had, and starts again without: that is told, not hidden (R8).
            local.phase = Phase::Starting { restore: None, is_first: false };
            self.report_own_loss(child);
            self.crashed(child, &failure.message);
            return;
        }
        self.activate(child);
    }

    /// The instance is the child from now on.
    pub(super) fn activate(&mut self, child: Slot) {
        let now_ms = self.unix_ms();
        let is_listed = self.children[child].entry.holder(&self.me).is_some_and(|holder| holder.row.stage.is_listed());
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        local.phase = Phase::Active;
        local.since_ms = match (is_listed, local.restarts.is_empty()) {
            (false, _) => now_ms,
            // Readers have the row of a child that is started after its node died.
            (true, true) => local.since_ms,
            // This is what tells a restarted instance from the one before it.
            (true, false) => now_ms.max(local.since_ms + 1),
        };
        let (token, instance, has_run) = (local.token, local.instance, local.has_run && local.body.is_none());
        // With replicas the answer waits for all of them, see `replicas`.
        let waiters = if self.factor > 1 { Vec::new() } else { std::mem::take(&mut local.waiters) };
        let early = local.early.take();
        // First of all: what is published may bring it a message.
        self.owe_signal(child);
        self.publish_local(child);
        if self.hooks.wants(HookName::PostChildrenStart) {
            let id = &self.children[child].id;
            self.hooks.started.push(json!({"id": id, "node": self.me.name, "epoch": token.epoch, "result": "ok"}));
        }
        self.answer_waiters_started(child, waiters, &[]);
        if let Some(event) = early {
            self.instance_event(instance, *event);
            self.children.mark_dirty(child);
            return;
        }
        if has_run {
            self.run_body(child);
        }
        self.instance_free(child);
        self.children.mark_dirty(child);
    }

    fn start_failed(&mut self, child: Slot, failure: &HostFailure) {
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        if !matches!(local.phase, Phase::Starting { is_first: true, .. }) {
            self.crashed(child, &failure.message);
            return;
        }
        if local.is_replica {
            return self.replica_start_failed(child, failure);
        }
        let waiters = std::mem::take(&mut local.waiters);
        let kind = match failure.kind {
            Some(ErrorKind::HostTimeout) => {
                // One that timed out stays wanted, unless it is rolled back (R1).
                self.crashed(child, &failure.message);
                self.answer_waiters_failed(child, waiters, None, ErrorKind::HostTimeout, &failure.message);
                return;
            }
            Some(_) | None => ErrorKind::StartFailed,
        };
        if self.hooks.wants(HookName::PostChildrenStart) {
            let id = &self.children[child].id;
            let started = json!({"id": id, "node": self.me.name, "result": "error", "message": failure.message});
            self.hooks.started.push(started);
        }
        // A failed first start wants nothing (R1).
        let request = self.wanted_request(child);
        self.discard_instance(child);
        self.remove_local(child);
        self.write_wanted(child, None, request);
        self.drop_row(child, None);
        self.answer_waiters_failed(child, waiters, None, kind, &failure.message);
    }

    /// The instance ended against its will.
    pub(super) fn crashed(&mut self, child: Slot, why: &str) {
        self.give_back(child, why);
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        let restore = match &mut local.phase {
            // What it was to begin with is still here: a start that fails does not lose it (R8).
            Phase::Starting { restore, .. } => restore.take(),
            Phase::Active => None,
            Phase::Outgoing(outgoing) if outgoing.is_past_freeze() => {
                // Its state is taken; the move decides.
                return;
            }
            Phase::Outgoing(_) => None,
            Phase::Resting { .. } | Phase::Quarantined { .. } | Phase::Incoming(_) | Phase::Ending => return,
        };
        let policy = local.spec.restart;
        self.leave_move(child);
        self.discard_instance(child);
        if policy == RestartPolicy::Temporary {
            if let Some(local) = self.children.local_mut(child) {
                // No instance is left to stop.
                local.phase = Phase::Resting { restore: None };
            }
            self.final_exit(child);
            return;
        }
        self.rest(child, why, restore);
    }

    /// Plans the next start of a child without an instance, or quarantines it.
    pub(super) fn rest(&mut self, child: Slot, why: &str, restore: Option<Box<Payload>>) {
        let (window, limit, now) = (self.settings.restart_window, self.settings.max_restarts, self.now);
        let (first, longest) = self.settings.backoff;
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        local.restarts.retain(|&at| now.since(at) < window);
        let count = u32::try_from(local.restarts.len()).unwrap_or(u32::MAX);
        if count >= limit {
            local.phase = Phase::Quarantined { restarts: count };
            let waiters = std::mem::take(&mut local.waiters);
            self.publish_local(child);
            let message = format!("{count} restarts within {} ms; the last: {why}", window.as_millis());
            self.answer_waiters_failed(child, waiters, None, ErrorKind::RestartLimit, &message);
            self.return_inbox(child, None);
            self.tell_quarantine(child, &self.me.clone(), count);
            return;
        }
        local.restarts.push(now);
        local.phase = Phase::Resting { restore };
        let pause = first.saturating_mul(1 << count.min(20)).min(longest);
        self.publish_local(child);
        self.timers.arm(TimerKey::Restart(child), now + pause);
    }

    /// The pause after a crash is over.
    pub(super) fn restart_if_due(&mut self, child: Slot) {
        if self.timers.is_armed(&TimerKey::Restart(child)) {
            return;
        }
        let transfer = self.next_transfer();
        self.numbers.instance += 1;
        let instance = InstanceId(self.numbers.instance);
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        let Phase::Resting { restore } = &mut local.phase else {
            return;
        };
        let restore = restore.take();
        self.counters.restarts += 1;
        // The number of a move comes from the node that gave the child, and may be the larger.
        local.token.transfer = transfer.max(local.token.transfer.saturating_add(1));
        local.told_mode = None;
        local.instance = instance;
        local.early = None;
        local.phase = Phase::Starting { restore, is_first: false };
        self.instances.insert(instance, child);
        self.publish_local(child);
        self.start_instance(child, StartReason::Restart, CALLBACK_LIMIT);
    }

    /// Calls `run`.
    pub(super) fn run_body(&mut self, child: Slot) {
        let Some(instance) = self.children.local(child).map(|local| local.instance) else {
            return;
        };
        let number = self.call_host(child, instance, HostRequest::Run, None, Purpose::Run);
        if let Some(local) = self.children.local_mut(child) {
            local.body = Some(number);
            local.is_body_cancelled = false;
        }
    }

    /// The body ended.
    pub(super) fn body_ended(&mut self, child: Slot, answer: HostAnswer) {
        let Some(local) = self.children.local_mut(child) else {
            return;
        };
        let was_cancelled = std::mem::take(&mut local.is_body_cancelled);
        match &local.phase {
            // It was asked to return.
            Phase::Outgoing(_) => self.outgoing_progress(child),
            Phase::Active => match split(answer) {
                // The move it should return for was given up meanwhile: it goes on.
                Ok(_) if was_cancelled => self.run_body(child),
                Ok(_) => self.exited(child, None),
                Err(failure) => self.exited(child, Some(failure.message)),
            },
            Phase::Starting { .. }
            | Phase::Resting { .. }
            | Phase::Quarantined { .. }
            | Phase::Incoming(_)
            | Phase::Ending => {}
        }
    }

    /// The instance ends of its own accord: normally, or as a crash.
    fn exited(&mut self, child: Slot, crash: Option<String>) {
        let Some(local) = self.children.local(child) else {
            return;
        };
        let policy = local.spec.restart;
        match (crash, policy) {
            (Some(why), _) => {
                self.tell_failure(child, "run", &why);
                self.crashed(child, &why);
            }
            (None, RestartPolicy::Permanent) => self.crashed(child, "it returned"),
            (None, RestartPolicy::Transient | RestartPolicy::Temporary) => self.final_exit(child),
        }
    }

    /// The child is over (R21).
    fn final_exit(&mut self, child: Slot) {
        let request = self.wanted_request(child);
        self.write_wanted(child, None, request);
        self.stop_local(child, StopReason::Stopped);
    }

    /// What an instance does through its `ctx`.
    pub(super) fn instance_event(&mut self, instance: InstanceId, event: InstanceEvent) {
        if event == InstanceEvent::RetentionHandled {
            self.retention_handled(instance);
            return;
        }
        let Some(&child) = self.instances.get(&instance) else {
            return;
        };
        let Some(local) = self.children.local_mut(child).filter(|local| local.instance == instance) else {
            return;
        };
        match &local.phase {
            Phase::Active | Phase::Outgoing(_) => {}
            Phase::Starting { .. } | Phase::Incoming(_) => {
                local.early.get_or_insert(Box::new(event));
                return;
            }
            Phase::Resting { .. } | Phase::Quarantined { .. } | Phase::Ending => return,
        }
        match event {
            InstanceEvent::Exit(crash) => self.exited(child, crash),
            InstanceEvent::StopSelf => self.final_exit(child),
            InstanceEvent::RetentionHandled => {}
        }
    }

    /// A message was handled.
    pub(super) fn handle_ended(
        &mut self,
        child: Slot,
        origin: &NodeRef,
        id: u64,
        wants_reply: bool,
        answer: HostAnswer,
    ) {
        let is_fatal = matches!(answer, HostAnswer::Failed(_))
            && self.children.local(child).is_some_and(|local| local.spec.on_error == OnError::Restart);
        self.answer_message(child, origin, id, wants_reply, answer);
        if is_fatal {
            self.crashed(child, "`handle` failed and the spec asks for a restart");
        } else {
            self.instance_free(child);
        }
    }

    /// The instance has nothing in flight: it goes on with what waits.
    pub(super) fn instance_free(&mut self, child: Slot) {
        loop {
            let Some(local) = self.children.local_mut(child) else {
                return;
            };
            match &local.phase {
                Phase::Active => {}
                Phase::Outgoing(_) => return self.outgoing_progress(child),
                Phase::Incoming(_) => return self.incoming_free(child),
                Phase::Starting { .. } | Phase::Resting { .. } | Phase::Quarantined { .. } | Phase::Ending => return,
            }
            if local.call.is_some() {
                return;
            }
            if std::mem::take(&mut local.owes_signal) {
                local.told_mode = Some(local.mode);
                let signal = HostRequest::RedundancySignal(local.mode);
                self.occupy(child, signal, SHORT_CALLBACK, Purpose::Signal);
                return;
            }
            match local.inbox.pop_front() {
                None => return,
                // Its caller has given up: it is not handled at all.
                Some(Work::Message { deadline, .. }) if deadline <= self.now => {}
                Some(Work::Message { origin, id, message, chain, wants_reply, .. }) => {
                    let purpose = Purpose::Handle { origin, id, wants_reply };
                    self.occupy(child, HostRequest::Handle { message, chain }, CALLBACK_LIMIT, purpose);
                    return;
                }
                Some(Work::Conflict { from, loser, state }) => {
                    let purpose = Purpose::Resolve(Box::new((from, loser)));
                    self.occupy(child, HostRequest::ResolveConflict(state), SHORT_CALLBACK, purpose);
                    return;
                }
            }
        }
    }
}
