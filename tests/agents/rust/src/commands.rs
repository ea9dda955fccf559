//! What this agent does with each command.

use std::sync::Arc;
use std::time::Duration;

use process_hub::config::HubConfig;
use process_hub::engine::{MessageCommand, PlanChange, Recipient, StartOptions};
use process_hub::error::Error;
use process_hub::hub::{Hub, SpecList};
use process_hub::ids::NodeName;
use process_hub::observe::HookName;
use process_hub::payload::Payload;
use serde::Serialize;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::arguments::{Arguments, bad};
use crate::{lines, payloads};

type Answer = Result<Value, Error>;

/// Carries out one request and returns what to answer.
pub(crate) fn perform(agent: &Agent, arguments: &Arguments) -> Answer {
    let command: String = arguments.required("cmd")?;
    match command.as_str() {
        "info" => {
            let version = env!("CARGO_PKG_VERSION");
            Ok(json!({"language": "rust", "version": version, "pid": std::process::id()}))
        }
        "start_hub" => start_hub(agent, arguments),
        _ => {
            let perform = hub_command(&command).ok_or_else(|| bad(format!("no such cmd: {command}")))?;
            let hub_id: String = arguments.required("hub_id")?;
            perform(agent, &agent.hub(&hub_id)?, arguments)
        }
    }
}

fn hub_command(command: &str) -> Option<fn(&Agent, &Hub, &Arguments) -> Answer> {
    Some(match command {
        "start_children" => |_, hub, arguments| start_children(hub, arguments),
        "stop_children" => |_, hub, arguments| stop_children(hub, arguments),
        "child_lookup" => |_, hub, arguments| {
            let id: String = arguments.required("child_id")?;
            document(&open(hub, "child_lookup")?.child_lookup(&id).as_deref())
        },
        "process_registry" => |_, hub, _| {
            let rows = open(hub, "process_registry")?.process_registry();
            rows.iter().map(|(id, row)| Ok((id.to_string(), document(&**row)?))).collect()
        },
        "which_children" => |_, hub, arguments| match arguments.optional::<String>("scope")?.as_deref() {
            None | Some("local") => document(&open(hub, "which_children")?.which_children_local()),
            Some("global") => document(&hub.which_children_global(Duration::from_secs(5)).wait()?),
            Some(other) => Err(bad(format!("`scope` must be local or global, not {other}"))),
        },
        "tag_query" => |_, hub, arguments| {
            let tag: String = arguments.required("tag")?;
            open(hub, "tag_query")?.tag_query(&tag).iter().map(|row| document(&**row)).collect()
        },
        "metadata_query" => |_, hub, arguments| {
            let key: String = arguments.required("key")?;
            open(hub, "metadata_query")?.metadata_query(&key).iter().map(|row| document(&**row)).collect()
        },
        "nodes" => |_, hub, arguments| document(&open(hub, "nodes")?.nodes(arguments.flag("include_local", false)?)),
        "is_alive" => |_, hub, _| Ok(hub.is_alive().into()),
        "is_locked" => |_, hub, _| Ok(open(hub, "is_locked")?.is_locked().into()),
        "is_partitioned" => |_, hub, _| Ok(open(hub, "is_partitioned")?.is_partitioned().into()),
        "call" => |_, hub, arguments| {
            let command = message(arguments, recipient(arguments, false)?)?;
            Ok(payloads::shown(&hub.call(command).wait()?))
        },
        "send" => |_, hub, arguments| {
            let to = recipient(arguments, arguments.flag("all", false)?)?;
            document(&hub.send(message(arguments, to)?).wait()?)
        },
        "subscribe" => |_, hub, arguments| subscribe(hub, arguments),
        "drain" => |_, hub, arguments| document(&hub.drain(arguments.timeout(60_000)?).wait()?),
        "stop_hub" => |agent, hub, arguments| document(&agent.stop_hub(hub, arguments.timeout(60_000)?)?),
        "where" => |_, hub, arguments| hub.where_is(&arguments.required("child_id")?).wait(),
        "plan" => |_, hub, arguments| {
            let direct = ["join", "leave"].map(|key| arguments.value(key).map(|value| (key.to_owned(), value.clone())));
            let change = arguments.optional("change")?.unwrap_or_else(|| direct.into_iter().flatten().collect());
            hub.plan(PlanChange::from_json(&change)?).wait()
        },
        "sync" => |_, hub, arguments| document(&hub.sync(arguments.timeout(5000)?).wait()?),
        "acknowledge_loss" => {
            |_, hub, arguments| document(&hub.acknowledge_loss(&arguments.required("child_id")?).wait()?)
        }
        "metrics_text" => |_, hub, _| Ok(open(hub, "metrics_text")?.metrics_text().into()),
        "debug_stats" => |_, hub, _| document(&open(hub, "debug_stats")?.debug_stats()),
        "reset_cluster_size" => {
            |_, hub, arguments| document(&hub.reset_cluster_size(arguments.required("n")?)?.wait()?)
        }
        _ => return None,
    })
}

/// What Rust reads from a stopped hub is what it last knew; here, as in every language, it is an error.
fn open<'a>(hub: &'a Hub, operation: &str) -> Result<&'a Hub, Error> {
    match hub.is_alive() {
        true => Ok(hub),
        false => Err(Error::new(process_hub::error::ErrorKind::Closed, operation, "the hub was stopped")),
    }
}

fn document<T: Serialize + ?Sized>(value: &T) -> Answer {
    serde_json::to_value(value).map_err(|error| bad(error.to_string()))
}

fn start_hub(agent: &Agent, arguments: &Arguments) -> Answer {
    let config = HubConfig::from_json(&arguments.required("config")?)?;
    let kinds = arguments.optional::<Vec<String>>("kinds")?;
    let kinds = kinds.unwrap_or_else(|| vec!["probe".into(), "probe_rust".into()]);
    let strategies = arguments.optional("strategies")?.unwrap_or_default();
    let hub = agent.start_hub(config, &kinds, &strategies)?;
    Ok(json!({"hub_id": hub.hub_id(), "node": hub.node_name(), "address": hub.address()}))
}

/// Starts what is a spec; what is none is refused by itself, unless all or none are asked for.
fn start_children(hub: &Hub, arguments: &Arguments) -> Answer {
    let options = arguments.optional("options")?.unwrap_or_else(|| json!({}));
    let options = StartOptions::from_json(&options)?;
    let wait = arguments.flag("wait", true)?;
    let list = SpecList::from_json(&arguments.required("specs")?)?;
    if let Some(result) = list.refusal(&options) {
        return Ok(result.to_json(&list.refused));
    }
    let pending = hub.start_children(list.specs.iter().map(|spec| (**spec).clone()).collect(), options);
    match wait {
        true => Ok(pending.wait()?.to_json(&list.refused)),
        false => Ok("start_initiated".into()),
    }
}

fn stop_children(hub: &Hub, arguments: &Arguments) -> Answer {
    let options = Arguments::new(arguments.optional("options")?.unwrap_or_default());
    let timeout = options.timeout(10_000)?;
    let pending = hub.stop_children(arguments.required("ids")?, timeout);
    if !arguments.flag("wait", true)? {
        return Ok("stop_initiated".into());
    }
    document(&pending.wait()?)
}

fn recipient(arguments: &Arguments, all: bool) -> Result<Recipient, Error> {
    match (arguments.optional::<NodeName>("node")?, all) {
        (None, false) => Ok(Recipient::Active),
        (None, true) => Ok(Recipient::All),
        (Some(node), false) => Ok(Recipient::Node(node)),
        (Some(_), true) => Err(bad("`node` and `all` exclude each other")),
    }
}

fn message(arguments: &Arguments, recipient: Recipient) -> Result<MessageCommand, Error> {
    let message = match arguments.value("payload") {
        Some(payload) => payloads::given(payload)?,
        None => Payload::from_value(arguments.value("message").unwrap_or(&Value::Null)),
    };
    let timeout = arguments.timeout(5000)?;
    Ok(MessageCommand { child: arguments.required("child_id")?, message, recipient, timeout, chain: Arc::default() })
}

fn subscribe(hub: &Hub, arguments: &Arguments) -> Answer {
    let name: String = arguments.required("hook")?;
    let hook = HookName::from_name(&name).ok_or_else(|| bad(format!("there is no hook named {name}")))?;
    let hub_id = hub.hub_id().to_string();
    hub.on(hook, "agent", 0, move |event| {
        lines::write(&json!({"event": "hook", "hub_id": hub_id, "hook": name, "payload": event.payload}));
    })?;
    Ok(Value::Null)
}
