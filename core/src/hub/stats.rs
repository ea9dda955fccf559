//! Counts of what this process holds, for finding leaks.

use std::sync::Arc;

use serde::Serialize;

use super::Hub;

/// Counts of what this process holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct DebugStats {
    /// Hubs on this hub's node.
    pub hubs: usize,
    /// Children the registry knows.
    pub children: usize,
    /// Instances of Rust children in this hub.
    pub instances: usize,
    /// Threads of this library in this process, by their names.
    pub threads: usize,
    /// Handles of this hub.
    pub handles: usize,
    /// Open file descriptors of this process.
    pub descriptors: usize,
    /// Bytes that wait in queues: frames to be handled, and frames to be sent.
    pub queued_bytes: usize,
}

/// Threads of this library in this process, and its open file descriptors.
#[must_use]
pub fn process_counts() -> (usize, usize) {
    (thread_count(), std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count))
}

impl Hub {
    /// Counts of what this process holds.
    #[must_use]
    pub fn debug_stats(&self) -> DebugStats {
        let shared = self.shared();
        let unsent = usize::try_from(shared.node.queued_bytes()).unwrap_or(usize::MAX);
        let (threads, descriptors) = process_counts();
        DebugStats {
            hubs: shared.node.hub_count(),
            children: shared.view.len(),
            instances: shared.local.as_ref().map_or(0, |local| local.instance_count()),
            threads,
            handles: Arc::strong_count(&self.handle),
            descriptors,
            queued_bytes: shared.requests.inputs().waiting().frame_bytes() + unsent,
        }
    }

    /// The hub's metrics as Prometheus text.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        let shared = self.shared();
        let metrics = &shared.metrics;
        let waiting = shared.requests.inputs().waiting();
        metrics.set_gauges(&crate::observe::metrics::Gauges {
            children: shared.view.len(),
            members: shared.view.members().len() + 1,
            waiting_calls: shared.queue.len(),
            hooks_dropped: shared.queue.hooks_dropped() + shared.observers.dropped(),
            frames_dropped: waiting.frames_dropped(),
            queued_bytes: waiting.frame_bytes(),
        });
        metrics.text()
    }
}

/// The threads whose names begin as ours do; Linux keeps the first 15 bytes of a name.
fn thread_count() -> usize {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return 0;
    };
    tasks
        .filter_map(Result::ok)
        .filter(|task| {
            std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("process-hub"))
        })
        .count()
}
