//! The tasks that dial and answer: they wait, the manager decides.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpStream, lookup_host};
use tokio::sync::oneshot;
use tokio::time;

use super::address::check_loopback;
use super::handshake::{self, Dialled, Failure};
use super::manager::Event;
use super::peer::{Shared, count};
use super::{Limits, stream};
use crate::engine::Lane;
use crate::ids::NodeRef;

/// What a dial is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// `connect`.
    Connect { address: String, attempt: u32 },
    /// A link lost its control connection.
    Reconnect { node: NodeRef, generation: u64 },
    /// A link needs a bulk connection.
    Bulk { node: NodeRef },
}

impl Purpose {
    pub(super) fn lane(&self) -> Lane {
        match self {
            Self::Connect { .. } | Self::Reconnect { .. } => Lane::Ctl,
            Self::Bulk { .. } => Lane::Bulk,
        }
    }
}

/// Dials; [`Event::Dialed`] tells how it went.
pub(super) fn start(shared: &Arc<Shared>, limits: &Limits, purpose: Purpose, address: String) {
    let shared = shared.clone();
    let timeout = limits.handshake_timeout;
    let limits = limits.clone();
    tokio::spawn(async move {
        let mut node = None;
        let dialed = dial(&shared, &limits, &purpose, &address, &mut node);
        let result = time::timeout(timeout, dialed).await.unwrap_or(Err(Failure::TimedOut));
        shared.post(Event::Dialed(purpose, node, result.map(Box::new)));
    });
}

/// `offered_to` is the node that was given an offer, also when the dial fails after that.
async fn dial(
    shared: &Shared,
    limits: &Limits,
    purpose: &Purpose,
    address: &str,
    offered_to: &mut Option<NodeRef>,
) -> Result<Dialled, Failure> {
    let addresses = resolve(address).await?;
    check_loopback("address", address, &addresses, &limits.security)
        .map_err(|error| Failure::Address(Box::new(error)))?;
    let connected = time::timeout(limits.connect_timeout, TcpStream::connect(&addresses[..]))
        .await
        .unwrap_or(Err(std::io::ErrorKind::TimedOut.into()))?;
    stream::configure(&connected)?;
    let greeted = handshake::greet(connected, &shared.identity, purpose.lane()).await?;
    let node = greeted.greeting.node.clone();
    let (reply, answer) = oneshot::channel();
    shared.post(Event::Greeted(purpose.clone(), node.clone(), reply));
    let Ok(Some(offer)) = answer.await else {
        return Err(Failure::NotNeeded);
    };
    *offered_to = Some(node);
    greeted.prove(&shared.identity, offer).await
}

async fn resolve(address: &str) -> Result<Vec<SocketAddr>, Failure> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let addresses: Vec<SocketAddr> =
        lookup_host(address).await.map_err(|error| Failure::Io(format!("cannot resolve the name: {error}")))?.collect();
    if addresses.is_empty() {
        return Err(Failure::Io("the name has no address".to_owned()));
    }
    Ok(addresses)
}

/// Answers an accepted connection; [`Event::Proven`] tells when its dialer proved itself.
pub(super) fn answer(shared: &Arc<Shared>, limits: &Limits, connection: TcpStream, from: SocketAddr) {
    let place = match shared.half_open.admit(from.ip()) {
        Ok(place) => place,
        Err(why) => {
            count(&shared.counters.half_open_refused);
            tracing::debug!(%from, %why, "connection is closed at once");
            return;
        }
    };
    let shared = shared.clone();
    let timeout = limits.handshake_timeout;
    tokio::spawn(async move {
        let _place = place;
        let accepted = async {
            stream::configure(&connection)?;
            handshake::accept(connection, &shared.identity).await
        };
        let accepted = time::timeout(timeout, accepted).await.unwrap_or(Err(Failure::TimedOut));
        match accepted {
            Ok(accepted) => shared.post(Event::Proven(Box::new(accepted))),
            Err(failure) => tell_refused(&shared, from, &failure),
        }
    });
}

fn tell_refused(shared: &Shared, from: SocketAddr, failure: &Failure) {
    let counters = &shared.counters;
    match failure {
        Failure::Authentication(why) => {
            count(&counters.authentication_failed);
            tracing::warn!(%from, why, "connection refused: authentication_failed");
        }
        Failure::Version(versions) => {
            tracing::warn!(%from, %versions, "connection refused: version_mismatch");
        }
        Failure::TimedOut => {
            count(&counters.handshake_timeouts);
            tracing::debug!(%from, "connection closed: it did not finish its handshake");
        }
        Failure::Malformed(what) => {
            count(&counters.malformed);
            tracing::debug!(%from, what, "connection closed: not this protocol");
        }
        Failure::Refused
        | Failure::Dropped(_)
        | Failure::Duplicate
        | Failure::Stale
        | Failure::NotNeeded
        | Failure::Address(_)
        | Failure::Io(_) => tracing::debug!(%from, %failure, "handshake ended"),
    }
}
