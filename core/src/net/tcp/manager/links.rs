//! Links: what comes up, what is lost, and what the owner is told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::super::handshake::Failure;
use super::super::link::{Link, LinkState};
use super::super::peer::{Peer, count};
use super::super::random_id;
use super::super::reader::End;
use super::{BACKOFF, Manager, QUICK_RETRY, Timer};
use crate::engine::Lane;
use crate::ids::NodeRef;
use crate::net::TransportEvent;
use crate::net::session::Half;

/// A connection that ended sooner than this counts as a bad one.
const SHORT_LIFE: Duration = Duration::from_millis(500);
/// Longest a goodbye may take to be written and answered by closing.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bad connections in a row before reconnecting slows down.
const MAX_BAD_CONNECTIONS: u32 = 5;

impl Manager {
    /// The link of a node, made when there is none.
    pub(super) fn link(&mut self, node: &NodeRef) -> &mut Link {
        if self.links.get(node).is_some_and(|link| link.is_leaving) {
            self.remove(node);
        }
        let (ctl, bulk) = (self.limits.ctl, self.limits.bulk);
        self.links.entry(node.clone()).or_insert_with(|| Link::new(Arc::new(Peer::new(node.clone(), ctl, bulk))))
    }

    pub(super) fn attach_ctl(
        &mut self,
        node: &NodeRef,
        address: &str,
        stream: TcpStream,
        id: u64,
        is_ours: bool,
        received: u64,
    ) -> Result<(), Failure> {
        let shared = self.shared.clone();
        let link = self.link(node);
        link.attach(Lane::Ctl, &Handle::current(), stream, id, is_ours, received)?;
        let peer = link.peer.clone();
        address.clone_into(&mut peer.address.lock());
        link.state = LinkState::Up;
        link.generation += 1;
        link.refusals = 0;
        link.attempts = 0;
        let is_new = !link.is_session;
        let was_told_down = link.is_told_down;
        if !is_new {
            count(&shared.counters.sessions_resumed);
        }
        link.is_session = true;
        link.is_told_down = false;
        peer.is_up.store(true, Ordering::Release);
        if is_new {
            shared.peers.write().insert(node.clone(), peer.clone());
        }
        if is_new || was_told_down {
            tracing::info!(%node, address, "link is up");
            shared.tell(TransportEvent::LinkUp(peer.contact()));
        }
        // Only now may frames reach the sink.
        self.link(node).start_reading(Lane::Ctl, &shared, &Handle::current());
        self.link(node).bulk_attempts = 0;
        if !peer.bulk.is_drained() {
            self.dial_bulk(node);
        }
        Ok(())
    }

    pub(super) fn attach_bulk(
        &mut self,
        node: &NodeRef,
        stream: TcpStream,
        id: u64,
        received: u64,
    ) -> Result<(), Failure> {
        let own = &self.shared.identity.node;
        let link = self.links.get(node);
        let kept = link.and_then(|link| link.bulk.as_ref());
        if kept.is_some_and(|kept| !kept.is_ours) && node < own {
            return Err(Failure::NotNeeded);
        }
        self.attach_bulk_as(node, stream, id, true, received)
    }

    pub(super) fn attach_bulk_as(
        &mut self,
        node: &NodeRef,
        stream: TcpStream,
        id: u64,
        is_ours: bool,
        received: u64,
    ) -> Result<(), Failure> {
        let (shared, bulk) = (self.shared.clone(), self.bulk.clone());
        let link = self.link(node);
        link.attach(Lane::Bulk, &bulk, stream, id, is_ours, received)?;
        link.start_reading(Lane::Bulk, &shared, &bulk);
        Ok(())
    }

    pub(super) fn lost(&mut self, node: &NodeRef, lane: Lane, id: u64, end: &End) {
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        if link.attached(lane).is_none_or(|attached| attached.id != id) {
            return;
        }
        tracing::debug!(%node, ?lane, ?end, "connection ended");
        let is_short = link.detach(lane, SHORT_LIFE);
        if lane == Lane::Bulk {
            link.bulk_attempts = if is_short { link.bulk_attempts + 1 } else { 0 };
            self.retry_bulk(node);
            return;
        }
        if self.closing.is_some() || link.is_leaving {
            self.remove(node);
            return;
        }
        if *end == End::Goodbye {
            self.tell_down(node);
            self.remove(node);
            return;
        }
        link.bad_connections = if is_short { link.bad_connections + 1 } else { 0 };
        self.start_reconnecting(node);
    }

    pub(super) fn start_reconnecting(&mut self, node: &NodeRef) {
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        link.generation += 1;
        link.state = LinkState::Waiting;
        link.refusals = 0;
        link.attempts = 0;
        link.down_since = Instant::now();
        let generation = link.generation;
        let excess = link.bad_connections.saturating_sub(MAX_BAD_CONNECTIONS);
        if excess == 0 {
            self.reconnect(node, generation);
        } else {
            let delay = (QUICK_RETRY * 2u32.pow(excess.min(10))).min(BACKOFF.1);
            self.set_timer(delay, Timer::Reconnect(node.clone(), generation));
        }
    }

    /// Throws away our half of a session, and with it whatever was under way.
    pub(super) fn reset(&mut self, node: &NodeRef) {
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        link.reset(Half::new(random_id()));
        count(&self.shared.counters.sessions_reset);
        tracing::warn!(%node, "session is reset");
        self.shared.tell(TransportEvent::SessionReset { node: node.clone() });
    }

    pub(super) fn overflow(&mut self, node: &NodeRef) {
        self.reset(node);
        self.settle(node);
    }

    /// Nothing of this node listens at its address any more.
    pub(super) fn gone(&mut self, node: &NodeRef) {
        if self.links.get(node).is_none_or(|link| !link.is_session) {
            return;
        }
        self.remove(node);
        tracing::info!(%node, "link is down: refused");
        self.shared.tell(TransportEvent::LinkDown { node: node.clone(), refused: true });
    }

    pub(super) fn tell_down(&mut self, node: &NodeRef) {
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        if link.is_told_down || !link.is_session {
            return;
        }
        link.is_told_down = true;
        link.peer.is_up.store(false, Ordering::Release);
        tracing::info!(%node, "link is down");
        self.shared.tell(TransportEvent::LinkDown { node: node.clone(), refused: false });
    }

    /// Forgets a node and closes its connections.
    pub(super) fn remove(&mut self, node: &NodeRef) {
        self.shared.peers.write().remove(node);
        if let Some(link) = self.links.remove(node) {
            link.close();
        }
    }

    /// Ends a link at our wish: the owner sees the end at once, the connection when the goodbye is written.
    pub(super) fn disconnect(&mut self, node: &NodeRef) {
        if self.links.get(node).is_none_or(|link| link.ctl.is_none()) {
            self.tell_down(node);
            self.remove(node);
            return;
        }
        self.shared.peers.write().remove(node);
        if let Some(link) = self.links.get(node) {
            link.peer.mute();
        }
        self.tell_down(node);
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        link.is_leaving = true;
        link.is_session = false;
        link.detach(Lane::Bulk, SHORT_LIFE);
        link.peer.ctl.say_goodbye();
        let generation = link.generation;
        self.set_timer(GOODBYE_TIMEOUT, Timer::Leave(node.clone(), generation));
    }
}
