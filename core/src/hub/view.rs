//! What is read without asking the engine (A4): the rows of the registry and the hub's condition.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use parking_lot::RwLock;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::engine::HubStatus;
use crate::ids::{ChildId, NodeName, NodeRef};
use crate::spec::Row;

/// A one-shot hash for short texts; the default one takes longer than the rest of a lookup. The seed is random
/// per hub, so that nobody outside can choose ids that collide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextHash {
    seed: u64,
}

impl TextHash {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed }
    }
}

/// The state of [`TextHash`].
#[derive(Debug)]
pub(crate) struct TextHasher(u64);

impl BuildHasher for TextHash {
    type Hasher = TextHasher;

    fn build_hasher(&self) -> TextHasher {
        TextHasher(self.seed)
    }
}

impl Hasher for TextHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    /// The end mark of a text adds nothing: the length is part of its hash.
    fn write_u8(&mut self, _mark: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Writes rows.
pub(crate) struct Publisher<'a>(papaya::HashMapRef<'a, ChildId, Arc<Row>, TextHash, papaya::LocalGuard<'a>>);

impl Publisher<'_> {
    /// Writes the row of a child, or removes it.
    pub(crate) fn publish(&self, child: ChildId, row: Option<Arc<Row>>) {
        match row {
            Some(row) => {
                self.0.insert(child, row);
            }
            None => {
                self.0.remove(&child);
            }
        }
    }
}

/// The published snapshot of one hub.
#[derive(Debug)]
pub(crate) struct View {
    rows: papaya::HashMap<ChildId, Arc<Row>, TextHash>,
    status: RwLock<Arc<HubStatus>>,
}

impl View {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rows: papaya::HashMap::with_hasher(TextHash { seed }), status: RwLock::default() }
    }

    /// What writes rows; for one turn of the driver, which then enters the map once.
    pub(crate) fn publisher(&self) -> Publisher<'_> {
        Publisher(self.rows.pin())
    }

    pub(crate) fn set_status(&self, status: HubStatus) {
        *self.status.write() = Arc::new(status);
    }

    pub(crate) fn status(&self) -> Arc<HubStatus> {
        Arc::clone(&self.status.read())
    }

    pub(crate) fn lookup(&self, child: &str) -> Option<Arc<Row>> {
        self.rows.pin().get(child).map(Arc::clone)
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn all(&self) -> BTreeMap<ChildId, Arc<Row>> {
        let rows = self.rows.pin();
        rows.iter().map(|(id, row)| (id.clone(), Arc::clone(row))).collect()
    }

    /// The children that have an instance on `node`, in the order of their ids.
    pub(crate) fn on_node(&self, node: &NodeName) -> Vec<ChildId> {
        let rows = self.rows.pin();
        let mut ids: Vec<ChildId> = rows
            .iter()
            .filter(|(_, row)| row.instances.iter().any(|instance| instance.node == *node))
            .map(|(id, _)| id.clone())
            .collect();
        ids.sort_unstable();
        ids
    }

    /// The rows whose metadata `accepts`, in the order of their ids.
    pub(crate) fn by_metadata(
        &self,
        accepts: impl Fn(&serde_json::Map<String, serde_json::Value>) -> bool,
    ) -> Vec<Arc<Row>> {
        let rows = self.rows.pin();
        let mut found: Vec<Arc<Row>> = rows
            .values()
            .filter(|row| row.spec.metadata_value().as_object().is_some_and(&accepts))
            .map(Arc::clone)
            .collect();
        found.sort_unstable_by(|a, b| a.spec.id.cmp(&b.spec.id));
        found
    }

    pub(crate) fn members(&self) -> Vec<NodeRef> {
        self.status.read().members.clone()
    }
}
