//! What the manager knows about the link to one node.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::handshake::Failure;
use super::lane::Connection;
use super::peer::{Peer, Shared};
use super::random_id;
use super::reader;
use super::stream::Stream;
use super::wire::Offer;
use crate::engine::Lane;
use crate::net::session::{Half, Meeting};

/// A connection in use.
pub(super) struct Attached {
    pub(super) id: u64,
    /// Whether this node opened it.
    pub(super) is_ours: bool,
    since: Instant,
    connection: Arc<Connection>,
}

/// Where a link stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LinkState {
    /// A first handshake is under way.
    New,
    /// There is a control connection.
    Up,
    /// There is none; a timer will dial.
    Waiting,
    /// There is none; a dial is under way.
    Dialing,
}

/// The link to one node.
pub(super) struct Link {
    pub(super) peer: Arc<Peer>,
    pub(super) half: Half,
    pub(super) ctl: Option<Attached>,
    pub(super) bulk: Option<Attached>,
    pub(super) state: LinkState,
    /// Whether it has ever been up: others know of it.
    pub(super) is_session: bool,
    pub(super) is_told_down: bool,
    /// The goodbye is on its way; for everybody else there is no link any more.
    pub(super) is_leaving: bool,
    /// Dials that were given our offer and have not ended.
    pub(super) handshakes: u32,
    /// Rises with each change of the control connection; timers and dials of older ones do nothing.
    pub(super) generation: u64,
    pub(super) refusals: u32,
    pub(super) attempts: u32,
    pub(super) bad_connections: u32,
    pub(super) bulk_attempts: u32,
    pub(super) is_bulk_dialing: bool,
    pub(super) down_since: Instant,
    /// Addresses under which it was reached.
    pub(super) aliases: BTreeSet<String>,
    lost_connection: u64,
}

impl Link {
    pub(super) fn new(peer: Arc<Peer>) -> Self {
        Self {
            peer,
            half: Half::new(random_id()),
            ctl: None,
            bulk: None,
            state: LinkState::New,
            is_session: false,
            is_told_down: false,
            is_leaving: false,
            handshakes: 0,
            generation: 0,
            refusals: 0,
            attempts: 0,
            bad_connections: 0,
            bulk_attempts: 0,
            is_bulk_dialing: false,
            down_since: Instant::now(),
            aliases: BTreeSet::new(),
            lost_connection: 0,
        }
    }

    pub(super) fn address(&self) -> String {
        self.peer.address.lock().clone()
    }

    pub(super) fn is_at(&self, address: &str) -> bool {
        self.aliases.contains(address) || *self.peer.address.lock() == address
    }

    pub(super) fn offer(&self, lane: Lane) -> Offer {
        Offer {
            claim: self.half.claim(),
            received: self.peer.lane(lane).received(),
            lost_connection: self.lost_connection,
        }
    }

    /// Whether both halves are bound to each other.
    pub(super) fn is_same_session(&self, theirs: Offer) -> bool {
        let ours = self.half.claim();
        ours.bound_to == theirs.claim.half
            && theirs.claim.bound_to == ours.half
            && self.half.meet(theirs.claim) == Meeting::Match
    }

    pub(super) fn attached(&self, lane: Lane) -> Option<&Attached> {
        match lane {
            Lane::Ctl => self.ctl.as_ref(),
            Lane::Bulk => self.bulk.as_ref(),
        }
    }

    fn slot(&mut self, lane: Lane) -> &mut Option<Attached> {
        match lane {
            Lane::Ctl => &mut self.ctl,
            Lane::Bulk => &mut self.bulk,
        }
    }

    /// Makes a connection the present one of its lane and starts its writer. An older one is closed.
    pub(super) fn attach(
        &mut self,
        lane: Lane,
        runtime: &Handle,
        stream: TcpStream,
        id: u64,
        is_ours: bool,
        received: u64,
    ) -> Result<(), Failure> {
        let stream = stream.into_std()?;
        let stream = {
            let _guard = runtime.enter();
            Stream::adopt(stream)?
        };
        let connection = Arc::new(Connection { id, stream, wake: Notify::new() });
        if self.peer.lane(lane).attach(&connection, received).is_err() {
            return Err(Failure::Malformed("the other end has more frames than were sent"));
        }
        let (peer, writer) = (self.peer.clone(), connection.clone());
        runtime.spawn(async move { peer.lane(lane).write(&writer).await });
        *self.slot(lane) = Some(Attached { id, is_ours, since: Instant::now(), connection });
        Ok(())
    }

    pub(super) fn start_reading(&self, lane: Lane, shared: &Arc<Shared>, runtime: &Handle) {
        if let Some(attached) = self.attached(lane) {
            let connection = attached.connection.clone();
            runtime.spawn(reader::read(shared.clone(), self.peer.clone(), lane, connection));
        }
    }

    /// Closes the present connection of a lane; true when it lived for less than `short`.
    pub(super) fn detach(&mut self, lane: Lane, short: Duration) -> bool {
        self.peer.lane(lane).detach();
        let Some(attached) = self.slot(lane).take() else {
            return false;
        };
        if lane == Lane::Ctl {
            self.lost_connection = attached.id;
        }
        attached.since.elapsed() < short
    }

    /// Begins a new session: nothing of the old one is kept.
    pub(super) fn reset(&mut self, half: Half) {
        self.half = half;
        self.peer.ctl.reset();
        self.peer.bulk.reset();
        if let Some(attached) = self.ctl.take() {
            self.lost_connection = attached.id;
        }
        self.bulk = None;
    }

    /// The pause before the next attempt.
    pub(super) fn backoff(&self, (first, longest): (Duration, Duration)) -> Duration {
        (first * 2u32.pow(self.attempts.saturating_sub(1).min(8))).min(longest)
    }

    pub(super) fn close(self) {
        self.peer.ctl.detach();
        self.peer.bulk.detach();
        self.peer.is_up.store(false, std::sync::atomic::Ordering::Release);
    }

    #[cfg(test)]
    pub(super) fn break_connections(&self) {
        for attached in [&self.ctl, &self.bulk].into_iter().flatten() {
            attached.connection.stream.shut_down();
        }
    }
}
