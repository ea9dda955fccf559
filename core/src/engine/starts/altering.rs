//! What becomes of specs before their start is planned: the metadata of the request, and `child_data_alter`.

use std::sync::Arc;

use serde_json::json;

use super::State;
use crate::engine::Engine;
use crate::engine::calls::split;
use crate::engine::requests::Request;
use crate::host::call::HostAnswer;
use crate::ids::{ChildId, NodeName};
use crate::observe::HookName;
use crate::payload::{ContentType, Payload};
use crate::spec::ChildSpec;

impl Engine {
    /// Shows every spec of a request to the interceptors before it is planned.
    pub(super) fn ask_interceptors(&mut self, id: u64) {
        let Some(Request::Start(request)) = self.requests.get_mut(&id) else {
            return;
        };
        let mut items: Vec<(u32, Arc<ChildSpec>)> = Vec::with_capacity(request.items.len());
        for (number, item) in (0..).zip(&mut request.items) {
            item.state = State::Altering;
            items.push((number, item.spec.clone()));
        }
        if self.strategies.distribution.is_assigned() {
            self.assign_items(id, &mut items);
        }
        let specs: Vec<Arc<ChildSpec>> = items.into_iter().map(|(_, spec)| spec).collect();
        let borrowed: Vec<&ChildSpec> = specs.iter().map(AsRef::as_ref).collect();
        let owners = self.owners_of(&borrowed);
        for (at, spec) in specs.into_iter().enumerate() {
            let placement = owners.get(at).into_iter().chain(owners.others(at));
            let nodes: Vec<NodeName> = placement.map(|node| node.name.clone()).collect();
            self.fire(HookName::ChildDataAlter, || json!({"spec": spec.to_json(), "nodes": nodes}));
            self.call_interceptors(id, at as u32, spec, nodes);
        }
    }

    /// The interceptors are done with a spec. One that fails, is late, or answers what is no spec of this child
    /// changes nothing, and that is told.
    pub(in crate::engine) fn spec_altered(&mut self, id: u64, item: u32, answer: HostAnswer) {
        let Some(Request::Start(request)) = self.requests.get_mut(&id) else {
            return;
        };
        let Some(item) = request.items.get_mut(item as usize) else {
            return;
        };
        let is_assigned = self.strategies.distribution.is_assigned();
        let child = item.spec.id.clone();
        let altered = match split(answer) {
            Ok(None) => Ok(None),
            Ok(Some(document)) => read_altered(&child, &document).map(Some),
            Err(failure) => Err(failure.message),
        };
        let mut failure = None;
        if matches!(item.state, State::Altering) {
            item.state = State::Planned;
            match altered {
                Ok(Some(mut spec)) => {
                    // What the document cannot tell, or tells in other words, stays as it is.
                    let is_same = item.spec.args.content_type != ContentType::Json
                        || spec.to_json()["args"] == item.spec.to_json()["args"];
                    if is_same {
                        spec.args = item.spec.args.clone();
                    }
                    if is_assigned {
                        spec.mapping.clone_from(&item.spec.mapping);
                        if (&spec.kind, &spec.require) != (&item.spec.kind, &item.spec.require) {
                            // Others may run it now.
                            item.assigned_in = 0;
                        }
                    }
                    item.spec = Arc::new(spec);
                }
                Ok(None) => {}
                Err(message) => failure = Some(message),
            }
        }
        let is_last = !request.items.iter().any(|item| matches!(item.state, State::Altering));
        if let Some(message) = failure {
            let child = self.children.intern(&child);
            self.tell_failure(child, "child_data_alter", &message);
        }
        if is_last {
            self.plan_start(id);
        }
    }
}

/// The spec that the interceptors made of the one of `child`.
fn read_altered(child: &ChildId, document: &Payload) -> Result<ChildSpec, String> {
    let value = serde_json::from_slice(&document.data).map_err(|error| format!("not JSON: {error}"))?;
    let spec = ChildSpec::from_json(&value).map_err(|error| error.message)?;
    if spec.id != *child {
        return Err(format!("the id cannot be changed, from {child} to {}", spec.id));
    }
    Ok(spec)
}

/// Fills the metadata keys that a spec leaves out.
pub(super) fn with_metadata(
    spec: Arc<ChildSpec>,
    defaults: Option<&serde_json::Map<String, serde_json::Value>>,
) -> Arc<ChildSpec> {
    let Some(defaults) = defaults.filter(|defaults| !defaults.is_empty()) else {
        return spec;
    };
    let serde_json::Value::Object(mut metadata) = spec.metadata_value() else {
        return spec;
    };
    for (key, value) in defaults {
        metadata.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let mut spec = Arc::unwrap_or_clone(spec);
    spec.metadata = Some(serde_json::Value::Object(metadata).to_string().into());
    Arc::new(spec)
}
