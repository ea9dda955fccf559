//! Local reads: what the hub published, without a wait.

use std::ffi::c_char;

use process_hub::error::Error;
use process_hub::hub::Hub;

use crate::boundary::{HandlePointer as _, TextPointer as _, ask, c_text, enter, lend};
use crate::types::{ph_error, ph_hub, ph_status, ph_value};
use crate::value;

fn read<T: serde::Serialize>(
    hub: *mut ph_hub,
    operation: &'static str,
    out: *mut ph_value,
    err: *mut *mut ph_error,
    read: impl FnOnce(&Hub) -> Result<T, Error>,
) -> ph_status {
    enter(operation, err, || {
        let running = hub.object(operation)?.running(operation)?;
        running.check(operation)?;
        value::write_json(out, &read(&running)?)
    })
}

fn is(hub: *mut ph_hub, operation: &'static str, read: impl FnOnce(&Hub) -> bool) -> bool {
    ask(operation, false, || Ok(read(&hub.object(operation)?.running(operation)?)))
}

/// What the registry knows of a child: a JSON row `{id, spec, metadata, instances, state_lost}`, or `null`. Local, without
/// a wait.
///
/// On `PH_OK`, `*row` is the program's and freed by `ph_value_free`. On failure it is untouched, and `*err`, unless NULL, is
/// the program's. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_child_lookup(
    hub: *mut ph_hub,
    child_id: *const c_char,
    row: *mut ph_value,
    err: *mut *mut ph_error,
) -> ph_status {
    read(hub, "child_lookup", row, err, |hub| Ok(hub.child_lookup(child_id.text("child_lookup", "child_id")?)))
}

/// Every row of the registry: a JSON object by child id. Ownership, failure and threads are as of `ph_hub_child_lookup`.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_process_registry(hub: *mut ph_hub, rows: *mut ph_value, err: *mut *mut ph_error) -> ph_status {
    read(hub, "process_registry", rows, err, |hub| Ok(hub.process_registry()))
}

/// The rows whose metadata has this `tag`: a JSON array. Ownership, failure and threads are as of `ph_hub_child_lookup`.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_tag_query(
    hub: *mut ph_hub,
    tag: *const c_char,
    rows: *mut ph_value,
    err: *mut *mut ph_error,
) -> ph_status {
    read(hub, "tag_query", rows, err, |hub| Ok(hub.tag_query(tag.text("tag_query", "tag")?)))
}

/// The rows whose metadata has this key: a JSON array. Ownership, failure and threads are as of `ph_hub_child_lookup`.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_metadata_query(
    hub: *mut ph_hub,
    key: *const c_char,
    rows: *mut ph_value,
    err: *mut *mut ph_error,
) -> ph_status {
    read(hub, "metadata_query", rows, err, |hub| Ok(hub.metadata_query(key.text("metadata_query", "key")?)))
}

/// The names of the members of the hub, in order: a JSON array. Ownership, failure and threads are as of
/// `ph_hub_child_lookup`.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_nodes(
    hub: *mut ph_hub,
    include_local: bool,
    names: *mut ph_value,
    err: *mut *mut ph_error,
) -> ph_status {
    read(hub, "nodes", names, err, |hub| Ok(hub.nodes(include_local)))
}

/// The name of the hub's node; NULL before the start or if the handle is none. The hub keeps the text until it is freed.
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_node_name(hub: *mut ph_hub) -> *const c_char {
    ask("node_name", std::ptr::null(), || {
        let object = hub.object("node_name")?;
        let running = object.running("node_name")?;
        Ok(lend(object.node_name.get_or_init(|| c_text(running.node_name().as_str()))))
    })
}

/// The `host:port` that peers are told; NULL before the start or if the handle is none. The hub keeps the text until it is
/// freed. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_address(hub: *mut ph_hub) -> *const c_char {
    ask("address", std::ptr::null(), || {
        let object = hub.object("address")?;
        let running = object.running("address")?;
        Ok(lend(object.address.get_or_init(|| c_text(running.address()))))
    })
}

/// Whether the hub runs: it was started, was not stopped, did not fail, and this is no fork. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_is_alive(hub: *mut ph_hub) -> bool {
    is(hub, "is_alive", Hub::is_alive)
}

/// Whether this node has moves open or lacks quorum; false if the handle is none. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_is_locked(hub: *mut ph_hub) -> bool {
    is(hub, "is_locked", Hub::is_locked)
}

/// Whether this side of the cluster has no quorum; false if the handle is none. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_is_partitioned(hub: *mut ph_hub) -> bool {
    is(hub, "is_partitioned", Hub::is_partitioned)
}

/// The hub's metrics as Prometheus text, NUL-terminated, of the type "text/plain". Ownership, failure and threads are as of
/// `ph_hub_child_lookup`.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_metrics_text(hub: *mut ph_hub, text: *mut ph_value, err: *mut *mut ph_error) -> ph_status {
    enter("metrics_text", err, || {
        let running = hub.object("metrics_text")?.running("metrics_text")?;
        value::write_text(text, &running.metrics_text())
    })
}

/// Counts of what the process and this hub hold, as the JSON object `{hubs, children, instances, threads, handles,
/// descriptors, queued_bytes}`. Ownership, failure and threads are as of `ph_hub_child_lookup`.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_debug_stats(hub: *mut ph_hub, stats: *mut ph_value, err: *mut *mut ph_error) -> ph_status {
    read(hub, "debug_stats", stats, err, |hub| Ok(hub.debug_stats()))
}
