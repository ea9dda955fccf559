//! A hub: its operations, its local reads, and its queue.

mod operations;
mod pulling;
mod reads;

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use process_hub::config::HubConfig;
use process_hub::error::{Error, ErrorKind};
use process_hub::host::call::KindInfo;
use process_hub::host::queue::{HostItem, HostQueue};
use process_hub::hub::Hub;
use process_hub::ids::{KindName, RequestId};
use process_hub::strategy::Family;
use pyo3::prelude::*;

use crate::errors::raise;
use crate::fork::Generation;
use crate::node::NativeNode;
use crate::pool::{Pool, Worker};
use crate::wait;

/// A running hub. In a forked process it is neither used nor dropped: its runtime's threads do not exist there.
#[pyclass(frozen, module = "process_hub._native")]
pub(crate) struct NativeHub {
    inner: Option<Inner>,
    generation: Generation,
}

struct Inner {
    hub: Hub,
    queue: HostQueue,
    pool: Pool,
    shutdown_timeout: Duration,
    /// Specs that were refused here, for the answers of their requests.
    refused: Mutex<BTreeMap<RequestId, Vec<Error>>>,
    /// Items that wait until their thread has started another one.
    held: Mutex<BTreeMap<Worker, HostItem>>,
}

impl Drop for NativeHub {
    fn drop(&mut self) {
        if self.generation.is_past() {
            std::mem::forget(self.inner.take());
        }
    }
}

impl NativeHub {
    fn inner(&self, py: Python<'_>, operation: &str) -> PyResult<&Inner> {
        self.generation.check(operation).map_err(|error| raise(py, &error))?;
        let closed = || Error::new(ErrorKind::Closed, operation, "the hub was stopped");
        self.inner.as_ref().ok_or_else(|| raise(py, &closed()))
    }
}

/// Name, whether it has a state, whether it has a body.
type KindRow = (String, bool, bool);

fn kind_infos(rows: Vec<KindRow>) -> Result<Vec<KindInfo>, Error> {
    rows.into_iter()
        .map(|(name, has_state, has_run)| {
            let name = KindName::new(name)?;
            Ok(KindInfo { name, has_state, has_run })
        })
        .collect()
}

/// Families and names of strategies.
fn strategy_infos(rows: Vec<(String, String)>) -> Result<Vec<(Family, String)>, Error> {
    rows.into_iter().map(|(family, name)| Ok((Family::parse(&family)?, name))).collect()
}

#[pymethods]
impl NativeHub {
    /// Starts the hub.
    #[new]
    fn new(
        py: Python<'_>,
        config: &str,
        kinds: Vec<KindRow>,
        strategies: Vec<(String, String)>,
        node: Option<&Bound<'_, NativeNode>>,
    ) -> PyResult<Self> {
        let config = HubConfig::from_text(config).map_err(|error| raise(py, &error))?;
        let kinds = kind_infos(kinds).map_err(|error| raise(py, &error))?;
        let strategies = strategy_infos(strategies).map_err(|error| raise(py, &error))?;
        let node = match node {
            Some(node) => Some(node.get().node(py, "start")?.clone()),
            None => None,
        };
        let (threads, shutdown_timeout) = (config.host_threads, config.shutdown_timeout);
        let (hub, queue) = wait::on_thread(py, "start", move || {
            let mut builder = Hub::builder(config);
            if let Some(node) = &node {
                builder = builder.node(node);
            }
            for kind in kinds {
                builder = builder.kind_info(kind);
            }
            for (family, name) in strategies {
                builder = builder.strategy_info(family, &name);
            }
            builder.start_with_queue()
        })?
        .map_err(|error| raise(py, &error))?;
        Ok(Self {
            inner: Some(Inner {
                hub,
                queue,
                pool: Pool::new(threads, process_hub::hub::now),
                shutdown_timeout,
                refused: Mutex::default(),
                held: Mutex::default(),
            }),
            generation: Generation::present(),
        })
    }
}
