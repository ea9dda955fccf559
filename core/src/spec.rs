//! What is needed to start a child anywhere, and the rows and results users see.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use crate::error::{Error, ErrorKind};
use crate::ids::{ChildId, Epoch, KindName, NodeName};
use crate::payload::{ContentType, Payload};

/// What happens to a child when its body ends or it crashes (R21).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// Always restarted.
    #[default]
    Permanent,
    /// Restarted after a crash only.
    Transient,
    /// Never restarted.
    Temporary,
}

/// What an exception in `handle` does to the instance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The caller gets `child_failed`, the instance lives on with its state.
    #[default]
    Continue,
    /// The caller gets `child_failed` and the instance counts as crashed.
    Restart,
}

/// Longest time a child's `stop` callback gets by default, in milliseconds.
pub const DEFAULT_CHILD_SHUTDOWN_MS: u32 = 5_000;

/// Everything needed to start a child on any node that registered its kind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChildSpec {
    /// The child's id, unique in the hub cluster.
    pub id: ChildId,
    /// The kind of code that runs it.
    pub kind: KindName,
    /// The argument given to `start`.
    pub args: Payload,
    /// A JSON object as text; the key `tag` is what `tag_query` looks for. `None` is the empty object.
    pub metadata: Option<Arc<str>>,
    /// What an exit does.
    pub restart: RestartPolicy,
    /// What an exception in `handle` does.
    pub on_error: OnError,
    /// Labels a node must have to be given the child.
    pub require: BTreeMap<String, String>,
    /// Longest time of the `stop` callback, in milliseconds.
    pub shutdown_ms: u32,
    /// The nodes that `guided` gives the child to, the owner first; empty under other distributions. The
    /// `child_mapping` of a start fills it, so that it goes wherever the spec goes.
    pub mapping: Vec<NodeName>,
}

impl ChildSpec {
    /// A permanent child without arguments.
    ///
    /// # Errors
    /// `invalid_argument` when an id is empty or longer than 255 bytes.
    pub fn new(id: &str, kind: &str) -> Result<Self, Error> {
        Ok(Self {
            id: ChildId::new(id)?,
            kind: KindName::new(kind)?,
            args: Payload::json(&b"null"[..]),
            metadata: None,
            restart: RestartPolicy::default(),
            on_error: OnError::default(),
            require: BTreeMap::new(),
            shutdown_ms: DEFAULT_CHILD_SHUTDOWN_MS,
            mapping: Vec::new(),
        })
    }

    /// Sets the argument.
    #[must_use]
    pub fn with_args(mut self, args: Payload) -> Self {
        self.args = args;
        self
    }

    /// Reads the JSON document of a spec: `{"id", "kind", "args", "metadata", "restart", "on_error",
    /// "require", "shutdown_ms", "mapping"}`; only `id` and `kind` are required, unknown keys are refused.
    ///
    /// # Errors
    /// `invalid_argument` naming the key.
    pub fn from_json(value: &serde_json::Value) -> Result<Self, Error> {
        let refuse = |message: String| Error::new(ErrorKind::InvalidArgument, "child_spec", message);
        let object = value.as_object().ok_or_else(|| refuse("a child spec must be an object".into()))?;
        let text = |key: &str| match object.get(key) {
            Some(serde_json::Value::String(text)) => Ok(text.as_str()),
            Some(other) => Err(refuse(format!("`{key}` must be a text, not {other}"))),
            None => Err(refuse(format!("a child spec needs `{key}`"))),
        };
        let mut spec = Self::new(text("id")?, text("kind")?)?;
        let bad = |key: &str, error: serde_json::Error| refuse(format!("`{key}` of child {}: {error}", spec.id));
        let (mut restart, mut on_error) = (spec.restart, spec.on_error);
        let (mut require, mut shutdown_ms, mut mapping) = (BTreeMap::new(), spec.shutdown_ms, Vec::new());
        for (key, value) in object {
            match key.as_str() {
                "id" | "kind" | "args" | "metadata" => {}
                "restart" => {
                    restart = RestartPolicy::deserialize(value).map_err(|e| bad(key, e))?;
                }
                "on_error" => on_error = OnError::deserialize(value).map_err(|e| bad(key, e))?,
                "require" => require = BTreeMap::deserialize(value).map_err(|e| bad(key, e))?,
                "mapping" => mapping = Vec::deserialize(value).map_err(|e| bad(key, e))?,
                "shutdown_ms" => shutdown_ms = u32::deserialize(value).map_err(|e| bad(key, e))?,
                other => {
                    return Err(refuse(format!("unknown key `{other}` in the spec of {}", spec.id)));
                }
            }
        }
        if let Some(args) = object.get("args") {
            spec.args = Payload::from_value(args);
        }
        spec.metadata = match object.get("metadata") {
            None | Some(serde_json::Value::Null) => None,
            Some(serde_json::Value::Object(map)) if map.is_empty() => None,
            Some(map @ serde_json::Value::Object(_)) => Some(map.to_string().into()),
            Some(other) => {
                return Err(refuse(format!("`metadata` of {} must be an object, not {other}", spec.id)));
            }
        };
        (spec.restart, spec.on_error) = (restart, on_error);
        (spec.require, spec.shutdown_ms, spec.mapping) = (require, shutdown_ms, mapping);
        Ok(spec)
    }

    /// The metadata as a JSON object.
    #[must_use]
    pub fn metadata_value(&self) -> serde_json::Value {
        self.metadata
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_else(|| serde_json::json!({}))
    }

    /// The document [`Self::from_json`] reads. Arguments that are not JSON appear as `null`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let args = match self.args.content_type {
            ContentType::Json => serde_json::from_slice(&self.args.data).unwrap_or_default(),
            ContentType::Bytes | ContentType::Other(_) => serde_json::Value::Null,
        };
        let mut document = serde_json::json!({
            "id": self.id, "kind": self.kind, "args": args, "metadata": self.metadata_value(),
            "restart": self.restart, "on_error": self.on_error, "require": self.require,
            "shutdown_ms": self.shutdown_ms,
        });
        if !self.mapping.is_empty() {
            document["mapping"] = serde_json::json!(self.mapping);
        }
        document
    }
}

/// Whether an instance is the one that is addressed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It handles messages.
    Active,
    /// It stands by.
    Passive,
}

impl Mode {
    /// The name in every language.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
        }
    }
}

/// One instance in a [`Row`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RowInstance {
    /// The node that runs it.
    pub node: NodeName,
    /// Its role.
    pub mode: Mode,
    /// Its fencing number.
    pub epoch: Epoch,
    /// When it became what it is, in Unix milliseconds.
    pub since_ms: u64,
}

/// That a child was restarted without the state it had (R8).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StateLost {
    /// The epoch of the instance that started without the state.
    pub epoch: Epoch,
    /// The counter of the wanted version (R1).
    pub version: u64,
    /// Who had the state.
    pub node: NodeName,
}

/// What the registry knows of one child.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// What is wanted.
    pub spec: Arc<ChildSpec>,
    /// Who runs it, as observed.
    pub instances: Vec<RowInstance>,
    /// Whether its state was lost and not acknowledged since.
    pub state_lost: Option<Arc<StateLost>>,
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(5))?;
        map.serialize_entry("id", &self.spec.id)?;
        map.serialize_entry("spec", &self.spec.to_json())?;
        map.serialize_entry("metadata", &self.spec.metadata_value())?;
        map.serialize_entry("instances", &self.instances)?;
        // The hook tells who had it; the row tells that it is gone.
        let lost = self.state_lost.as_ref();
        let lost = lost.map(|lost| BTreeMap::from([("epoch", lost.epoch.0), ("version", lost.version)]));
        map.serialize_entry("state_lost", &lost)?;
        map.end()
    }
}

/// Where a child was started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StartedInstance {
    /// The node.
    pub node: NodeName,
    /// The fencing number.
    pub epoch: Epoch,
}

/// A child that runs and can be called from here, now (R1).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Started {
    /// The child.
    pub id: ChildId,
    /// Its instances.
    pub instances: Vec<StartedInstance>,
}

/// A child that was stopped everywhere.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stopped {
    /// The child.
    pub id: ChildId,
    /// The nodes that ran it.
    pub nodes: Vec<NodeName>,
}

/// Why one child of a request failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChildError {
    /// The child.
    pub id: ChildId,
    /// The node that answered, where one did.
    pub node: Option<NodeName>,
    /// What went wrong.
    pub kind: ErrorKind,
    /// One line for a person.
    pub message: String,
}

/// The result of `start_children`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StartResult {
    /// The children that run.
    pub started: Vec<Started>,
    /// The children that do not, and why.
    pub errors: Vec<ChildError>,
    /// Whether the started ones were stopped again because of the errors.
    pub rollback: bool,
}

/// The result of `stop_children`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StopResult {
    /// The children that ended.
    pub stopped: Vec<Stopped>,
    /// The children that did not, and why.
    pub errors: Vec<ChildError>,
}

fn status(errors: &[ChildError]) -> &'static str {
    if errors.is_empty() { "ok" } else { "error" }
}

impl Serialize for StartResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("status", status(&self.errors))?;
        map.serialize_entry("started", &self.started)?;
        map.serialize_entry("errors", &self.errors)?;
        map.serialize_entry("rollback", &self.rollback)?;
        map.end()
    }
}

impl Serialize for StopResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("status", status(&self.errors))?;
        map.serialize_entry("stopped", &self.stopped)?;
        map.serialize_entry("errors", &self.errors)?;
        map.end()
    }
}

/// One child and a reason, in a [`DrainReport`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChildReason {
    /// The child.
    pub id: ChildId,
    /// The reason.
    pub why: String,
}

/// What became of each local child in `drain` and `stop`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DrainReport {
    /// Moved with what state they had.
    pub moved: Vec<ChildId>,
    /// Running elsewhere, without their state.
    pub restarted: Vec<ChildReason>,
    /// Stopped here and running nowhere.
    pub stopped: Vec<ChildId>,
    /// Still here, or lost.
    pub failed: Vec<ChildReason>,
}
