//! Operations: each becomes one command of the core and returns the number under which its answer comes out of the
//! queue.

use std::sync::Arc;

use napi_derive::napi;
use process_hub::engine::{Command, MessageCommand, PlanChange, Recipient, StartOptions};
use process_hub::error::{Error, ErrorKind};
use process_hub::hub::SpecList;
use process_hub::ids::{ChildId, NodeName, RequestId};
use process_hub::payload::Payload;
use process_hub::spec::{ChildSpec, StartResult};
use serde_json::Value;

use super::{NativeHub, hook_bits, kind_infos, ms};
use crate::cell::Cell;
use crate::errors::{invalid_argument, raise};

fn parse(operation: &str, text: &str) -> Result<Value, Error> {
    serde_json::from_str(text).map_err(|error| invalid_argument(operation, error.to_string()))
}

fn child_ids(ids: Vec<String>) -> Result<Vec<ChildId>, Error> {
    ids.into_iter().map(ChildId::new).collect()
}

/// Reads a spec; `[null, problem]` for its arguments says that a part of it has no JSON form.
fn read_spec(document: &Value, args: Cell) -> Result<ChildSpec, Error> {
    let named = |error: Error| match document["id"].as_str() {
        Some(id) => error.with_child(id),
        None => error,
    };
    if let Cell::List(parts) = &args
        && let [Cell::Null, Cell::Text(problem)] = parts.as_slice()
    {
        return Err(named(Error::new(ErrorKind::NotEncodable, "start_children", problem)));
    }
    let spec = ChildSpec::from_json(document).map_err(named)?;
    match args.into_payload() {
        Ok(Some(args)) => Ok(spec.with_args(args)),
        Ok(None) => Ok(spec),
        Err(message) => Err(named(invalid_argument("start_children", message))),
    }
}

/// Reads the specs of a request; one that is none refuses no other.
fn read_specs(specs: &str, args: Vec<Cell>) -> Result<SpecList, Error> {
    let documents: Vec<Value> =
        serde_json::from_str(specs).map_err(|error| invalid_argument("start_children", error.to_string()))?;
    let mut args = args.into_iter();
    let mut list = SpecList::default();
    for document in documents {
        match read_spec(&document, args.next().unwrap_or(Cell::Null)) {
            Ok(spec) => list.specs.push(Arc::new(spec)),
            Err(error) => list.refused.push(error),
        }
    }
    Ok(list)
}

/// Makes the command of a message; `operation` names it in errors.
fn message_command(
    operation: &str,
    child: &str,
    message: Cell,
    timeout_ms: f64,
    recipient: Recipient,
    chain: Option<Vec<String>>,
) -> Result<MessageCommand, Error> {
    let chain = child_ids(chain.unwrap_or_default())?;
    let id = ChildId::new(child)?;
    let message = message.into_payload().map_err(|message| invalid_argument(operation, message).with_child(child))?;
    let message = message.unwrap_or_else(|| Payload::json("null"));
    Ok(MessageCommand { child: id, message, recipient, timeout: ms(timeout_ms), chain: chain.into() })
}

fn recipient(node: Option<String>, all: bool) -> Result<Recipient, Error> {
    match (node, all) {
        (None, false) => Ok(Recipient::Active),
        (None, true) => Ok(Recipient::All),
        (Some(node), false) => NodeName::new(node).map(Recipient::Node),
        (Some(_), true) => Err(invalid_argument("send", "`node` and `all` exclude each other")),
    }
}

impl NativeHub {
    fn request(&self, operation: &str, command: Result<Command, Error>) -> napi::Result<f64> {
        let hub = &self.inner(operation)?.hub;
        let request = command.and_then(|command| hub.request_notify(command));
        request.map(number).map_err(|error| raise(&error))
    }
}

#[allow(clippy::cast_precision_loss, reason = "requests are counted from one")]
fn number(request: RequestId) -> f64 {
    request.0 as f64
}

#[napi]
impl NativeHub {
    /// Starts what is a spec. Returns the number of the request and the rows of what was refused, or null and the
    /// whole result where the refusals leave nothing to start.
    #[napi(catch_unwind)]
    pub fn start_children(&self, specs: String, args: Vec<Cell>, options: String) -> napi::Result<Vec<Cell>> {
        const OPERATION: &str = "start_children";
        let options = parse(OPERATION, &options).and_then(|options| StartOptions::from_json(&options));
        let options = options.map_err(|error| raise(&error))?;
        let list = read_specs(&specs, args).map_err(|error| raise(&error))?;
        if let Some(result) = list.refusal(&options) {
            self.inner(OPERATION)?;
            return Ok(vec![Cell::Null, Cell::text(result.to_json(&list.refused).to_string())]);
        }
        let refused = StartResult::default().to_json(&list.refused)["errors"].to_string();
        let request = self.request(OPERATION, Ok(Command::Start(list.specs, options)))?;
        Ok(vec![Cell::Number(request), Cell::text(refused)])
    }

    #[napi(catch_unwind)]
    pub fn stop_children(&self, ids: Vec<String>, timeout_ms: f64) -> napi::Result<f64> {
        self.request("stop_children", child_ids(ids).map(|ids| Command::Stop(ids, ms(timeout_ms))))
    }

    #[napi(catch_unwind)]
    pub fn call(
        &self,
        child_id: String,
        message: Cell,
        timeout_ms: f64,
        node: Option<String>,
        chain: Option<Vec<String>>,
    ) -> napi::Result<f64> {
        let command =
            recipient(node, false).and_then(|to| message_command("call", &child_id, message, timeout_ms, to, chain));
        self.request("call", command.map(Command::Call))
    }

    #[napi(catch_unwind)]
    pub fn send(
        &self,
        child_id: String,
        message: Cell,
        timeout_ms: f64,
        node: Option<String>,
        all: bool,
        chain: Option<Vec<String>>,
    ) -> napi::Result<f64> {
        let command =
            recipient(node, all).and_then(|to| message_command("send", &child_id, message, timeout_ms, to, chain));
        self.request("send", command.map(Command::Send))
    }

    #[napi(catch_unwind)]
    pub fn which_children(&self, timeout_ms: f64) -> napi::Result<f64> {
        self.request("which_children", Ok(Command::WhichChildren(ms(timeout_ms))))
    }

    #[napi(catch_unwind)]
    pub fn drain(&self, timeout_ms: f64) -> napi::Result<f64> {
        self.request("drain", Ok(Command::Drain(ms(timeout_ms))))
    }

    #[napi(catch_unwind, js_name = "where")]
    pub fn where_is(&self, child_id: String) -> napi::Result<f64> {
        self.request("where", ChildId::new(child_id).map(Command::Where))
    }

    #[napi(catch_unwind)]
    pub fn plan(&self, change: String) -> napi::Result<f64> {
        let change = parse("plan", &change).and_then(|change| PlanChange::from_json(&change));
        self.request("plan", change.map(Command::Plan))
    }

    #[napi(catch_unwind)]
    pub fn sync(&self, timeout_ms: f64) -> napi::Result<f64> {
        self.request("sync", Ok(Command::Sync(ms(timeout_ms))))
    }

    #[napi(catch_unwind)]
    pub fn acknowledge_loss(&self, child_id: String) -> napi::Result<f64> {
        self.request("acknowledge_loss", ChildId::new(child_id).map(Command::AcknowledgeLoss))
    }

    #[napi(catch_unwind)]
    pub fn reset_cluster_size(&self, size: i64) -> napi::Result<f64> {
        self.request("reset_cluster_size", Command::reset_cluster_size(size))
    }

    #[napi(catch_unwind)]
    pub fn register(&self, kinds: String) -> napi::Result<f64> {
        self.request("register", kind_infos(&kinds).map(Command::Register))
    }

    /// Which hooks the queue shall deliver.
    #[napi(catch_unwind)]
    pub fn subscribe_hooks(&self, names: Vec<String>) -> napi::Result<()> {
        let bits = hook_bits(&names).map_err(|error| raise(&error))?;
        self.inner("on")?.hub.subscribe_hooks(bits);
        Ok(())
    }

    /// Says that nobody waits for a request any more.
    #[napi(catch_unwind)]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number this hub gave")]
    pub fn cancel(&self, request: f64) -> napi::Result<()> {
        self.inner("cancel")?.hub.cancel(RequestId(request as u64));
        Ok(())
    }
}
