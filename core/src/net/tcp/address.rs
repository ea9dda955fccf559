//! Which addresses may be used: without TLS only loopback, unless `insecure_plaintext` is spelled out (A9).

use std::net::{SocketAddr, ToSocketAddrs};

use super::wire::MAX_ADDRESS_BYTES;
use crate::config::Security;
use crate::error::{Error, ErrorKind};

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidConfig, "start_transport", message)
}

/// Whether links may leave this machine.
pub(super) fn allows_remote(security: &Security) -> bool {
    match security {
        Security::UserKey | Security::Key { .. } => false,
        Security::InsecurePlaintext => true,
    }
}

/// Resolves and checks the address to listen on.
pub(super) fn check_listen(listen: &str, security: &Security) -> Result<SocketAddr, Error> {
    let address = resolve("node.listen", listen)?;
    check_loopback("node.listen", listen, &[address], security)?;
    if !address.ip().is_loopback() {
        tracing::warn!(listen, "links are neither encrypted nor authenticated: security mode is insecure_plaintext");
    }
    Ok(address)
}

/// The address told to peers.
pub(super) fn check_advertise(
    advertise: Option<&str>,
    bound: SocketAddr,
    security: &Security,
) -> Result<String, Error> {
    let Some(advertise) = advertise else {
        if bound.ip().is_unspecified() {
            return Err(invalid(format!(
                "node.listen is {bound}, every address of this machine; name the one for peers in node.advertise"
            )));
        }
        return Ok(bound.to_string());
    };
    if advertise.is_empty() || advertise.len() > MAX_ADDRESS_BYTES {
        return Err(invalid(format!(
            "node.advertise must have 1 to {MAX_ADDRESS_BYTES} bytes, this one has {}",
            advertise.len()
        )));
    }
    if !allows_remote(security) {
        let address = resolve("node.advertise", advertise)?;
        check_loopback("node.advertise", advertise, &[address], security)?;
    }
    Ok(advertise.to_owned())
}

fn resolve(what: &str, text: &str) -> Result<SocketAddr, Error> {
    text.to_socket_addrs()
        .map_err(|error| invalid(format!("{what} {text:?} is not a usable host:port: {error}")))?
        .next()
        .ok_or_else(|| invalid(format!("{what} {text:?} has no address")))
}

/// Refuses addresses off this machine when links are not encrypted.
pub(super) fn check_loopback(
    what: &str,
    text: &str,
    addresses: &[SocketAddr],
    security: &Security,
) -> Result<(), Error> {
    if allows_remote(security) || addresses.iter().all(|address| address.ip().is_loopback()) {
        return Ok(());
    }
    Err(invalid(format!(
        "{what} {text:?} is not a loopback address; links between machines need TLS, which is not there yet \
         (mode \"insecure_plaintext\" does without encryption and authentication)"
    )))
}
