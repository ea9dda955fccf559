//! Observers and interceptors in C.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use process_hub::error::Error;
use process_hub::host::call::{HostAnswer, HostFailure};
use process_hub::hub::{Hub, HubBuilder};
use process_hub::ids::NodeName;
use process_hub::observe::{HookEvent, HookName};
use process_hub::payload::Payload;
use process_hub::spec::ChildSpec;

use crate::boundary::{
    HandlePointer as _, OutPointer as _, TextPointer as _, UserData, c_text, enter, lend, ph_drop, refuse,
};
use crate::child::with_reply;
use crate::current;
use crate::types::{ph_error, ph_hook_callback, ph_hub, ph_intercept_callback, ph_reply, ph_status};

/// The only hook that may change what it sees.
const INTERCEPTED: HookName = HookName::ChildDataAlter;

#[derive(Clone, Copy)]
enum Function {
    Observe(unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char)),
    Intercept(unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char, *mut ph_reply) -> ph_status),
}

/// The program's callback of a hook.
struct Handler {
    function: Function,
    user_data: UserData,
    hub: u64,
}

/// A handler and where it belongs.
#[derive(Clone)]
pub(crate) struct Hook {
    name: HookName,
    id: String,
    priority: i32,
    handler: Arc<Handler>,
}

impl Handler {
    fn observe(&self, event: &HookEvent) {
        let Function::Observe(function) = self.function else { return };
        let (name, payload) = (c_text(event.name.name()), c_text(&event.payload.to_string()));
        let _inside = current::enter(self.hub, None);
        // SAFETY: the program gave this function for this pointer; the texts live for the call.
        unsafe { function(self.user_data.get(), lend(&name), lend(&payload)) };
    }

    fn intercept(&self, spec: ChildSpec, nodes: &[NodeName]) -> Result<ChildSpec, HostFailure> {
        let Function::Intercept(function) = self.function else { return Ok(spec) };
        let document = c_text(&spec.to_json().to_string());
        let names = c_text(&serde_json::json!(nodes).to_string());
        let call = |reply| {
            let _inside = current::enter(self.hub, None);
            // SAFETY: the program gave this function for this pointer; the texts live for the call.
            unsafe { function(self.user_data.get(), lend(&document), lend(&names), reply) }
        };
        match with_reply(call, |_| None) {
            Some(HostAnswer::Failed(failure)) => Err(failure),
            Some(HostAnswer::Done(Some(altered))) => altered_spec(&altered),
            Some(HostAnswer::Done(None)) | None => Ok(spec),
        }
    }
}

/// The spec an interceptor made.
fn altered_spec(altered: &Payload) -> Result<ChildSpec, HostFailure> {
    let document: serde_json::Value = serde_json::from_slice(&altered.data)
        .map_err(|error| HostFailure::new(format!("the altered spec is not JSON: {error}")))?;
    ChildSpec::from_json(&document).map_err(|error| HostFailure::new(error.message))
}

impl Hook {
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.has_id(other.name, &other.id)
    }

    pub(crate) fn has_id(&self, name: HookName, id: &str) -> bool {
        self.name == name && self.id == id
    }

    pub(crate) fn add_to_builder(&self, builder: HubBuilder) -> HubBuilder {
        let handler = Arc::clone(&self.handler);
        match handler.function {
            Function::Observe(_) => {
                builder.hook(self.name, &self.id, self.priority, move |event| handler.observe(event))
            }
            Function::Intercept(_) => {
                builder.intercept(&self.id, self.priority, move |spec, nodes| handler.intercept(spec, nodes))
            }
        }
    }

    pub(crate) fn add_to(&self, hub: &Hub) -> Result<(), Error> {
        let handler = Arc::clone(&self.handler);
        match handler.function {
            Function::Observe(_) => hub.on(self.name, &self.id, self.priority, move |event| handler.observe(event)),
            Function::Intercept(_) => {
                hub.intercept(&self.id, self.priority, move |spec, nodes| handler.intercept(spec, nodes))
            }
        }
    }
}

fn hook_name(hook: *const c_char, operation: &str) -> Result<HookName, Error> {
    let name = hook.text(operation, "hook")?;
    HookName::from_name(name).ok_or_else(|| refuse(operation, format!("there is no hook named `{name}`")))
}

fn add(
    hub: *mut ph_hub,
    operation: &str,
    name: HookName,
    id: *const c_char,
    priority: i32,
    function: Function,
    user_data: UserData,
) -> Result<(), Error> {
    let object = hub.object(operation)?;
    let handler = Arc::new(Handler { function, user_data, hub: hub.number() });
    object.add_hook(Hook { name, id: id.text(operation, "id")?.to_owned(), priority, handler }, operation)
}

/// Has `callback` told of each firing of a hook of docs/hooks.md: higher priority first, then in the order of
/// registration. The same `id` for the same hook replaces. Before or after the start.
///
/// `user_data` is the library's from now on, also on failure: `drop`, unless NULL, is called with it once, after the last
/// callback. `*err`, unless NULL, is the program's on failure. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_on(
    hub: *mut ph_hub,
    hook: *const c_char,
    id: *const c_char,
    priority: i32,
    callback: ph_hook_callback,
    user_data: *mut c_void,
    drop: ph_drop,
    err: *mut *mut ph_error,
) -> ph_status {
    let user_data = UserData::new(user_data, drop);
    enter("on", err, || {
        let name = hook_name(hook, "on")?;
        let function = callback.ok_or_else(|| refuse("on", "the callback is NULL"))?;
        add(hub, "on", name, id, priority, Function::Observe(function), user_data)
    })
}

/// Lets `callback` change specs before their start; where it fails, the spec stays as it is and the hook `child_failed` tells
/// why. Arguments that are no JSON show as `null` and cannot be changed. `hook` is "child_data_alter", the only one
/// of its sort. Order, `id`, `user_data` and failure are as of `ph_hub_on`. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_intercept(
    hub: *mut ph_hub,
    hook: *const c_char,
    id: *const c_char,
    priority: i32,
    callback: ph_intercept_callback,
    user_data: *mut c_void,
    drop: ph_drop,
    err: *mut *mut ph_error,
) -> ph_status {
    const OPERATION: &str = "intercept";
    let user_data = UserData::new(user_data, drop);
    enter(OPERATION, err, || {
        let name = hook_name(hook, OPERATION)?;
        if name != INTERCEPTED {
            return Err(refuse(
                OPERATION,
                format!("`{name}` can only be observed; `{INTERCEPTED}` can be intercepted"),
            ));
        }
        let function = callback.ok_or_else(|| refuse(OPERATION, "the callback is NULL"))?;
        add(hub, OPERATION, name, id, priority, Function::Intercept(function), user_data)
    })
}

/// Removes an observer or interceptor; `*found`, unless NULL, says whether there was one. One that runs at this moment
/// goes on. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_off(
    hub: *mut ph_hub,
    hook: *const c_char,
    id: *const c_char,
    found: *mut bool,
    err: *mut *mut ph_error,
) -> ph_status {
    enter("off", err, || {
        let name = hook_name(hook, "off")?;
        let is_there = hub.object("off")?.remove_hook(name, id.text("off", "id")?);
        found.put(is_there);
        Ok(())
    })
}
