//! The event heap: ordered by time, then by a random tie-break drawn when the event is queued.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;
use process_hub::host::call::{HostAnswer, HostCall, InstanceEvent};
use process_hub::ids::{CallNumber, InstanceId, RequestId};
use process_hub::strategy::LoadSample;
use process_hub::swim::Evidence;

use super::draw::Draw;
use super::time::WorldTime;

/// One start of a node, numbered over the whole run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ProcessId(pub(crate) u32);

/// Which hub of a process.
pub(crate) type HubIndex = u8;

/// What happens next.
#[derive(Debug)]
pub(crate) enum Event {
    /// A frame of a hub arrives.
    Frame { from: ProcessId, to: ProcessId, hub: HubIndex, frame: Bytes },
    /// The load of a process is measured.
    Load { at: ProcessId, hub: HubIndex, sample: LoadSample },
    /// The engine's deadline.
    Tick { at: ProcessId, hub: HubIndex },
    /// The engine's batch of inputs ends.
    Flush { at: ProcessId, hub: HubIndex },
    /// The host gets to a call.
    HostWork { at: ProcessId, hub: HubIndex, call: HostCall },
    /// The host's strategy answers.
    Decided { at: ProcessId, hub: HubIndex, number: CallNumber, answer: HostAnswer },
    /// A `run` body returns or raises.
    RunEnds { at: ProcessId, hub: HubIndex, instance: InstanceId, number: CallNumber, crash: bool },
    /// An instance acts of its own accord.
    InstanceActs { at: ProcessId, hub: HubIndex, instance: InstanceId, event: InstanceEvent },
    /// A packet of membership arrives.
    Packet { from: ProcessId, to: ProcessId, bytes: Bytes },
    /// Membership's deadline.
    SwimTick { at: ProcessId },
    /// An attempt to connect ends.
    Dialed { from: ProcessId, slot: usize },
    /// The seeds are tried again.
    Discover { at: ProcessId },
    /// An end of a link learns that it is gone.
    LinkBreaks { at: ProcessId, peer: ProcessId, refused: bool },
    /// An end of a link heard nothing for long.
    LinkSilent { at: ProcessId, peer: ProcessId },
    /// Membership comes to a verdict about a peer.
    Verdict { observer: ProcessId, subject: ProcessId, generation: u32, verdict: Verdict },
    /// The next action of the users.
    UserActs,
    /// A request has to be answered by now.
    RequestDue { at: ProcessId, hub: HubIndex, request: RequestId, extended: bool },
    /// The user gives a request up.
    UserCancels { at: ProcessId, hub: HubIndex, request: RequestId },
    /// The next fault.
    FaultStrikes,
    /// A fault ends.
    FaultEnds(FaultEnd),
    /// A process dies.
    Kill { process: ProcessId },
    /// A process is suspended for some time.
    Suspend { process: ProcessId, for_us: u64 },
    /// A process goes on.
    Resume { process: ProcessId },
    /// A node starts again.
    Boot { slot: usize, new_name: bool },
    /// The healed cluster is looked at.
    Inspect,
}

impl Event {
    /// The process that has to run for this event to happen.
    pub(crate) const fn process(&self) -> Option<ProcessId> {
        match self {
            Self::Frame { to, .. } | Self::Packet { to, .. } => Some(*to),
            Self::Dialed { from, .. } => Some(*from),
            Self::Tick { at, .. }
            | Self::Flush { at, .. }
            | Self::Load { at, .. }
            | Self::HostWork { at, .. }
            | Self::Decided { at, .. }
            | Self::RunEnds { at, .. }
            | Self::InstanceActs { at, .. }
            | Self::RequestDue { at, .. }
            | Self::SwimTick { at }
            | Self::Discover { at }
            | Self::LinkBreaks { at, .. }
            | Self::LinkSilent { at, .. }
            | Self::UserCancels { at, .. } => Some(*at),
            Self::Verdict { observer, .. } => Some(*observer),
            Self::UserActs
            | Self::FaultStrikes
            | Self::FaultEnds(_)
            | Self::Kill { .. }
            | Self::Suspend { .. }
            | Self::Resume { .. }
            | Self::Boot { .. }
            | Self::Inspect => None,
        }
    }
}

/// What membership says about a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Up,
    Down(Evidence),
}

/// A fault that ends.
#[derive(Clone, Debug)]
pub(crate) enum FaultEnd {
    /// These directed links work again.
    Cut(Vec<(usize, usize)>),
    /// Frames are no longer lost, repeated, reordered or delayed.
    Storm,
}

struct Entry {
    at: WorldTime,
    tie: u64,
    slot: usize,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.tie) == (other.at, other.tie)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.tie).cmp(&(other.at, other.tie))
    }
}

/// The events to come.
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    queued_count: u64,
}

impl Queue {
    pub(crate) const fn new() -> Self {
        Self { heap: BinaryHeap::new(), events: Vec::new(), free: Vec::new(), queued_count: 0 }
    }

    /// Queues an event; those of one moment come in random order.
    pub(crate) fn push(&mut self, at: WorldTime, event: Event, schedule: &mut Draw) {
        // The lower half keeps ties apart, so the order is total.
        let tie = (schedule.number() & !0xffff_ffff) | (self.queued_count & 0xffff_ffff);
        self.put(at, tie, event);
    }

    /// Queues an event behind all events that were queued this way for the same moment, and before others.
    pub(crate) fn push_in_order(&mut self, at: WorldTime, event: Event) {
        self.put(at, self.queued_count, event);
    }

    fn put(&mut self, at: WorldTime, tie: u64, event: Event) {
        self.queued_count += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[slot] = Some(event);
        self.heap.push(Reverse(Entry { at, tie, slot }));
    }

    /// When the next event happens.
    pub(crate) fn next_at(&self) -> Option<WorldTime> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// The next event and its time.
    pub(crate) fn pop(&mut self) -> Option<(WorldTime, Event)> {
        let Reverse(entry) = self.heap.pop()?;
        let event = self.events[entry.slot].take()?;
        self.free.push(entry.slot);
        Some((entry.at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_moment_queued_in_order_then_they_come_in_order() {
        let mut queue = Queue::new();
        for slot in 0..50 {
            let boot = Event::Boot { slot, new_name: false };
            queue.push_in_order(WorldTime(7), boot);
        }
        for expected in 0..50 {
            let Some((_, Event::Boot { slot, .. })) = queue.pop() else {
                panic!("an event is missing");
            };
            assert_eq!(slot, expected);
        }
    }
}
