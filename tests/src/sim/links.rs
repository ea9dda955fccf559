//! The links under SWIM: what a transport would tell membership about connections (R14).
//!
//! A link has two ends, and each end learns on its own that it is gone: at once and refused when the peer's
//! process died and its machine says so, after a silence otherwise.

use std::collections::BTreeSet;

use bytes::Bytes;
use process_hub::ids::{Contact, NodeRef};
use process_hub::swim::{Swim, SwimEffect, SwimInput, SwimSetup};
use process_hub::time::Timestamp;

use super::ghost::Life;
use super::network::Fate;
use super::queue::{Event, ProcessId, Verdict};
use super::time::{WorldTime, micros};
use super::violation::Check;
use super::world::World;

/// Two reconnects, at 0 and 20 ms, are refused before a link counts as refused (R14).
const REFUSED_AFTER_US: u64 = 20_000;

/// The membership of one process.
pub(crate) struct SwimCell {
    swim: Swim,
    tick_at: WorldTime,
    /// The peers to which this end of a link is up.
    ends: BTreeSet<ProcessId>,
    /// The machines whose addresses it was given.
    seeds: Vec<usize>,
}

impl SwimCell {
    pub(crate) fn new(now: Timestamp, setup: SwimSetup, seeds: Vec<usize>) -> Self {
        Self { swim: Swim::new(now, setup), tick_at: WorldTime::NEVER, ends: BTreeSet::new(), seeds }
    }
}

/// The address of a machine.
pub(crate) fn address(slot: usize) -> String {
    format!("10.0.0.{slot}:7400")
}

fn slot_at(address: &str) -> Option<usize> {
    address.strip_prefix("10.0.0.")?.split(':').next()?.parse().ok()
}

impl World {
    fn contact(&self, id: ProcessId) -> Contact {
        let process = self.process(id);
        Contact { node: process.node.clone(), address: address(process.slot) }
    }

    fn cell(&mut self, id: ProcessId) -> Option<&mut SwimCell> {
        self.process_mut(id).swim.as_mut()
    }

    /// Hands one input to membership and carries out what it wants done.
    pub(crate) fn swim(&mut self, at: ProcessId, input: SwimInput) -> Check {
        let now = self.now;
        let process = self.process_mut(at);
        let local = process.clock.read(now);
        let Some(cell) = process.swim.as_mut().filter(|_| process.life == Life::Up) else {
            return Ok(());
        };
        let mut effects = Vec::new();
        cell.swim.handle(local, input, &mut effects);
        for effect in effects {
            self.carry_out_swim(at, effect)?;
        }
        self.arm_swim(at);
        Ok(())
    }

    pub(crate) fn arm_swim(&mut self, at: ProcessId) {
        let now = self.now;
        let process = self.process_mut(at);
        let clock = process.clock;
        let Some(cell) = process.swim.as_mut() else {
            return;
        };
        let deadline = cell.swim.next_deadline();
        let when = clock.when(deadline).max(now);
        if deadline != Timestamp::NEVER && when < cell.tick_at {
            cell.tick_at = when;
            let tick = Event::SwimTick { at };
            self.queue.push(when, tick, &mut self.streams.schedule);
        }
    }

    pub(crate) fn swim_tick(&mut self, at: ProcessId) -> Check {
        let now = self.now;
        let process = self.process_mut(at);
        let local = process.clock.read(now);
        let Some(cell) = process.swim.as_mut() else {
            return Ok(());
        };
        if cell.tick_at > now {
            return Ok(());
        }
        cell.tick_at = WorldTime::NEVER;
        if cell.swim.next_deadline() > local {
            self.arm_swim(at);
            return Ok(());
        }
        self.swim(at, SwimInput::Tick)
    }

    fn carry_out_swim(&mut self, at: ProcessId, effect: SwimEffect) -> Check {
        match effect {
            SwimEffect::Packet { to, bytes } => self.send_packet(at, &to, &bytes),
            SwimEffect::Connect(contact) => {
                if let Some(slot) = slot_at(&contact.address) {
                    self.dial(at, slot);
                }
            }
            SwimEffect::Disconnect(node) => {
                if let Some(peer) = self.find(&node) {
                    let break_us = self.swarm.network.delay_min_us + 5_000;
                    for (end, other) in [(at, peer), (peer, at)] {
                        self.push_link_break(end, other, false, break_us);
                    }
                }
            }
            SwimEffect::Up(contact) => return self.tell_member(at, &contact.node, Verdict::Up),
            SwimEffect::Down(node, evidence) => {
                return self.tell_member(at, &node, Verdict::Down(evidence));
            }
            SwimEffect::Welcome => {}
            SwimEffect::NameTaken { .. } => {
                return self.kill(at, "its name is taken");
            }
            SwimEffect::Left => {
                self.process_mut(at).has_left = true;
                return self.kill(at, "left");
            }
        }
        Ok(())
    }

    fn send_packet(&mut self, from: ProcessId, to: &NodeRef, bytes: &Bytes) {
        let Some(receiver) = self.find(to) else {
            return;
        };
        let is_linked = |end: ProcessId, other: ProcessId, world: &Self| {
            let cell = world.process(end).swim.as_ref();
            cell.is_some_and(|cell| cell.ends.contains(&other))
        };
        if !is_linked(from, receiver, self) || !is_linked(receiver, from, self) {
            return;
        }
        let path = (self.process(from).slot, self.process(receiver).slot);
        let draw = &mut self.streams.network;
        if let Fate::Arrives(arrival, again) = self.network.send(self.now, path, bytes.len(), draw) {
            for at in std::iter::once(arrival).chain(again) {
                let bytes = bytes.clone();
                let event = Event::Packet { from, to: receiver, bytes };
                self.queue.push(at, event, &mut self.streams.schedule);
            }
        }
    }

    pub(crate) fn packet(&mut self, from: ProcessId, to: ProcessId, bytes: Bytes) -> Check {
        if !self.process(to).swim.as_ref().is_some_and(|cell| cell.ends.contains(&from)) {
            return Ok(());
        }
        let from = self.process(from).node.clone();
        self.swim(to, SwimInput::Packet { from, bytes })
    }

    /// Queues the end of an attempt to connect.
    fn dial(&mut self, from: ProcessId, slot: usize) {
        let shape = self.swarm.network;
        let trip_us = shape.delay_min_us * 2 + self.streams.network.between(0, shape.delay_spread_us);
        self.push_us(trip_us, Event::Dialed { from, slot });
    }

    pub(crate) fn dialed(&mut self, from: ProcessId, slot: usize) -> Check {
        let own_slot = self.process(from).slot;
        let Some(peer) = self.machines[slot].process.filter(|_| slot != own_slot) else {
            return Ok(());
        };
        let answers = self.process(peer).life == Life::Up;
        if !answers || !self.network.is_joined(own_slot, slot) {
            return Ok(());
        }
        for (end, other) in [(from, peer), (peer, from)] {
            let contact = self.contact(other);
            if self.cell(end).is_some_and(|cell| cell.ends.insert(other)) {
                self.swim(end, SwimInput::LinkUp(contact))?;
            }
        }
        Ok(())
    }

    /// Tries the seeds to which there is no link, now and again later.
    pub(crate) fn discover(&mut self, at: ProcessId) -> Check {
        let interval = self.swarm.hubs[0].hubs_discover_interval;
        self.push_us(micros(interval), Event::Discover { at });
        let Some(cell) = self.process(at).swim.as_ref() else {
            return Ok(());
        };
        let is_open = |slot: &usize| {
            let there = self.machines[*slot].process;
            !there.is_some_and(|id| cell.ends.contains(&id))
        };
        let open: Vec<usize> = cell.seeds.iter().copied().filter(is_open).collect();
        for slot in open {
            self.dial(at, slot);
        }
        Ok(())
    }

    fn push_link_break(&mut self, end: ProcessId, other: ProcessId, refused: bool, delay_us: u64) {
        let event = Event::LinkBreaks { at: end, peer: other, refused };
        self.push_us(delay_us, event);
    }

    pub(crate) fn link_breaks(&mut self, at: ProcessId, peer: ProcessId, refused: bool) -> Check {
        if !self.cell(at).is_some_and(|cell| cell.ends.remove(&peer)) {
            return Ok(());
        }
        // Refused only if nobody listens there by then.
        let refused = refused && self.machines[self.process(peer).slot].process.is_none();
        let node = self.process(peer).node.clone();
        self.swim(at, SwimInput::LinkDown { node, refused })
    }

    /// Something changed on the way between machines: which ends of links will notice, and when.
    pub(crate) fn look_at_links(&mut self) {
        for id in self.alive() {
            let Some(cell) = self.process(id).swim.as_ref() else {
                continue;
            };
            let peers: Vec<_> = cell.ends.iter().copied().collect();
            for peer in peers {
                let path = (self.process(id).slot, self.process(peer).slot);
                let is_joined = self.network.is_joined(path.0, path.1);
                let is_dead = self.process(peer).life == Life::Down;
                if is_joined && is_dead {
                    let trip_us = self.swarm.network.delay_min_us * 2;
                    self.push_link_break(id, peer, true, REFUSED_AFTER_US + trip_us);
                } else if !is_joined || is_dead {
                    let silence_us = self.streams.network.between(3_000_000, 20_000_000);
                    let event = Event::LinkSilent { at: id, peer };
                    self.push_us(silence_us, event);
                }
            }
        }
    }

    /// A link was silent for long: does it still hold?
    pub(crate) fn link_silent(&mut self, at: ProcessId, peer: ProcessId) -> Check {
        let path = (self.process(at).slot, self.process(peer).slot);
        let is_dead = self.process(peer).life == Life::Down;
        if self.network.is_joined(path.0, path.1) && !is_dead {
            return Ok(());
        }
        self.link_breaks(at, peer, false)
    }

    /// The node leaves the cluster: its hubs have ended.
    pub(crate) fn leave(&mut self, at: ProcessId) -> Check {
        if self.process(at).swim.is_some() {
            return self.swim(at, SwimInput::Leave);
        }
        self.process_mut(at).has_left = true;
        self.kill(at, "left")
    }
}
