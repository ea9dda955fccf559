//! Suspicions, the checks that end them, and this node's own health.

use std::time::Duration;

use foca::{Member, State};

use super::identity::{Id, Record};
use super::settle::Touch;
use super::timers::Due;
use super::wire::{Message, Probe};
use super::{Evidence, STALL, Step, Swim};
use crate::ids::{NodeName, NodeRef};
use crate::time::Timestamp;

const MAX_HEALTH_SCORE: u8 = 7;
/// Other members asked to hand a probe on.
const RELAYS_COUNT: usize = 3;
/// Probes of one last check, evenly spread over its time.
const CHECK_PROBES_COUNT: u32 = 4;

/// How unwell this node is: 0 is well. A sick node gives others more time before it suspects them.
pub(super) struct Health {
    score: u8,
    last_heard: Timestamp,
}

impl Health {
    pub(super) const fn new(now: Timestamp) -> Self {
        Self { score: 0, last_heard: now }
    }

    pub(super) const fn score(&self) -> u8 {
        self.score
    }

    pub(super) fn heard(&mut self, now: Timestamp) {
        self.last_heard = now;
    }

    pub(super) fn acknowledged(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    fn stalled(&mut self) {
        self.score = (self.score + 2).min(MAX_HEALTH_SCORE);
    }

    /// A failed probe is our fault only if nobody at all was heard: otherwise a partition would make the nodes
    /// on its larger side slow.
    fn probe_failed(&mut self, now: Timestamp, probe_period: Duration) {
        if now.since(self.last_heard) > probe_period {
            self.score = (self.score + 1).min(MAX_HEALTH_SCORE);
        }
    }
}

/// A member that did not answer.
pub(super) struct Suspicion {
    id: Id,
    refutation: u16,
    /// Told from stale timers by this.
    number: u64,
    window: Duration,
    stage: Stage,
    /// What to say when it ends badly.
    evidence: Evidence,
}

#[derive(Clone, Copy)]
enum Stage {
    /// It has time to refute, and is asked once more when half of it is over.
    Open { is_reminded: bool },
    /// The last check over the links.
    Check { nonce: u64, probes_left: u32 },
}

impl Swim {
    /// After a stall of ours nobody is blamed for silence: every suspicion gets its whole time again.
    pub(super) fn notice_stall(&mut self, now: Timestamp) {
        let expected = self.timers.next_deadline().max(self.excused_until);
        if now.since(expected) <= STALL {
            return;
        }
        self.excused_until = now;
        self.health.stalled();
        let names: Vec<NodeName> = self.suspicions.keys().cloned().collect();
        for name in names {
            self.reopen_suspicion(&name, now);
        }
    }

    fn reopen_suspicion(&mut self, name: &NodeName, now: Timestamp) {
        let number = self.next_nonce();
        if let Some(suspicion) = self.suspicions.get_mut(name) {
            suspicion.number = number;
            suspicion.stage = Stage::Open { is_reminded: false };
            let half = suspicion.window / 2;
            self.timers.add(now + half, Due::Suspicion(name.clone(), number));
        }
    }

    /// foca's probe of this member failed: it is told at once, so that it can refute.
    pub(super) fn probe_failed(&mut self, id: &Id, step: &mut Step<'_>) {
        self.health.probe_failed(step.now, self.profile.probe_period);
        self.touch(id.node.name.clone()).is_own_finding = true;
        self.remind(&id.node, step);
    }

    /// Suspects a member for a reason of this node's own.
    pub(super) fn suspect_now(&mut self, node: &NodeRef, step: &mut Step<'_>) {
        if let Some(member) = self.known_active(node) {
            let suspect = Member::new(member.id().clone(), member.incarnation(), State::Suspect);
            self.touch(node.name.clone()).is_own_finding = true;
            self.apply(suspect, true, step);
        }
    }

    /// foca has this member as suspect: its time begins, or goes on.
    pub(super) fn suspect(&mut self, id: Id, refutation: u16, touch: &Touch, step: &mut Step<'_>) {
        let name = id.node.name.clone();
        let known =
            self.suspicions.get_mut(&name).filter(|suspicion| suspicion.id == id && suspicion.refutation == refutation);
        if let Some(suspicion) = known {
            if let (Some(evidence), Stage::Open { .. }) = (touch.doubted, suspicion.stage) {
                suspicion.evidence = evidence;
                self.start_check(&name, step);
            }
            return;
        }
        let window = self.suspicion_window(touch.is_own_finding);
        let suspicion = Suspicion {
            id,
            refutation,
            number: 0,
            window,
            stage: Stage::Open { is_reminded: false },
            evidence: touch.doubted.unwrap_or(Evidence::Suspected),
        };
        self.suspicions.insert(name.clone(), suspicion);
        if touch.doubted.is_some() {
            self.start_check(&name, step);
        } else {
            self.reopen_suspicion(&name, step.now);
        }
    }

    /// The finder acts first; bad health doubles the time, within [`crate::config::Profile::worst_detection`].
    fn suspicion_window(&self, is_own_finding: bool) -> Duration {
        let base = self.profile.suspicion * (1 + u32::from(self.health.score().min(1)));
        if is_own_finding { base } else { base * 3 / 2 }
    }

    fn start_check(&mut self, name: &NodeName, step: &mut Step<'_>) {
        let nonce = self.next_nonce();
        if let Some(suspicion) = self.suspicions.get_mut(name) {
            suspicion.number = nonce;
            suspicion.stage = Stage::Check { nonce, probes_left: CHECK_PROBES_COUNT };
            self.step_suspicion(&name.clone(), nonce, step);
        }
    }

    pub(super) fn step_suspicion(&mut self, name: &NodeName, number: u64, step: &mut Step<'_>) {
        let Some(suspicion) = self.suspicions.get_mut(name).filter(|suspicion| suspicion.number == number) else {
            return;
        };
        let node = suspicion.id.node.clone();
        match &mut suspicion.stage {
            Stage::Open { is_reminded } if !*is_reminded => {
                *is_reminded = true;
                let rest = suspicion.window - suspicion.window / 2;
                self.timers.add(step.now + rest, Due::Suspicion(name.clone(), number));
                self.remind(&node, step);
            }
            Stage::Open { .. } => self.start_check(name, step),
            Stage::Check { nonce, probes_left } if *probes_left > 0 => {
                *probes_left -= 1;
                let nonce = *nonce;
                let pause = self.profile.verify / CHECK_PROBES_COUNT;
                self.timers.add(step.now + pause, Due::Suspicion(name.clone(), number));
                self.ask_widely(&node, nonce, step);
            }
            Stage::Check { .. } => {
                let evidence = suspicion.evidence;
                self.declare_down(&node, evidence, step);
            }
        }
    }

    /// Tells a suspect over its link that it is suspected.
    pub(super) fn remind(&mut self, node: &NodeRef, step: &mut Step<'_>) {
        let nonce = self.next_nonce();
        let probe = self.probe(node, nonce);
        self.send(node, &Message::Probe(probe), step);
    }

    /// Asks a node whether it lives, directly and through others. Returns whether anybody could be asked.
    pub(super) fn ask_widely(&mut self, node: &NodeRef, nonce: u64, step: &mut Step<'_>) -> bool {
        let message = Message::Probe(self.probe(node, nonce));
        let mut asked = self.pick_peers(RELAYS_COUNT, |peer| peer.name != node.name);
        if self.links.contains_key(node) {
            asked.push(node.clone());
        }
        for peer in &asked {
            self.send(peer, &message, step);
        }
        !asked.is_empty()
    }

    fn probe(&self, node: &NodeRef, nonce: u64) -> Probe {
        Probe {
            target: node.clone(),
            origin: self.me.node.clone(),
            nonce,
            suspected: self.known_active(node).filter(|member| member.state() == State::Suspect).map(Record::of),
        }
    }

    /// A probe came: answer it, or hand it on to its target.
    pub(super) fn probed(&mut self, from: &NodeRef, probe: Probe, step: &mut Step<'_>) {
        if probe.target != self.me.node {
            if probe.origin == *from && self.is_linked(&probe.target) {
                self.send(&probe.target.clone(), &Message::Probe(probe), step);
            }
            return;
        }
        let Probe { origin, nonce, suspected, .. } = probe;
        self.apply_vetted(suspected.into_iter().collect(), false, step);
        let me = self.own_record();
        self.send(from, &Message::Answer { origin, nonce, me }, step);
    }

    /// An answer came: it is for this node, or handed on to the one that asked.
    pub(super) fn answered(&mut self, origin: NodeRef, nonce: u64, me: Record, step: &mut Step<'_>) {
        if origin != self.me.node {
            self.send(&origin.clone(), &Message::Answer { origin, nonce, me }, step);
            return;
        }
        let node = me.id.node.clone();
        self.name_is_alive(&node, nonce, step);
        let is_checked = self.suspicions.get(&node.name).is_some_and(|suspicion| {
            suspicion.id.node == node && matches!(suspicion.stage, Stage::Check { nonce: asked, .. } if asked == nonce)
        });
        self.apply_vetted(vec![me], true, step);
        if is_checked {
            // It lives. Should its refutation not have reached us, its time begins again.
            self.reopen_suspicion(&node.name, step.now);
        }
    }
}
