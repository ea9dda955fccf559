//! Counts handovers, and those that a fault cut.

#![allow(clippy::wildcard_enum_match_arm, reason = "the host calls that matter are named; the others pass")]

use std::collections::BTreeMap;

use process_hub::host::call::{HostCall, HostRequest, StartReason, StopReason};
use process_hub::ids::ChildId;

use super::fact::child_index;
use super::ghost::Ghost;
use super::queue::ProcessId;
use super::time::WorldTime;

/// A handover is over after this, whatever became of it.
const LONGEST_US: u64 = 30_000_000;

struct Open {
    source: Option<ProcessId>,
    target: Option<ProcessId>,
    since: WorldTime,
    is_cut: bool,
}

/// The handovers of a run.
#[derive(Default)]
pub(crate) struct Handovers {
    open: BTreeMap<ChildId, Open>,
    pub(crate) count: u64,
    pub(crate) cut_count: u64,
}

impl Handovers {
    /// A host call that may belong to a handover.
    pub(crate) fn called(&mut self, now: WorldTime, ghost: &Ghost, at: ProcessId, call: &HostCall) {
        let is_source = match &call.request {
            HostRequest::PrepareState => true,
            HostRequest::Start(context) if context.reason == StartReason::Migration => false,
            _ => return,
        };
        self.open.retain(|_, open| now.since_us(open.since) < LONGEST_US);
        let count = &mut self.count;
        let open = self.open.entry(call.child.clone()).or_insert_with(|| {
            *count += 1;
            Open { source: None, target: None, since: now, is_cut: false }
        });
        if is_source {
            open.source = Some(at);
            return;
        }
        open.target = Some(at);
        if open.source.is_none()
            && let Some(child) = child_index(&call.child).and_then(|i| ghost.children.get(i))
        {
            let other = child.live_runs().find(|run| run.process != at);
            open.source = other.map(|run| run.process);
        }
    }

    /// A host call that may end a handover.
    pub(crate) fn completed(&mut self, at: ProcessId, call: &HostCall) {
        if matches!(call.request, HostRequest::Stop(StopReason::Migrated))
            && self.open.get(&call.child).is_some_and(|open| open.source == Some(at) && open.target.is_some())
        {
            self.open.remove(&call.child);
        }
    }

    /// The other end of the handover a call belongs to.
    pub(crate) fn peer(&self, at: ProcessId, call: &HostCall) -> Option<ProcessId> {
        let open = self.open.get(&call.child)?;
        [open.source, open.target].into_iter().flatten().find(|id| *id != at)
    }

    /// A process died or was paused.
    pub(crate) fn struck(&mut self, process: ProcessId) {
        self.cut_where(|open| open.source == Some(process) || open.target == Some(process));
    }

    /// Two processes were parted.
    pub(crate) fn parted(&mut self, a: ProcessId, b: ProcessId) {
        let (a, b) = (Some(a), Some(b));
        self.cut_where(|open| (open.source, open.target) == (a, b) || (open.source, open.target) == (b, a));
    }

    fn cut_where(&mut self, is_hit: impl Fn(&Open) -> bool) {
        for open in self.open.values_mut() {
            if !open.is_cut && is_hit(open) {
                open.is_cut = true;
                self.cut_count += 1;
            }
        }
    }
}
