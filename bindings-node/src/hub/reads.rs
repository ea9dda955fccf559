//! Local reads, as JSON: what the hub published, without a wait.

use napi_derive::napi;
use process_hub::ids::NodeName;
use serde::Serialize;

use super::NativeHub;

fn json(value: &impl Serialize) -> napi::Result<String> {
    serde_json::to_string(value).map_err(|error| napi::Error::from_reason(error.to_string()))
}

#[napi]
impl NativeHub {
    #[napi(catch_unwind)]
    pub fn child_lookup(&self, child_id: String) -> napi::Result<Option<String>> {
        let row = self.inner("child_lookup")?.hub.child_lookup(&child_id);
        row.map(|row| json(&*row)).transpose()
    }

    /// The kind of a child, where it is known.
    #[napi(catch_unwind)]
    pub fn kind_of(&self, child_id: String) -> napi::Result<Option<String>> {
        let row = self.inner("child_lookup")?.hub.child_lookup(&child_id);
        Ok(row.map(|row| row.spec.kind.to_string()))
    }

    #[napi(catch_unwind)]
    pub fn process_registry(&self) -> napi::Result<String> {
        let rows: Vec<_> = self.inner("process_registry")?.hub.process_registry().into_values().collect();
        json(&rows)
    }

    #[napi(catch_unwind)]
    pub fn which_children_local(&self) -> napi::Result<String> {
        json(&self.inner("which_children")?.hub.which_children_local())
    }

    #[napi(catch_unwind)]
    pub fn tag_query(&self, tag: String) -> napi::Result<String> {
        json(&self.inner("tag_query")?.hub.tag_query(&tag))
    }

    #[napi(catch_unwind)]
    pub fn metadata_query(&self, key: String) -> napi::Result<String> {
        json(&self.inner("metadata_query")?.hub.metadata_query(&key))
    }

    #[napi(catch_unwind)]
    pub fn nodes(&self, include_local: bool) -> napi::Result<Vec<String>> {
        let names = self.inner("nodes")?.hub.nodes(include_local);
        Ok(names.iter().map(NodeName::to_string).collect())
    }

    #[napi(getter, catch_unwind)]
    pub fn node_name(&self) -> napi::Result<String> {
        Ok(self.inner("node_name")?.hub.node_name().to_string())
    }

    #[napi(getter, catch_unwind)]
    pub fn address(&self) -> napi::Result<String> {
        Ok(self.inner("address")?.hub.address().to_owned())
    }

    #[napi(catch_unwind)]
    pub fn is_alive(&self) -> bool {
        self.inner.get().is_some_and(|inner| inner.hub.is_alive())
    }

    #[napi(catch_unwind)]
    pub fn is_locked(&self) -> napi::Result<bool> {
        Ok(self.inner("is_locked")?.hub.is_locked())
    }

    #[napi(catch_unwind)]
    pub fn is_partitioned(&self) -> napi::Result<bool> {
        Ok(self.inner("is_partitioned")?.hub.is_partitioned())
    }

    #[napi(catch_unwind)]
    pub fn metrics_text(&self) -> napi::Result<String> {
        Ok(self.inner("metrics_text")?.hub.metrics_text())
    }

    #[napi(catch_unwind)]
    pub fn debug_stats(&self) -> napi::Result<String> {
        json(&self.inner("debug_stats")?.hub.debug_stats())
    }
}
