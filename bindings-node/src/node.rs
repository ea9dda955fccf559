//! A node that several hubs share.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use napi_derive::napi;
use process_hub::config::NodeSetup;
use process_hub::error::{Error, ErrorKind};
use process_hub::hub::Node;

use crate::cell::Cell;
use crate::environment::{Environment, Opened};
use crate::errors::raise;

/// How long leaving may take by default.
const STOP_TIME: Duration = Duration::from_secs(60);

/// A node: begun by `start`, there once that was answered.
#[napi]
pub struct NativeNode {
    node: Arc<OnceLock<(u32, Node)>>,
}

impl NativeNode {
    pub(crate) fn node(&self, operation: &str) -> napi::Result<&(u32, Node)> {
        let missing = || raise(&Error::new(ErrorKind::NotStarted, operation, "the node was not started"));
        self.node.get().ok_or_else(missing)
    }
}

#[napi]
impl NativeNode {
    #[napi(constructor, catch_unwind)]
    #[allow(clippy::new_without_default, reason = "made by JavaScript only")]
    pub fn new() -> Self {
        Self { node: Arc::default() }
    }

    /// Listens, and begins to look for the other nodes; answers null.
    #[napi(catch_unwind)]
    pub fn start(&self, environment: &Environment, config: String) -> napi::Result<u32> {
        let setup = NodeSetup::from_text(&config).map_err(|error| raise(&error))?;
        let (cell, shared) = (Arc::clone(&self.node), Arc::clone(&environment.shared));
        environment.shared.begin("start_node", move |number| {
            let node = Node::start(&setup.node, &setup.profile, setup.hubs_discover_interval)?;
            shared.opened(number, Opened::Node(node.clone()));
            let _ = cell.set((number, node));
            Ok(Cell::Null)
        })
    }

    /// Leaves the cluster; answers null.
    #[napi(catch_unwind)]
    pub fn stop(&self, environment: &Environment, timeout_ms: Option<f64>) -> napi::Result<u32> {
        let (opened, node) = self.node("stop_node")?.clone();
        let timeout = timeout_ms.map_or(STOP_TIME, crate::hub::ms);
        let shared = Arc::clone(&environment.shared);
        environment.shared.begin("stop_node", move |_| {
            if !node.stop(timeout) {
                let message = format!("the node did not leave within {} ms", timeout.as_millis());
                return Err(Error::new(ErrorKind::Timeout, "stop_node", message));
            }
            shared.closed(opened);
            Ok(Cell::Null)
        })
    }

    #[napi(getter, catch_unwind)]
    pub fn name(&self) -> napi::Result<String> {
        Ok(self.node("name")?.1.name().to_string())
    }

    #[napi(getter, catch_unwind)]
    pub fn address(&self) -> napi::Result<String> {
        Ok(self.node("address")?.1.address().to_owned())
    }
}
