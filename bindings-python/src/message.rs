//! The arguments of `call` and `send`.

use std::sync::Arc;
use std::time::Duration;

use process_hub::engine::{MessageCommand, Recipient};
use process_hub::error::{Error, ErrorKind};
use process_hub::ids::{ChildId, NodeName};
use pyo3::prelude::*;

use crate::encode::encode;

/// Makes the command of a message; `operation` names it in errors.
pub(crate) fn command(
    operation: &str,
    child: &str,
    message: &Bound<'_, PyAny>,
    timeout_ms: u64,
    recipient: Recipient,
    chain: Option<Vec<String>>,
) -> Result<MessageCommand, Error> {
    let chain: Arc<[ChildId]> = match chain {
        Some(ids) => ids.into_iter().map(ChildId::new).collect::<Result<_, Error>>()?,
        None => Arc::default(),
    };
    let id = ChildId::new(child)?;
    let message = encode(message).map_err(|fault| fault.into_error(operation).with_child(child))?;
    Ok(MessageCommand { child: id, message, recipient, timeout: Duration::from_millis(timeout_ms), chain })
}

/// Which instances `node` and `all` mean.
pub(crate) fn recipient(node: Option<&str>, all: bool) -> Result<Recipient, Error> {
    match (node, all) {
        (None, false) => Ok(Recipient::Active),
        (None, true) => Ok(Recipient::All),
        (Some(node), false) => NodeName::new(node).map(Recipient::Node),
        (Some(_), true) => Err(Error::new(ErrorKind::InvalidArgument, "send", "`node` and `all` exclude each other")),
    }
}
