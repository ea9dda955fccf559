//! `drain` and the end of the hub: give everything away, stop what remains, leave (R19).

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::children::Slot;
use super::ending::After;
use super::local::Phase;
use super::{Effect, Engine, Outcome, TimerKey};
use crate::host::call::StopReason;
use crate::ids::{NodeRef, RequestId};
use crate::observe::HookName;
use crate::spec::{ChildReason, DrainReport};
use crate::time::Timestamp;
use crate::wire::Message;

/// How long the members may take to acknowledge our last words.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the members may take to agree that this node does not count any more.
const VACATE_TIMEOUT: Duration = Duration::from_secs(2);
/// Kept back of the time of an end for stopping what remains and for telling the members; at most half of it.
const STOP_RESERVE: Duration = Duration::from_secs(8);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Children are given away.
    Giving,
    /// Everything that can be given away is.
    Given,
    /// What remains is stopped.
    Stopping,
    /// The members that count agree that this one does no longer.
    Vacating,
    /// The members get our last log entries.
    Telling,
    /// `Leave` is sent.
    Leaving,
}

/// Who waits for a drain.
#[derive(Debug)]
struct Waiter {
    request: RequestId,
    /// For the end of the hub, not for the drain alone.
    waits_for_end: bool,
    /// Children are given away until then; what is left of the caller's time is for the stages after it.
    gives_until: Timestamp,
    deadline: Timestamp,
}

/// A drain, and the end of the hub after it.
#[derive(Debug)]
pub(super) struct Drain {
    waiters: Vec<Waiter>,
    pub(super) ends_hub: bool,
    stage: Stage,
    report: DrainReport,
    unacknowledged: BTreeSet<NodeRef>,
}

impl Engine {
    pub(super) fn drain_request(&mut self, request: RequestId, timeout: Duration, ends_hub: bool) {
        let reserve = if ends_hub { STOP_RESERVE.min(timeout / 2) } else { Duration::ZERO };
        let waiter = Waiter {
            request,
            waits_for_end: ends_hub,
            gives_until: self.now + (timeout - reserve),
            deadline: self.now + timeout,
        };
        match &mut self.drain {
            Some(drain) => {
                drain.waiters.push(waiter);
                drain.ends_hub |= ends_hub;
                if drain.stage == Stage::Given {
                    drain.stage = Stage::Giving;
                }
            }
            None => {
                self.drain = Some(Drain {
                    waiters: vec![waiter],
                    ends_hub,
                    stage: Stage::Giving,
                    report: DrainReport::default(),
                    unacknowledged: BTreeSet::new(),
                });
                self.info.is_leaving = true;
                self.info.version += 1;
                self.apply_view();
            }
        }
        self.arm_drain_end();
        self.drain_progress();
    }

    fn arm_drain_end(&mut self) {
        let drain = self.drain.as_ref().filter(|drain| drain.stage == Stage::Giving);
        if let Some(first) = drain.and_then(|drain| drain.waiters.iter().map(|waiter| waiter.gives_until).min()) {
            self.timers.arm(TimerKey::DrainEnd, first);
        }
    }

    /// What is left of the time of the first who waits for the end (L4).
    fn time_left(&self) -> Duration {
        let waiters = self.drain.iter().flat_map(|drain| &drain.waiters);
        let first = waiters.filter(|waiter| waiter.waits_for_end).map(|waiter| waiter.deadline).min();
        first.map_or(LEAVE_TIMEOUT, |deadline| deadline.since(self.now))
    }

    /// A child of this node is another node's now.
    pub(super) fn drain_moved(&mut self, child: Slot, is_whole: bool) {
        let id = &self.children[child].id;
        let Some(drain) = &mut self.drain else {
            return;
        };
        if is_whole {
            drain.report.moved.push(id.clone());
        } else {
            let why = "its state was not handed over: `migration.handover` is off, or it gave none".to_owned();
            drain.report.restarted.push(ChildReason { id: id.clone(), why });
        }
    }

    /// Goes on with a drain when the time has come.
    pub(super) fn drain_progress(&mut self) {
        let Some(drain) = &self.drain else {
            return;
        };
        match drain.stage {
            Stage::Giving => {
                if self.is_all_given() {
                    self.drain_given("nobody else can run it");
                }
            }
            Stage::Given | Stage::Leaving => {}
            Stage::Stopping => {
                if self.endings.is_empty() {
                    self.vacate();
                }
            }
            Stage::Vacating => {
                if !self.has_slot_to_vacate() {
                    self.tell_last_words();
                }
            }
            Stage::Telling => {
                if self.is_heard() {
                    self.leave();
                }
            }
        }
    }

    /// Nothing here can be given away any more.
    fn is_all_given(&self) -> bool {
        if self.children.local_count() == 0 {
            return self.endings.is_empty();
        }
        if !self.membership.is_settled || self.children.has_dirty() || self.sweep.is_some() || self.moves.open > 0 {
            return false;
        }
        self.children.locals().all(|(child, local)| match &local.phase {
            Phase::Quarantined { .. } => true,
            Phase::Active | Phase::Resting { .. } => self.children[child].entry.owner.is_none(),
            Phase::Starting { .. } | Phase::Outgoing(_) | Phase::Incoming(_) | Phase::Ending => false,
        })
    }

    /// Somebody's time for giving away is over.
    pub(super) fn drain_end(&mut self) {
        let now = self.now;
        let Some(drain) = self.drain.as_ref().filter(|drain| drain.stage == Stage::Giving) else {
            return;
        };
        let is_over = |waiter: &&Waiter| waiter.gives_until <= now;
        let ends = drain.waiters.iter().filter(is_over).any(|waiter| waiter.waits_for_end);
        let others_wait = drain.waiters.iter().any(|waiter| waiter.gives_until > now);
        let why = "it was not given away in time";
        if ends || !others_wait {
            return self.drain_given(why);
        }
        self.answer_drains(why, |waiter| waiter.gives_until <= now);
        self.arm_drain_end();
    }

    fn drain_given(&mut self, why: &str) {
        self.timers.disarm(&TimerKey::DrainEnd);
        self.answer_drains(why, |waiter| !waiter.waits_for_end);
        let Some(drain) = &mut self.drain else {
            return;
        };
        if drain.ends_hub {
            self.stop_remaining(why);
        } else {
            drain.stage = Stage::Given;
        }
    }

    /// Answers those who wait for the drain alone: what is still here has failed to go.
    fn answer_drains(&mut self, why: &str, is_answered: impl Fn(&Waiter) -> bool) {
        let Some(drain) = &mut self.drain else {
            return;
        };
        let mut report = drain.report.clone();
        let left = self.children.locals().map(|(child, _)| self.children[child].id.clone());
        report.failed.extend(left.map(|id| ChildReason { id, why: why.to_owned() }));
        let answered: Vec<Waiter> = drain.waiters.extract_if(.., |waiter| is_answered(waiter)).collect();
        self.answer_drain(&report, answered);
    }

    fn answer_drain(&mut self, report: &DrainReport, waiters: Vec<Waiter>) {
        if waiters.is_empty() {
            return;
        }
        self.fire(HookName::DrainCompleted, || json!({ "report": report }));
        for waiter in waiters {
            self.reply(waiter.request, Ok(Outcome::Drained(report.clone())));
        }
    }

    /// Stops the children that nobody takes. Their rows stay: they are the last word on what was here.
    fn stop_remaining(&mut self, why: &str) {
        let has_others = !self.is_alone();
        let remaining: Vec<Slot> = self.children.locals().map(|(child, _)| child).collect();
        let mut longest = Duration::ZERO;
        for child in remaining {
            let source = self.leave_move(child);
            self.return_inbox(child, None);
            self.answer_waiters_stopped(child);
            let Some(local) = self.children.local_mut(child) else {
                continue;
            };
            let was_late = matches!(local.phase, Phase::Outgoing(_) | Phase::Incoming(_) | Phase::Starting { .. });
            let has_instance = match &local.phase {
                Phase::Ending | Phase::Resting { .. } | Phase::Quarantined { .. } => false,
                Phase::Starting { .. } | Phase::Active => true,
                Phase::Outgoing(outgoing) => outgoing.has_instance(),
                Phase::Incoming(incoming) => incoming.has_instance(),
            };
            longest = longest.max(Duration::from_millis(u64::from(local.spec.shutdown_ms)));
            if has_instance {
                let refused = |(from, token)| After::Refused(from, token, "leaving".to_owned());
                let after = source.map_or(After::Nothing, refused);
                self.end_instance(child, StopReason::Shutdown, Duration::ZERO, after);
            }
            if let Some(local) = self.children.local_mut(child) {
                local.phase = Phase::Ending;
            }
            let id = self.id(child);
            if let Some(drain) = &mut self.drain {
                if was_late && has_others {
                    drain.report.failed.push(ChildReason { id, why: why.to_owned() });
                } else {
                    drain.report.stopped.push(id);
                }
            }
        }
        if let Some(drain) = &mut self.drain {
            drain.stage = Stage::Stopping;
        }
        self.end_retentions();
        // Half of what is left is for the stages after this one.
        let limit = (longest + LEAVE_TIMEOUT).min(self.time_left() / 2);
        self.timers.arm(TimerKey::ShutdownEnd, self.now + limit);
        self.drain_progress();
    }

    /// Every stage of the end has its own deadline; this is the present one's.
    pub(super) fn shutdown_end(&mut self) {
        match self.drain.as_ref().map(|drain| drain.stage) {
            Some(Stage::Stopping) => self.vacate(),
            Some(Stage::Vacating) => self.tell_last_words(),
            Some(Stage::Telling) => self.leave(),
            Some(Stage::Leaving) => self.left(),
            Some(Stage::Giving | Stage::Given) | None => {}
        }
    }

    /// A graceful leaver gives up its slot while it still can consent to it (R10).
    fn vacate(&mut self) {
        self.write_off_endings();
        if !self.has_slot_to_vacate() {
            return self.tell_last_words();
        }
        if let Some(drain) = &mut self.drain {
            drain.stage = Stage::Vacating;
        }
        let limit = VACATE_TIMEOUT.min(self.time_left() / 2);
        self.timers.arm(TimerKey::ShutdownEnd, self.now + limit);
        self.quorum_is_due();
    }

    /// Whether the hub ends and gives up its slot.
    pub(super) fn is_vacating(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| match drain.stage {
            Stage::Vacating | Stage::Telling | Stage::Leaving => true,
            Stage::Giving | Stage::Given | Stage::Stopping => false,
        })
    }

    fn tell_last_words(&mut self) {
        if let Some(drain) = &mut self.drain {
            drain.stage = Stage::Telling;
        }
        let limit = LEAVE_TIMEOUT.min(self.time_left() / 2);
        self.timers.arm(TimerKey::ShutdownEnd, self.now + limit);
        self.drain_progress();
    }

    /// Every member has our log to its end.
    fn is_heard(&self) -> bool {
        let me = &self.me;
        self.membership
            .others(me)
            .all(|node| self.membership.peers.get(node).is_none_or(|peer| peer.acked_seq >= self.log.seq))
    }

    fn leave(&mut self) {
        let members: Vec<NodeRef> = self.membership.others(&self.me).cloned().collect();
        for member in &members {
            self.send_ctl(member, &Message::Leave);
        }
        if let Some(drain) = &mut self.drain {
            drain.stage = Stage::Leaving;
            drain.unacknowledged = members.into_iter().collect();
        }
        let limit = LEAVE_TIMEOUT.min(self.time_left());
        self.timers.arm(TimerKey::ShutdownEnd, self.now + limit);
        self.check_left();
    }

    pub(super) fn leave_acked(&mut self, from: &NodeRef) {
        if let Some(drain) = &mut self.drain {
            drain.unacknowledged.remove(from);
        }
        self.check_left();
    }

    fn check_left(&mut self) {
        let is_left =
            self.drain.as_ref().is_some_and(|drain| drain.stage == Stage::Leaving && drain.unacknowledged.is_empty());
        if is_left {
            self.left();
        }
    }

    fn left(&mut self) {
        if let Some(drain) = &mut self.drain {
            let (report, waiters) = (drain.report.clone(), std::mem::take(&mut drain.waiters));
            self.answer_drain(&report, waiters);
        }
        self.close_all_requests();
        self.fire(HookName::HubShutdown, || json!({"reason": "stopped"}));
        self.is_ended = true;
        self.effects.push(Effect::Stopped);
    }
}
