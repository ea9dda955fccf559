//! Carrying out what engines want done: what the drivers do in production.

#![allow(clippy::wildcard_enum_match_arm, reason = "the host calls that matter are named; the others pass")]

use process_hub::engine::{Effect, Input};
use process_hub::host::call::{HostAnswer, HostCall, HostDecision, HostFailure, HostRequest, InstanceEvent};
use process_hub::ids::{CallNumber, InstanceId, NodeRef};
use process_hub::strategy::LoadSample;

use super::decider::DeciderDraw;
use super::fact::Fact;
use super::host::{Behaviour, Done};
use super::network::Fate;
use super::queue::{Event, HubIndex, ProcessId};
use super::script::Trap;
use super::violation::Check;
use super::world::World;

impl World {
    /// Carries out effects in order; the process may die after any of them.
    pub(crate) fn carry_out(&mut self, at: ProcessId, hub: HubIndex, effects: &mut Vec<Effect>) -> Check {
        for effect in effects.drain(..) {
            let trap = self.process(at).trap;
            if matches!(trap, Some(Trap::Before(moment)) if moment.is(&effect)) {
                return self.kill(at, "killed between two effects");
            }
            let is_last = match trap {
                Some(Trap::After(moment)) => moment.is(&effect),
                Some(Trap::Effects(left)) => left <= 1,
                Some(Trap::Before(_)) | None => false,
            };
            self.carry_out_one(at, hub, effect)?;
            if is_last {
                return self.kill(at, "killed between two effects");
            }
            if let Some(Trap::Effects(left)) = &mut self.process_mut(at).trap {
                *left -= 1;
            }
            if self.process(at).hubs.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn carry_out_one(&mut self, at: ProcessId, hub: HubIndex, effect: Effect) -> Check {
        self.digest.word(self.now.0);
        self.digest.word(u64::from(at.0) << 8 | u64::from(hub));
        match effect {
            Effect::Send { to, lane: _, frame } => {
                self.digest.bytes(b"send");
                self.digest.bytes(&frame);
                self.send(at, hub, &to, &frame)
            }
            Effect::Host(call) => {
                self.digest.bytes(call.request.callback().as_bytes());
                self.digest.bytes(call.child.as_str().as_bytes());
                self.digest.word(call.number.0);
                self.call(at, hub, call)
            }
            Effect::Decide(decision) => {
                self.digest.bytes(b"decide");
                self.digest.word(decision.number.0);
                self.decide(at, hub, &decision);
                Ok(())
            }
            Effect::Reply(request, result) => {
                self.digest.bytes(b"reply");
                self.digest.word(request.0);
                self.digest.word(u64::from(result.is_ok()));
                self.record.reply(at, request, &result);
                self.observe(&Fact::Replied { process: at, hub, request, result: &result })
            }
            Effect::Publish(child, row) => {
                self.digest.bytes(b"row");
                self.digest.bytes(child.as_str().as_bytes());
                for instance in row.iter().flat_map(|row| &row.instances) {
                    self.digest.bytes(instance.node.as_str().as_bytes());
                    self.digest.word(instance.epoch.0);
                }
                self.observe(&Fact::Row { process: at, hub, child: &child, row: row.as_ref() })
            }
            Effect::MeasureLoad => {
                self.digest.bytes(b"load");
                let draw = &mut self.streams.loads;
                let cpu = u16::try_from(draw.between(0, 1_000)).unwrap_or(0);
                let waiting = u32::try_from(draw.spread(1, 2_000)).unwrap_or(0);
                let delay_us = draw.between(0, 100);
                self.push_us(delay_us, Event::Load { at, hub, sample: LoadSample { cpu, waiting } });
                Ok(())
            }
            Effect::Status(status) => {
                self.digest.bytes(b"status");
                self.observe(&Fact::Status { process: at, hub, status: &status })
            }
            Effect::Hook(event) => {
                self.digest.bytes(event.name.name().as_bytes());
                self.record.hook(at, &event);
                self.observe(&Fact::Hook { process: at, hub, event: &event })
            }
            Effect::Lease { until, fenced: _ } => {
                self.digest.bytes(b"lease");
                let until = self.process(at).clock.when(until);
                self.observe(&Fact::Lease { process: at, hub, until })
            }
            Effect::Stopped => {
                self.digest.bytes(b"stopped");
                self.hub_stopped(at, hub)
            }
            Effect::Refused(error) => {
                let reason = error.to_string();
                self.observe(&Fact::Failed { process: at, hub, reason: &reason })
            }
            Effect::Failed(reason) => self.observe(&Fact::Failed { process: at, hub, reason: &reason }),
        }
    }

    fn send(&mut self, from: ProcessId, hub: HubIndex, to: &NodeRef, frame: &bytes::Bytes) -> Check {
        let receiver = self.find(to);
        let path = receiver.map(|id| (self.process(from).slot, self.process(id).slot));
        let fate = match path {
            // Nobody there: the process ended, or a newer incarnation has its place.
            None => Fate::Lost,
            Some(path) => {
                let draw = &mut self.streams.network;
                self.network.send(self.now, path, frame.len(), draw)
            }
        };
        let arrival = match fate {
            Fate::Lost => None,
            Fate::Arrives(arrival, _) => Some(arrival),
        };
        if self.oracle.trace.is_on {
            self.observe(&Fact::Frame { from, to, hub, frame, arrival })?;
        }
        let (Some(to), Fate::Arrives(arrival, again)) = (receiver, fate) else {
            return Ok(());
        };
        for at in std::iter::once(arrival).chain(again) {
            let event = Event::Frame { from, to, hub, frame: frame.clone() };
            self.queue.push(at, event, &mut self.streams.schedule);
        }
        Ok(())
    }

    fn call(&mut self, at: ProcessId, hub: HubIndex, call: HostCall) -> Check {
        self.observe(&Fact::Called { process: at, hub, call: &call })?;
        self.handovers.called(self.now, &self.oracle.ghost, at, &call);
        self.aim(at, &call);
        if self.plans.hangs(&call) {
            return Ok(());
        }
        let delay_us = self.callback_time_us(&call);
        self.push_us(delay_us, Event::HostWork { at, hub, call });
        Ok(())
    }

    /// The host's strategies have streams and bad habits of their own.
    fn decide(&mut self, at: ProcessId, hub: HubIndex, decision: &HostDecision) {
        let decider = if self.healing.is_none() { self.swarm.decider } else { DeciderDraw::default() };
        if let Some((delay_us, answer)) = decider.answer(&decision.question, &mut self.streams.strategies) {
            self.push_us(delay_us, Event::Decided { at, hub, number: decision.number, answer });
        }
    }

    /// How long host code takes for a call.
    fn callback_time_us(&mut self, call: &HostCall) -> u64 {
        let shape = self.swarm.host;
        let draw = &mut self.streams.host;
        let is_instant = matches!(
            call.request,
            HostRequest::Run | HostRequest::CancelRun | HostRequest::SetRole(..) | HostRequest::Discard
        );
        if is_instant {
            return draw.between(5, 100);
        }
        if self.healing.is_none() && draw.chance_ppm(shape.slow_ppm) {
            return draw.spread(100_000, shape.slow_max_us);
        }
        draw.spread(10, shape.delay_max_us)
    }

    /// The host carries out a call and completes it.
    pub(crate) fn work(&mut self, at: ProcessId, hub: HubIndex, call: HostCall) -> Check {
        let fails = self.healing.is_none()
            && !matches!(call.request, HostRequest::Stop(_) | HostRequest::Discard)
            && self.streams.host.chance_ppm(self.swarm.host.fail_ppm);
        let fails = fails || self.plans.fails(&call);
        let host = &mut self.processes[at.0 as usize].hubs[usize::from(hub)].host;
        let body = match &call.request {
            HostRequest::Stop(_) | HostRequest::CancelRun | HostRequest::Discard => host.take_run(call.instance),
            _ => None,
        };
        let done = host.execute(&call, Behaviour { fails });
        if let Some(number) = body {
            self.end_body(at, hub, &call, number);
        }
        self.plan_instance(at, hub, &call);
        let Done::Answer(answer) = done else {
            return Ok(());
        };
        self.observe(&Fact::Completed { process: at, hub, call: &call, answer: &answer })?;
        self.handovers.completed(at, &call);
        self.complete(at, hub, call.number, answer)
    }

    /// A cancelled body returns a little later, sometimes much later.
    fn end_body(&mut self, at: ProcessId, hub: HubIndex, call: &HostCall, number: CallNumber) {
        let draw = &mut self.streams.host;
        let delay_us = if self.healing.is_none() && draw.chance(3) {
            draw.spread(100_000, 10_000_000)
        } else {
            draw.spread(20, 50_000)
        };
        let event = Event::RunEnds { at, hub, instance: call.instance, number, crash: false };
        self.push_us(delay_us, event);
    }

    /// Decides what the instance will do of its own accord.
    fn plan_instance(&mut self, at: ProcessId, hub: HubIndex, call: &HostCall) {
        if self.healing.is_some() {
            return;
        }
        let exit_ppm = self.swarm.host.exit_ppm;
        let draw = &mut self.streams.host;
        let instance = call.instance;
        match &call.request {
            HostRequest::Start(_) if draw.chance_ppm(exit_ppm) => {
                let event = match draw.below(10) {
                    0 => InstanceEvent::StopSelf,
                    1 | 2 => InstanceEvent::Exit(None),
                    _ => InstanceEvent::Exit(Some("crashes by plan".into())),
                };
                let delay_us = draw.spread(50_000, 60_000_000);
                let event = Event::InstanceActs { at, hub, instance, event };
                self.push_us(delay_us, event);
            }
            HostRequest::PrepareState if draw.chance(30) => {
                let delay_us = draw.spread(1_000, 3_000_000);
                let event = Event::InstanceActs { at, hub, instance, event: InstanceEvent::RetentionHandled };
                self.push_us(delay_us, event);
            }
            HostRequest::Run if draw.chance_ppm(exit_ppm) => {
                let event = Event::RunEnds { at, hub, instance, number: call.number, crash: draw.chance(50) };
                let delay_us = draw.spread(50_000, 60_000_000);
                self.push_us(delay_us, event);
            }
            _ => {}
        }
    }

    pub(crate) fn run_ends(
        &mut self,
        at: ProcessId,
        hub: HubIndex,
        instance: InstanceId,
        number: CallNumber,
        crash: bool,
    ) -> Check {
        // A body that was cancelled left the host already, and another may run by now.
        let host = &mut self.processes[at.0 as usize].hubs[usize::from(hub)].host;
        if host.runs(instance) == Some(number) {
            if self.healing.is_some() {
                // What was planned before the healing does not happen any more.
                return Ok(());
            }
            host.take_run(instance);
        }
        self.observe(&Fact::RunEnded { process: at, hub, instance, crash })?;
        let answer =
            if crash { HostAnswer::Failed(HostFailure::new("run raises by plan")) } else { HostAnswer::Done(None) };
        self.complete(at, hub, number, answer)
    }

    pub(crate) fn instance_acts(
        &mut self,
        at: ProcessId,
        hub: HubIndex,
        instance: InstanceId,
        event: InstanceEvent,
    ) -> Check {
        let host = &self.process(at).hubs[usize::from(hub)].host;
        if !host.has(instance) || self.healing.is_some() {
            return Ok(());
        }
        self.observe(&Fact::Acted { process: at, hub, instance, event: &event })?;
        self.turn(at, hub, Input::Instance(instance, event))
    }

    fn hub_stopped(&mut self, at: ProcessId, hub: HubIndex) -> Check {
        // The driver closes what is still open.
        self.oracle.ghost.close_requests(at, hub);
        let process = self.process_mut(at);
        process.hubs[usize::from(hub)].has_stopped = true;
        if process.hubs.iter().all(|cell| cell.has_stopped) {
            return self.leave(at);
        }
        Ok(())
    }
}
