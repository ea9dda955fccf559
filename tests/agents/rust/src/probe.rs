//! The child that every agent runs.

use std::backtrace::Backtrace;
use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Duration;

use process_hub::host::call::{HandoverTarget, HostFailure, StopReason};
use process_hub::host::{Body, Child, Context, Kind, kind_fn};
use process_hub::payload::Payload;
use process_hub::spec::Mode;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{lines, payloads};

const MAX_LOG_ENTRIES: usize = 1000;

type Data = Map<String, Value>;
type Done<T = ()> = Result<T, HostFailure>;

/// The kind of [`Probe`].
pub(crate) fn kind() -> impl Kind + 'static {
    kind_fn(true, || Box::new(Probe::default())).with_run()
}

/// Holds `data` and tells what happens to it.
#[derive(Default)]
struct Probe {
    ctx: Option<Context>,
    args: Value,
    data: Data,
    instance: String,
    log: VecDeque<Value>,
}

fn failure(text: impl Into<String>) -> HostFailure {
    HostFailure { trace: Some(Backtrace::force_capture().to_string()), ..HostFailure::new(text) }
}

fn sleep(ms: &Value) {
    std::thread::sleep(Duration::from_millis(ms.as_u64().unwrap_or_default()));
}

/// What `merge` makes of two data.
fn merged(own: &Data, other: Data, how: &str) -> Data {
    let mut result = if how == "replace" { Data::new() } else { own.clone() };
    for (key, value) in other {
        let mine = result.get_mut(&key);
        match (how, mine, value) {
            ("max", Some(Value::Number(mine)), Value::Number(value)) => {
                if mine.as_f64() < value.as_f64() {
                    *mine = value;
                }
            }
            ("union", Some(Value::Array(mine)), Value::Array(values)) => {
                for value in values {
                    if !mine.contains(&value) {
                        mine.push(value);
                    }
                }
            }
            (_, _, value) => drop(result.insert(key, value)),
        }
    }
    result
}

fn data_of(state: &Payload) -> Done<Data> {
    match payloads::value_of(state) {
        Some(Value::Object(mut state)) => match state.remove("data") {
            Some(Value::Object(data)) => Ok(data),
            _ => Err(failure("the state has no data")),
        },
        _ => Err(failure("the state is no object")),
    }
}

/// The text of a value that serializes as one, such as a mode.
fn text(value: impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn random_text() -> String {
    let mut bytes = [0; 8];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut it| std::io::Read::read_exact(&mut it, &mut bytes));
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    read.map_or_else(|error| error.to_string(), |()| text)
}

impl Child for Probe {
    fn start(&mut self, ctx: &Context, args: Payload) -> Done {
        self.ctx = Some(ctx.clone());
        self.args = payloads::value_of(&args).unwrap_or_default();
        self.data = self.args["data"].as_object().cloned().unwrap_or_default();
        self.instance = random_text();
        self.tell("start", text(ctx.start_reason()));
        sleep(&self.args["start_delay_ms"]);
        match self.args["fail"].as_str() {
            Some(text) => Err(failure(text)),
            None => Ok(()),
        }
    }

    fn body(&mut self) -> Option<Body> {
        self.note("run", Value::Null);
        let wanted = self.args["run"].clone();
        Some(Box::new(move |ctx| {
            let Some(ms) = wanted["ms"].as_u64() else {
                while !ctx.wait_cancelled(Duration::from_secs(3600)) {}
                return Ok(());
            };
            if ctx.wait_cancelled(Duration::from_millis(ms)) || wanted["then"] != "throw" {
                return Ok(());
            }
            Err(failure("the body throws"))
        }))
    }

    fn handle(&mut self, ctx: &Context, message: Payload) -> Done<Payload> {
        let Some(value) = payloads::value_of(&message) else {
            self.note("handle", Value::Null);
            return Ok(message);
        };
        self.note("handle", value["op"].clone());
        self.perform(ctx, &value).map(|reply| Payload::from_value(&reply))
    }

    fn redundancy_signal(&mut self, mode: Mode) {
        self.tell("redundancy_signal", text(mode));
        self.hang("signal");
    }

    fn handover_start(&mut self, target: HandoverTarget) {
        let detail = match target {
            HandoverTarget::Node { node, .. } => node.to_string(),
            HandoverTarget::Error(error) => error,
        };
        self.note("handover_start", detail.into());
    }

    fn prepare_handover_state(&mut self) -> Done<Option<Payload>> {
        let has_state = self.args["no_state"] != true;
        self.tell("prepare_handover_state", if has_state { self.data.clone().into() } else { Value::Null });
        self.hang("prepare");
        if !has_state {
            return Ok(None);
        }
        let mut state = json!({"data": self.data});
        if let Some(pad_bytes) = self.args["pad_bytes"].as_u64().and_then(|count| usize::try_from(count).ok()) {
            state["pad"] = "x".repeat(pad_bytes).into();
        }
        Ok(Some(Payload::from_value(&state)))
    }

    fn alter_handover_state(&mut self, state: Payload) -> Done {
        let data = data_of(&state)?;
        self.tell("alter_handover_state", data.clone().into());
        self.hang("alter");
        self.data = merged(&self.data, data, self.args["merge"].as_str().unwrap_or("replace"));
        Ok(())
    }

    fn resolve_conflict(&mut self, state: Payload) -> Done {
        let data = data_of(&state)?;
        self.note("resolve_conflict", data.clone().into());
        if let Some(how) = self.args["merge"].as_str() {
            self.data = merged(&self.data, data, how);
        }
        Ok(())
    }

    fn stop(&mut self, reason: StopReason) {
        self.tell("stop", text(reason));
        self.hang("stop");
    }
}

impl Probe {
    fn note(&mut self, what: &str, detail: Value) {
        if self.log.len() == MAX_LOG_ENTRIES {
            self.log.pop_front();
        }
        self.log.push_back(json!({"what": what, "detail": detail}));
    }

    fn tell(&mut self, what: &str, detail: Value) {
        self.note(what, detail.clone());
        let Some(ctx) = &self.ctx else { return };
        lines::write(&json!({
            "event": "child", "hub_id": ctx.hub_id(), "child_id": ctx.child_id(), "node": ctx.node(),
            "instance": self.instance, "epoch": ctx.epoch(), "what": what, "detail": detail,
        }));
    }

    fn hang(&self, callback: &str) {
        if self.args["hang_in"] == callback {
            sleep(&self.args["ms"]);
        }
    }

    fn perform(&mut self, ctx: &Context, message: &Value) -> Done<Value> {
        let key = || message["key"].as_str().ok_or_else(|| failure("`key` must be a text"));
        match message["op"].as_str() {
            Some("put") => drop(self.data.insert(key()?.into(), message["value"].clone())),
            Some("add") => return self.add(key()?, &message["n"]),
            Some("get") => return Ok(self.data.get(key()?).cloned().unwrap_or_default()),
            Some("state") => return Ok(self.data.clone().into()),
            Some("who") => {
                return Ok(json!({
                    "node": ctx.node(), "language": "rust", "pid": std::process::id(), "epoch": ctx.epoch(),
                    "mode": ctx.mode(), "start_reason": ctx.start_reason(), "instance": self.instance,
                }));
            }
            Some("log") => return Ok(self.log.iter().cloned().collect()),
            Some("throw") => return Err(failure(message["text"].as_str().unwrap_or_default())),
            Some("crash") => ctx.exit(Some("the probe crashes".into())),
            Some("exit_process") => std::process::exit(1),
            Some("sleep" | "block") => sleep(&message["ms"]),
            Some("stop_self") => ctx.stop_self(),
            Some("echo") => return Ok(message["value"].clone()),
            Some("call") => {
                let child = message["child_id"].as_str().ok_or_else(|| failure("`child_id` must be a text"))?;
                let timeout = Duration::from_millis(message["timeout_ms"].as_u64().unwrap_or(5000));
                let reply = ctx.call(child, Payload::from_value(&message["message"]), timeout);
                return reply.map(|reply| payloads::shown(&reply)).map_err(|error| failure(error.to_string()));
            }
            _ => return Err(failure(format!("no such op: {message}"))),
        }
        Ok("ok".into())
    }

    fn add(&mut self, key: &str, n: &Value) -> Done<Value> {
        let value = self.data.get(key).cloned().unwrap_or_else(|| 0.into());
        let sum = match (value.as_i64(), n.as_i64()) {
            (Some(value), Some(n)) => value.checked_add(n).map(Value::from),
            _ => value.as_f64().zip(n.as_f64()).map(|(value, n)| (value + n).into()),
        };
        let sum = sum.ok_or_else(|| failure(format!("cannot add {n} to {value}")))?;
        self.data.insert(key.into(), sum.clone());
        Ok(sum)
    }
}
