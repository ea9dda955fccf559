//! A hub: its operations, its local reads, and its queue.

mod operations;
mod pulling;
mod reads;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use napi_derive::napi;
use process_hub::config::HubConfig;
use process_hub::error::{Error, ErrorKind};
use process_hub::host::Bell;
use process_hub::host::call::KindInfo;
use process_hub::host::queue::HostQueue;
use process_hub::hub::Hub;
use process_hub::observe::HookName;
use process_hub::strategy::Family;

use crate::cell::Cell;
use crate::environment::{Environment, Opened};
use crate::errors::{invalid_argument, raise};
use crate::node::NativeNode;

/// A hub: begun by `start`, there once that was answered.
#[napi]
pub struct NativeHub {
    inner: Arc<OnceLock<Inner>>,
}

struct Inner {
    hub: Hub,
    queue: HostQueue,
    bell: Arc<Bell>,
    shutdown_timeout: Duration,
    /// Its number among what the environment has open.
    opened: u32,
}

/// Milliseconds of JavaScript; a negative time is none.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
pub(crate) fn ms(ms: f64) -> Duration {
    Duration::from_millis(ms as u64)
}

impl NativeHub {
    fn inner(&self, operation: &str) -> napi::Result<&Inner> {
        let missing = || raise(&Error::new(ErrorKind::NotStarted, operation, "the hub was not started"));
        self.inner.get().ok_or_else(missing)
    }
}

fn kind_infos(kinds: &str) -> Result<Vec<KindInfo>, Error> {
    serde_json::from_str(kinds).map_err(|error| invalid_argument("register", format!("a kind: {error}")))
}

/// Families and names of strategies.
fn strategy_infos(strategies: &str) -> Result<Vec<(Family, String)>, Error> {
    let rows: Vec<(String, String)> =
        serde_json::from_str(strategies).map_err(|error| invalid_argument("start", format!("a strategy: {error}")))?;
    rows.into_iter().map(|(family, name)| Ok((Family::parse(&family)?, name))).collect()
}

fn hook_bits(names: &[String]) -> Result<u64, Error> {
    names.iter().try_fold(0, |bits, name| match HookName::from_name(name) {
        Some(hook) => Ok(bits | hook.bit()),
        None => Err(invalid_argument("on", format!("there is no hook named {name}"))),
    })
}

#[napi]
impl NativeHub {
    #[napi(constructor, catch_unwind)]
    #[allow(clippy::new_without_default, reason = "made by JavaScript only")]
    pub fn new() -> Self {
        Self { inner: Arc::default() }
    }

    /// Starts the hub; answers null.
    #[napi(catch_unwind)]
    pub fn start(
        &self,
        environment: &Environment,
        config: String,
        kinds: String,
        strategies: String,
        hooks: Vec<String>,
        node: Option<&NativeNode>,
    ) -> napi::Result<u32> {
        let config = HubConfig::from_text(&config).map_err(|error| raise(&error))?;
        let kinds = kind_infos(&kinds).map_err(|error| raise(&error))?;
        let strategies = strategy_infos(&strategies).map_err(|error| raise(&error))?;
        let hooks = hook_bits(&hooks).map_err(|error| raise(&error))?;
        let node = node.map(|node| node.node("start")).transpose()?.map(|(_, node)| node.clone());
        let (cell, shared) = (Arc::clone(&self.inner), Arc::clone(&environment.shared));
        environment.shared.begin("start", move |opened| {
            let shutdown_timeout = config.shutdown_timeout;
            let mut builder = Hub::builder(config).host_hooks(hooks);
            if let Some(node) = &node {
                builder = builder.node(node);
            }
            for kind in kinds {
                builder = builder.kind_info(kind);
            }
            for (family, name) in strategies {
                builder = builder.strategy_info(family, &name);
            }
            let (hub, queue) = builder.start_with_queue()?;
            let bell = Arc::new(Bell::default());
            let (rung, environment) = (Arc::clone(&bell), Arc::clone(&shared));
            queue.set_doorbell(Box::new(move || {
                if rung.is_due() {
                    environment.ring();
                }
            }));
            shared.opened(opened, Opened::Hub(hub.clone()));
            // What came before the bell was set is found by the first look, which follows this answer.
            let _ = cell.set(Inner { hub, queue, bell, shutdown_timeout, opened });
            Ok(Cell::Null)
        })
    }

    /// Drains, leaves and stops; answers the report.
    #[napi(catch_unwind)]
    pub fn stop(&self, environment: &Environment, timeout_ms: Option<f64>) -> napi::Result<u32> {
        let inner = self.inner("stop")?;
        let timeout = timeout_ms.map_or(inner.shutdown_timeout, ms);
        let (hub, opened, shared) = (inner.hub.clone(), inner.opened, Arc::clone(&environment.shared));
        environment.shared.begin("stop", move |_| {
            let report = hub.stop(timeout);
            if !hub.is_alive() {
                shared.closed(opened);
            }
            report.map(|report| Cell::json(&report))
        })
    }
}
