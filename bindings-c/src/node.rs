//! A node that several hubs share.

use std::ffi::{CString, c_char};
use std::sync::Arc;

use process_hub::config::NodeSetup;
use process_hub::error::{Error, ErrorKind};
use process_hub::hub::Node;

use crate::boundary::{
    HandlePointer as _, OutPointer as _, TextPointer as _, ask, c_text, enter, lend, make_handle, ms, refuse,
};
use crate::current;
use crate::table::Handled;
use crate::types::{ph_error, ph_node, ph_status};

/// What a `ph_node` stands for.
pub(crate) struct NodeObject {
    pub(crate) node: Node,
    name: CString,
    address: CString,
}

impl Handled for NodeObject {
    const TYPE: u64 = 2;
    const NAME: &'static str = "ph_node";
}

/// Starts a node. `config` is the part `node` of the configuration, with `profile` and `hubs_discover_interval_ms` beside
/// its own keys if wanted.
///
/// On `PH_OK`, `*node` is the program's and freed by `ph_node_free`. On failure it is untouched, and `*err`, unless NULL,
/// is the program's. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_node_new(config: *const c_char, node: *mut *mut ph_node, err: *mut *mut ph_error) -> ph_status {
    const OPERATION: &str = "node_new";
    enter(OPERATION, err, || {
        if node.is_null() {
            return Err(refuse(OPERATION, "there is no place for the node: `node` is NULL"));
        }
        let setup = NodeSetup::from_text(config.text(OPERATION, "config")?)?;
        let started = Node::start(&setup.node, &setup.profile, setup.hubs_discover_interval)?;
        let object =
            NodeObject { name: c_text(started.name().as_str()), address: c_text(started.address()), node: started };
        node.put(make_handle(Arc::new(object))?);
        Ok(())
    })
}

/// The node's name; NULL if the handle is none. The handle keeps the text. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_node_name(node: *mut ph_node) -> *const c_char {
    ask("ph_node_name", std::ptr::null(), || Ok(lend(&node.object("ph_node_name")?.name)))
}

/// The `host:port` that peers are told; NULL if the handle is none. The handle keeps the text. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_node_address(node: *mut ph_node) -> *const c_char {
    ask("ph_node_address", std::ptr::null(), || Ok(lend(&node.object("ph_node_address")?.address)))
}

/// Stops the hubs of the node, leaves the cluster and closes the network, within `timeout_ms`: `PH_ERR_TIMEOUT` if that
/// took longer. A second call does nothing but wait. Any thread; in a callback it is `PH_ERR_WOULD_DEADLOCK`.
#[unsafe(no_mangle)]
pub extern "C" fn ph_node_stop(node: *mut ph_node, timeout_ms: u64, err: *mut *mut ph_error) -> ph_status {
    const OPERATION: &str = "node_stop";
    enter(OPERATION, err, || {
        let object = node.object(OPERATION)?;
        refuse_in_callback(OPERATION)?;
        if object.node.stop(ms(timeout_ms)) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Timeout, OPERATION, format!("the node did not end within {timeout_ms} ms")))
    })
}

/// Frees a node and sets the handle to NULL; the node leaves in the background when no hub runs on it any more, unless it
/// was stopped. NULL, and a handle that is NULL or freed, is no harm. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_node_free(node: *mut *mut ph_node) {
    ask("ph_node_free", (), || {
        if let Some(handle) = node.present() {
            node.put(std::ptr::null_mut());
            handle.release("ph_node_free")?;
        }
        Ok(())
    });
}

/// A callback of any hub may be one the node's end waits for.
fn refuse_in_callback(operation: &str) -> Result<(), Error> {
    if !current::is_inside_any() {
        return Ok(());
    }
    let message = "a callback waits for the end of a node; call this from another thread";
    Err(Error::new(ErrorKind::WouldDeadlock, operation, message))
}
