//! The metrics of one hub, as Prometheus text.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::ids::{HubId, NodeName};

/// Values read when the text is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gauges {
    pub(crate) children: usize,
    pub(crate) members: usize,
    pub(crate) waiting_calls: usize,
    pub(crate) hooks_dropped: u64,
    pub(crate) frames_dropped: usize,
    pub(crate) queued_bytes: usize,
}

/// The counters the driver of a hub keeps.
#[derive(Debug)]
pub(crate) struct HubMetrics {
    registry: Registry,
    /// Inputs the engine took.
    pub(crate) inputs: Counter,
    /// Batches of inputs.
    pub(crate) turns: Counter,
    /// Calls of host code.
    pub(crate) host_calls: Counter,
    /// Frames of members.
    pub(crate) frames_received: Counter,
    /// Frames given to the transport.
    pub(crate) frames_sent: Counter,
    /// Frames the transport did not take.
    pub(crate) frames_refused: Counter,
    /// Hooks fired.
    pub(crate) hooks: Counter,
    children: Gauge,
    members: Gauge,
    waiting_calls: Gauge,
    queued_bytes: Gauge,
    hooks_dropped: Gauge<u64, AtomicU64>,
    frames_dropped: Gauge<u64, AtomicU64>,
}

impl HubMetrics {
    pub(crate) fn new(hub: &HubId, node: &NodeName) -> Self {
        let labels = [("hub".into(), hub.as_str().to_owned().into()), ("node".into(), node.as_str().to_owned().into())];
        let mut registry = Registry::with_prefix_and_labels("process_hub", labels.into_iter());
        let counter = |registry: &mut Registry, name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let gauge = |registry: &mut Registry, name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let total = |registry: &mut Registry, name: &str, help: &str| {
            let gauge = Gauge::<u64, AtomicU64>::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let r = &mut registry;
        Self {
            inputs: counter(r, "inputs", "Inputs the engine took"),
            turns: counter(r, "turns", "Batches of inputs the engine took"),
            host_calls: counter(r, "host_calls", "Calls of host code"),
            frames_received: counter(r, "frames_received", "Frames of members"),
            frames_sent: counter(r, "frames_sent", "Frames given to the transport"),
            frames_refused: counter(r, "frames_refused", "Frames the transport did not take"),
            hooks: counter(r, "hooks", "Hooks fired"),
            children: gauge(r, "children", "Children the registry knows"),
            members: gauge(r, "members", "Members of the hub, this node included"),
            waiting_calls: gauge(r, "waiting_calls", "Calls that wait for the host"),
            queued_bytes: gauge(r, "queued_bytes", "Bytes of frames that wait for the engine"),
            hooks_dropped: total(r, "hooks_dropped", "Hook events dropped by slow observers"),
            frames_dropped: total(r, "frames_dropped", "Frames dropped by a slow engine"),
            registry,
        }
    }

    pub(crate) fn set_gauges(&self, gauges: &Gauges) {
        let signed = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.children.set(signed(gauges.children));
        self.members.set(signed(gauges.members));
        self.waiting_calls.set(signed(gauges.waiting_calls));
        self.queued_bytes.set(signed(gauges.queued_bytes));
        self.hooks_dropped.set(gauges.hooks_dropped);
        self.frames_dropped.set(u64::try_from(gauges.frames_dropped).unwrap_or(u64::MAX));
    }

    /// The text of the exposition format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            // Writing to a `String` does not fail.
            Err(std::fmt::Error) => String::new(),
        }
    }
}
