//! Connections that came in: which are kept.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::super::dial;
use super::super::handshake::{Accepted, Failure};
use super::super::link::Attached;
use super::super::peer::Shared;
use super::super::wire::{Offer, Refusal};
use super::Manager;
use crate::engine::Lane;
use crate::net::session::Meeting;

/// After a failed accept, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Manager {
    pub(super) fn accepted(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        self.accept_after = None;
        match accepted {
            Ok((stream, from)) => dial::answer(&self.shared, &self.limits, stream, from),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                self.accept_after = Some(Instant::now() + ACCEPT_PAUSE);
            }
        }
    }

    pub(super) fn proven(&mut self, accepted: Accepted) {
        if self.closing.is_some() {
            return;
        }
        let node = accepted.greeting.node.clone();
        if node == self.shared.identity.node {
            return;
        }
        let refusal = match accepted.greeting.lane {
            Lane::Ctl => self.admit_ctl(accepted),
            Lane::Bulk => self.admit_bulk(accepted),
        };
        if let Err(failure) = refusal {
            tracing::debug!(%node, %failure, "connection is not kept");
        }
        self.settle(&node);
    }

    pub(super) fn admit_ctl(&mut self, accepted: Accepted) -> Result<(), Failure> {
        let node = accepted.greeting.node.clone();
        let own = self.shared.identity.node.clone();
        let link = self.link(&node);
        if let Some(kept) = &link.ctl {
            // Opened by us and still good for the other end: of two, the smaller node's stays.
            let is_lost = accepted.offer.lost_connection == kept.id;
            if kept.is_ours && !is_lost && own < node {
                refuse(&accepted.stream, Refusal::Duplicate);
                return Err(Failure::Duplicate);
            }
        }
        let mut meeting = link.half.meet(accepted.offer.claim);
        if meeting == Meeting::ResetOurs {
            self.reset(&node);
            meeting = self.link(&node).half.meet(accepted.offer.claim);
        }
        let link = self.link(&node);
        if meeting == Meeting::Match {
            link.half.bind(accepted.offer.claim);
        }
        let offer = link.offer(Lane::Ctl);
        write_answer(&accepted, &self.shared, offer)?;
        if meeting != Meeting::Match {
            return Err(Failure::Stale);
        }
        let Accepted { stream, id, greeting, offer, .. } = accepted;
        self.attach_ctl(&node, &greeting.address, stream, id, false, offer.received)
    }

    pub(super) fn admit_bulk(&mut self, accepted: Accepted) -> Result<(), Failure> {
        let node = accepted.greeting.node.clone();
        let own = self.shared.identity.node.clone();
        let Some(link) = self.links.get(&node) else {
            refuse(&accepted.stream, Refusal::Stale);
            return Err(Failure::Stale);
        };
        if link.ctl.is_none() || link.is_leaving || !link.is_same_session(accepted.offer) {
            refuse(&accepted.stream, Refusal::Stale);
            return Err(Failure::Stale);
        }
        let is_kept = |kept: &Attached| kept.is_ours && own < node;
        if link.bulk.as_ref().is_some_and(is_kept) {
            refuse(&accepted.stream, Refusal::Duplicate);
            return Err(Failure::Duplicate);
        }
        write_answer(&accepted, &self.shared, link.offer(Lane::Bulk))?;
        let Accepted { stream, id, offer, .. } = accepted;
        self.attach_bulk_as(&node, stream, id, false, offer.received)
    }
}

/// Tells the dialer why; it is no harm if that does not reach it.
fn refuse(stream: &TcpStream, refusal: Refusal) {
    let _ = stream.try_write(&refusal.encode());
}

/// Writes our proof and offer without waiting, so that nothing changes between the decision and the attachment. The
/// socket's buffer is empty but for the greeting; if it does not take this, the connection is not worth keeping.
fn write_answer(accepted: &Accepted, shared: &Shared, offer: Offer) -> Result<(), Failure> {
    let answer = accepted.answer(&shared.identity, offer);
    match accepted.stream.try_write(&answer) {
        Ok(bytes) if bytes == answer.len() => Ok(()),
        Ok(_) => Err(Failure::Dropped("the answer was not taken".to_owned())),
        Err(error) => Err(error.into()),
    }
}
