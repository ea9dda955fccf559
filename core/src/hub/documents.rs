//! What operations take and answer, as JSON documents: for hosts of other languages.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::engine::{ChildMapping, IfExists, OnFailure, Outcome, PlanChange, StartOptions};
use crate::error::{Error, ErrorKind};
use crate::ids::NodeName;
use crate::payload::Payload;
use crate::spec::{ChildSpec, StartResult};

const START: &str = "start_children";

fn refuse(operation: &str, message: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidArgument, operation, message.to_string())
}

impl StartOptions {
    /// Reads the options of `start_children`: `{"timeout_ms", "check_existing", "if_exists": "error" | "return",
    /// "on_failure": "continue" | "rollback", "metadata", "child_mapping": {id: [node, …], …}}`; what is left out or null
    /// has its default.
    ///
    /// # Errors
    /// `invalid_argument` naming the option; `invalid_child_mapping` saying what is wrong with that one.
    pub fn from_json(document: &Value) -> Result<Self, Error> {
        let mut options = Self::default();
        let Value::Object(document) = document else {
            return Err(refuse(START, format!("the options must be an object, not {document}")));
        };
        for (key, value) in document.iter().filter(|(_, value)| !value.is_null()) {
            let bad = |what: &str| refuse(START, format!("`{key}` must be {what}, not {value}"));
            match key.as_str() {
                "timeout_ms" => {
                    let ms = value.as_u64().ok_or_else(|| bad("a whole number"))?;
                    options.timeout = Duration::from_millis(ms);
                }
                "check_existing" => options.check_existing = value.as_bool().ok_or_else(|| bad("true or false"))?,
                "if_exists" => {
                    options.if_exists = match value.as_str() {
                        Some("error") => IfExists::Error,
                        Some("return") => IfExists::Return,
                        Some(_) | None => return Err(bad("\"error\" or \"return\"")),
                    };
                }
                "on_failure" => {
                    options.on_failure = match value.as_str() {
                        Some("continue") => OnFailure::Continue,
                        Some("rollback") => OnFailure::Rollback,
                        Some(_) | None => return Err(bad("\"continue\" or \"rollback\"")),
                    };
                }
                "metadata" => {
                    let metadata: Map<_, _> = value.as_object().ok_or_else(|| bad("an object"))?.clone();
                    options.metadata = Some(metadata);
                }
                "child_mapping" => options.child_mapping = Some(child_mapping(value)?),
                other => return Err(refuse(START, format!("there is no option `{other}`"))),
            }
        }
        Ok(options)
    }
}

/// Reads a `child_mapping`: `{id: [node, …], …}`.
///
/// # Errors
/// `invalid_child_mapping` saying what is wrong.
fn child_mapping(document: &Value) -> Result<ChildMapping, Error> {
    ChildMapping::deserialize(document).map_err(|error| {
        let message = format!("`child_mapping` must have a list of node names for each id: {error}");
        Error::new(ErrorKind::InvalidChildMapping, START, message)
    })
}

impl PlanChange {
    /// Reads `{"join": [{"name", "kinds", "weight"}]}` or `{"leave": [name]}`.
    ///
    /// # Errors
    /// `invalid_argument` saying what is wrong.
    pub fn from_json(document: &Value) -> Result<Self, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case", deny_unknown_fields)]
        enum Change {
            Join(Vec<Joining>),
            Leave(Vec<NodeName>),
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Joining {
            name: NodeName,
            kinds: Vec<String>,
            #[serde(default = "one")]
            weight: f64,
        }
        const fn one() -> f64 {
            1.0
        }
        let change = Change::deserialize(document).map_err(|error| refuse("plan", format!("the change: {error}")))?;
        Ok(match change {
            Change::Join(nodes) => {
                Self::Join(nodes.into_iter().map(|node| (node.name, node.kinds, node.weight)).collect())
            }
            Change::Leave(names) => Self::Leave(names),
        })
    }
}

/// The documents of a `start_children`: those that are specs, and why the others are none.
#[derive(Clone, Debug, Default)]
pub struct SpecList {
    /// What can be started.
    pub specs: Vec<Arc<ChildSpec>>,
    /// What cannot, each with the child's id where it has one.
    pub refused: Vec<Error>,
}

impl SpecList {
    /// Reads an array of specs. One that is none refuses no other.
    ///
    /// # Errors
    /// `invalid_argument` when it is no array.
    pub fn from_json(documents: &Value) -> Result<Self, Error> {
        let Value::Array(documents) = documents else {
            return Err(refuse(START, format!("the specs must be an array, not {documents}")));
        };
        let mut list = Self::default();
        for document in documents {
            match ChildSpec::from_json(document) {
                Ok(spec) => list.specs.push(Arc::new(spec)),
                Err(error) => {
                    let id = document.get("id").and_then(Value::as_str);
                    list.refused.push(id.map_or(error.clone(), |id| error.with_child(id)));
                }
            }
        }
        Ok(list)
    }

    /// The result, where the refusals leave nothing to start: all or none is asked for, or none is a spec.
    #[must_use]
    pub fn refusal(&self, options: &StartOptions) -> Option<StartResult> {
        let all_or_none = options.on_failure == OnFailure::Rollback;
        let is_refused = !self.refused.is_empty() && (self.specs.is_empty() || all_or_none);
        is_refused.then(|| StartResult { rollback: all_or_none, ..StartResult::default() })
    }
}

impl StartResult {
    /// The document of the result, with the children that were refused before they reached the hub.
    #[must_use]
    pub fn to_json(&self, refused: &[Error]) -> Value {
        let mut document = to_value(self);
        let rows = refused.iter().map(|error| {
            serde_json::json!({
                "id": error.child_id, "node": null, "kind": error.kind, "message": error.message,
            })
        });
        if let Some(errors) = document["errors"].as_array_mut()
            && !refused.is_empty()
        {
            errors.splice(0..0, rows);
            document["status"] = "error".into();
        }
        document
    }
}

impl Outcome {
    /// The answer as every language shows it: a reply as it is, everything else as its JSON document.
    #[must_use]
    pub fn into_payload(self) -> Payload {
        match self {
            Self::Done => Payload::from_value(&Value::Null),
            Self::Started(result) => Payload::from_value(&result.to_json(&[])),
            Self::Stopped(result) => Payload::from_value(&to_value(&result)),
            Self::Reply(payload) => payload,
            Self::Drained(report) => Payload::from_value(&to_value(&report)),
            Self::Json(value) => Payload::from_value(&value),
            Self::Children(nodes) => Payload::from_value(&to_value(&nodes)),
        }
    }
}

/// The document of one of our values, all of which have one.
fn to_value(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_option_of_a_start_then_read() {
        let document = json!({"timeout_ms": 7, "check_existing": false, "if_exists": "return",
            "on_failure": "rollback", "metadata": {"tag": "x"}, "child_mapping": {"c": ["a", "b"]}});
        let options = StartOptions::from_json(&document).unwrap();
        assert_eq!(options.timeout, Duration::from_millis(7));
        assert!(!options.check_existing);
        assert_eq!((options.if_exists, options.on_failure), (IfExists::Return, OnFailure::Rollback));
        assert_eq!(options.metadata.unwrap()["tag"], "x");
        let mapping = options.child_mapping.unwrap();
        let nodes: Vec<&str> = mapping["c"].iter().map(|node| node.as_str()).collect();
        assert_eq!(nodes, ["a", "b"]);
    }

    #[test]
    fn child_mapping_is_no_map_of_lists_then_invalid_child_mapping() {
        for mapping in
            [json!([]), json!("a"), json!({"c": "a"}), json!({"c": [7]}), json!({"": ["a"]}), json!({"c": [""]})]
        {
            let error = StartOptions::from_json(&json!({ "child_mapping": mapping })).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidChildMapping, "{mapping}");
        }
    }

    #[test]
    fn option_of_a_wrong_form_then_named() {
        for (document, names) in [
            (json!({"timeout_ms": -1}), "timeout_ms"),
            (json!({"if_exists": "maybe"}), "if_exists"),
            (json!({"timeout": 1}), "timeout"),
            (json!([]), "an object"),
        ] {
            let error = StartOptions::from_json(&document).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidArgument);
            assert!(error.message.contains(names), "{}", error.message);
        }
    }

    #[test]
    fn one_document_is_no_spec_then_the_others_are_read_and_it_is_told() {
        let documents = json!([{"id": "a", "kind": "k"}, {"id": "b"}, 7]);
        let list = SpecList::from_json(&documents).unwrap();
        assert_eq!(list.specs.len(), 1);
        assert_eq!(list.refused[0].child_id.as_deref(), Some("b"));
        assert!(list.refusal(&StartOptions::default()).is_none());
        let all = StartOptions { on_failure: OnFailure::Rollback, ..StartOptions::default() };
        let result = list.refusal(&all).unwrap().to_json(&list.refused);
        assert_eq!((&result["status"], &result["rollback"]), (&json!("error"), &json!(true)));
        assert_eq!(result["errors"].as_array().unwrap().len(), 2);
    }
}
