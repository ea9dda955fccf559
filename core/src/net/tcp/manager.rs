//! The one task that decides about links: it owns every link's state and runs on the thread of the control lane.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{self, Instant};

use super::dial::{self, Purpose};
use super::handshake::{Accepted, Dialled, Failure};
use super::link::{Link, LinkState};
use super::peer::{Peer, Shared, count};
use super::reader::End;
use super::wire::{Offer, Refusal};
use super::{Limits, random_id};
use crate::engine::Lane;
use crate::error::{Error, ErrorKind};
use crate::ids::NodeRef;
use crate::net::TransportEvent;
use crate::net::session::{Half, Meeting};

/// Reconnects of R14 come at this distance.
const QUICK_RETRY: Duration = Duration::from_millis(20);
/// Refusals in a row that prove that nothing listens (R14).
const REFUSALS_OF_DEATH: u32 = 2;
/// Quick retries when a listener accepts and closes, as one does whose process is going down.
const MAX_QUICK_RETRIES: u32 = 5;
/// First and longest pause after that.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// A link that is down is given up after this time, and its session with it.
const RETENTION: Duration = Duration::from_secs(600);
/// A connection that ended sooner than this counts as a bad one.
const SHORT_LIFE: Duration = Duration::from_millis(500);
/// Bad connections in a row before reconnecting slows down.
const MAX_BAD_CONNECTIONS: u32 = 5;
/// Addresses dialed at once for `connect`.
const MAX_CONNECTING: usize = 128;
/// After a failed accept, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the manager is told.
pub(super) enum Event {
    /// Dial an address.
    Connect(String),
    /// End a session.
    Disconnect(NodeRef),
    /// A bulk connection is wanted.
    OpenBulk(NodeRef),
    /// A queue is full (R17).
    Overflow(NodeRef),
    /// Say goodbye and end.
    Close(Instant),
    /// End at once.
    Kill,
    /// A dialed node told its name: go on with this offer, or stop.
    Greeted(Purpose, NodeRef, oneshot::Sender<Option<Offer>>),
    /// A dial ended.
    Dialed(Purpose, Option<NodeRef>, Result<Box<Dialled>, Failure>),
    /// A dialer proved itself.
    Proven(Box<Accepted>),
    /// A connection ended.
    Lost {
        node: NodeRef,
        lane: Lane,
        id: u64,
        end: End,
    },
    /// A lane has nothing more to send; told while closing only.
    Drained,
    /// Break the connections of a node, as a fault of the network would.
    #[cfg(test)]
    Break(NodeRef),
}

/// What a timer is for. Stale ones find another generation and do nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Timer {
    Reconnect(NodeRef, u64),
    Bulk(NodeRef, u64),
    Connect(String, u32),
}

pub(super) struct Manager {
    shared: Arc<Shared>,
    limits: Limits,
    events: mpsc::UnboundedReceiver<Event>,
    listener: Option<TcpListener>,
    accept_after: Option<Instant>,
    bulk: Handle,
    links: BTreeMap<NodeRef, Link>,
    /// Addresses being dialed for `connect`.
    connecting: BTreeSet<String>,
    own_addresses: BTreeSet<String>,
    timers: BTreeMap<(Instant, u64), Timer>,
    timer_count: u64,
    closing: Option<Instant>,
}

impl Manager {
    pub(super) fn new(
        shared: Arc<Shared>,
        limits: Limits,
        events: mpsc::UnboundedReceiver<Event>,
        listener: TcpListener,
        bulk: Handle,
    ) -> Self {
        let own_addresses = BTreeSet::from([shared.identity.address.clone()]);
        Self {
            shared,
            limits,
            events,
            listener: Some(listener),
            accept_after: None,
            bulk,
            links: BTreeMap::new(),
            connecting: BTreeSet::new(),
            own_addresses,
            timers: BTreeMap::new(),
            timer_count: 0,
            closing: None,
        }
    }

    /// Runs until told to end.
    pub(super) async fn run(mut self) {
        loop {
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Some(Event::Kill) | None => break,
                    Some(event) => self.handle(event),
                },
                accepted = accept(self.listener.as_ref(), self.accept_after) => self.accepted(accepted),
                () = time::sleep_until(deadline) => self.fire_timers(),
            }
            let is_over = |deadline: Instant| self.links.is_empty() || Instant::now() >= deadline;
            if self.closing.is_some_and(is_over) {
                break;
            }
        }
        // Whoever reconnects after losing us must be refused: the listener goes first.
        self.listener = None;
        self.shared.is_closed.store(true, Ordering::Release);
        for node in self.links.keys().cloned().collect::<Vec<_>>() {
            self.remove(&node);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Connect(address) => self.connect(&address),
            Event::Disconnect(node) => self.disconnect(&node),
            Event::OpenBulk(node) => self.dial_bulk(&node),
            Event::Overflow(node) => self.overflow(&node),
            Event::Close(deadline) => self.close(deadline),
            // Ends the loop before it gets here.
            Event::Kill => {}
            Event::Greeted(purpose, node, reply) => {
                let offer = self.greeted(&purpose, &node);
                // A dial that timed out meanwhile does not know that it was given an offer.
                if let (Err(Some(_)), Lane::Ctl) = (reply.send(offer), purpose.lane()) {
                    self.handshake_ended(&node);
                }
            }
            Event::Dialed(purpose, node, result) => self.dialed(purpose, node.as_ref(), result),
            Event::Proven(accepted) => self.proven(*accepted),
            Event::Lost {
                node,
                lane,
                id,
                end,
            } => self.lost(&node, lane, id, &end),
            Event::Drained => self.drained(),
            #[cfg(test)]
            Event::Break(node) => {
                if let Some(link) = self.links.get(&node) {
                    link.break_connections();
                }
            }
        }
    }

    // --- timers

    fn next_deadline(&self) -> Instant {
        let timer = self.timers.keys().next().map(|(at, _)| *at);
        let far = || Instant::now() + Duration::from_secs(3600);
        [timer, self.closing]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or_else(far)
    }

    fn set_timer(&mut self, delay: Duration, timer: Timer) {
        self.timer_count += 1;
        self.timers
            .insert((Instant::now() + delay, self.timer_count), timer);
    }

    fn fire_timers(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                return;
            }
            match entry.remove() {
                Timer::Reconnect(node, generation) => self.reconnect(&node, generation),
                Timer::Bulk(node, generation) => {
                    let is_current = |link: &Link| link.generation == generation;
                    if self.links.get(&node).is_some_and(is_current) {
                        self.dial_bulk(&node);
                    }
                }
                Timer::Connect(address, attempt) => self.dial_address(address, attempt),
            }
        }
    }

    // --- dialing

    fn connect(&mut self, address: &str) {
        if self.closing.is_some()
            || self.own_addresses.contains(address)
            || self.connecting.contains(address)
        {
            return;
        }
        let known = self
            .links
            .iter()
            .find(|(_, link)| link.is_session && link.is_at(address))
            .map(|(node, _)| node.clone());
        match known {
            Some(node) => self.hurry(&node),
            None if self.connecting.len() >= MAX_CONNECTING => {
                let error = Error::new(
                    ErrorKind::Overloaded,
                    "connect",
                    format!("{address}: {MAX_CONNECTING} dials are under way"),
                );
                let address = address.to_owned();
                self.shared
                    .tell(TransportEvent::DialFailed { address, error });
            }
            None => {
                self.connecting.insert(address.to_owned());
                self.dial_address(address.to_owned(), 0);
            }
        }
    }

    /// Does not wait out the pause before the next attempt.
    fn hurry(&mut self, node: &NodeRef) {
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        if link.is_told_down && link.state == LinkState::Waiting {
            link.generation += 1;
            let generation = link.generation;
            self.reconnect(node, generation);
        }
    }

    fn dial_address(&mut self, address: String, attempt: u32) {
        let purpose = Purpose::Connect {
            address: address.clone(),
            attempt,
        };
        dial::start(&self.shared, &self.limits, purpose, address);
    }

    /// Dials a node whose link is down, unless that dial is under way.
    fn reconnect(&mut self, node: &NodeRef, generation: u64) {
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        if link.generation != generation || link.state != LinkState::Waiting {
            return;
        }
        link.state = LinkState::Dialing;
        let purpose = Purpose::Reconnect {
            node: node.clone(),
            generation,
        };
        dial::start(&self.shared, &self.limits, purpose, link.address());
    }

    fn dial_bulk(&mut self, node: &NodeRef) {
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        if link.ctl.is_none() || link.bulk.is_some() || link.is_bulk_dialing {
            return;
        }
        link.is_bulk_dialing = true;
        dial::start(
            &self.shared,
            &self.limits,
            Purpose::Bulk { node: node.clone() },
            link.address(),
        );
    }

    fn greeted(&mut self, purpose: &Purpose, node: &NodeRef) -> Option<Offer> {
        if *node == self.shared.identity.node {
            if let Purpose::Connect { address, .. } = purpose {
                self.own_addresses.insert(address.clone());
            }
            return None;
        }
        match purpose {
            Purpose::Bulk { node: wanted } => {
                let link = self.links.get(node)?;
                let is_open = wanted == node && link.ctl.is_some() && link.bulk.is_none();
                is_open.then(|| link.offer(Lane::Bulk))
            }
            Purpose::Connect { address, .. } => {
                let link = self.link(node);
                if link.ctl.is_some() {
                    link.aliases.insert(address.clone());
                    return None;
                }
                link.handshakes += 1;
                Some(link.offer(Lane::Ctl))
            }
            Purpose::Reconnect { node: wanted, .. } => {
                if wanted != node {
                    // Whoever was there does not listen there any more (R14).
                    self.gone(wanted);
                }
                let link = self.link(node);
                if link.ctl.is_some() {
                    return None;
                }
                link.handshakes += 1;
                Some(link.offer(Lane::Ctl))
            }
        }
    }

    /// The link of a node, made when there is none.
    fn link(&mut self, node: &NodeRef) -> &mut Link {
        let (ctl, bulk) = (self.limits.ctl, self.limits.bulk);
        self.links
            .entry(node.clone())
            .or_insert_with(|| Link::new(Arc::new(Peer::new(node.clone(), ctl, bulk))))
    }

    fn dialed(
        &mut self,
        purpose: Purpose,
        node: Option<&NodeRef>,
        result: Result<Box<Dialled>, Failure>,
    ) {
        let is_ctl = purpose.lane() == Lane::Ctl;
        let result = match result {
            Ok(dialled) if self.closing.is_none() => self.welcome(&purpose, *dialled),
            Ok(_) => Err(Failure::NotNeeded),
            Err(failure) => Err(failure),
        };
        match result {
            Ok(()) => {
                if let Purpose::Connect { address, .. } = &purpose {
                    self.connecting.remove(address);
                }
            }
            Err(failure) => self.dial_failed(purpose, failure),
        }
        if let (Some(node), true) = (node, is_ctl) {
            self.handshake_ended(node);
        }
    }

    fn handshake_ended(&mut self, node: &NodeRef) {
        if let Some(link) = self.links.get_mut(node) {
            link.handshakes = link.handshakes.saturating_sub(1);
        }
        self.settle(node);
    }

    /// Leaves no link in between: what never became a peer is dropped, what lost its connection is dialed.
    fn settle(&mut self, node: &NodeRef) {
        let has_lost = |link: &Link| link.state == LinkState::Up && link.ctl.is_none();
        if self.links.get(node).is_some_and(has_lost) {
            self.start_reconnecting(node);
        }
        let is_stranger = |link: &Link| !link.is_session && link.handshakes == 0;
        if self.links.get(node).is_some_and(is_stranger) {
            self.links.remove(node);
        }
    }

    /// A dialed connection whose ends proved themselves: keep it, or say why not.
    fn welcome(&mut self, purpose: &Purpose, dialled: Dialled) -> Result<(), Failure> {
        let Dialled {
            stream,
            id,
            greeting,
            offer,
        } = dialled;
        let node = greeting.node.clone();
        if purpose.lane() == Lane::Bulk {
            let Some(link) = self.links.get_mut(&node) else {
                return Err(Failure::NotNeeded);
            };
            link.is_bulk_dialing = false;
            if !link.is_same_session(offer) {
                return Err(Failure::Stale);
            }
            return self.attach_bulk(&node, stream, id, offer.received);
        }
        let own = self.shared.identity.node.clone();
        let is_unwanted = matches!(purpose, Purpose::Reconnect { node: wanted, .. } if *wanted == node)
            && !self.links.contains_key(&node);
        if is_unwanted {
            return Err(Failure::NotNeeded);
        }
        let link = self.link(&node);
        if let Purpose::Connect { address, .. } = purpose {
            link.aliases.insert(address.clone());
        }
        if link.ctl.as_ref().is_some_and(|kept| !kept.is_ours) && node < own {
            return Err(Failure::NotNeeded);
        }
        match link.half.meet(offer.claim) {
            Meeting::Match => {}
            Meeting::ResetOurs => {
                self.reset(&node);
                return Err(Failure::Stale);
            }
            Meeting::ResetTheirs => return Err(Failure::Stale),
        }
        self.link(&node).half.bind(offer.claim);
        self.attach_ctl(&node, &greeting.address, stream, id, true, offer.received)
    }

    fn dial_failed(&mut self, purpose: Purpose, failure: Failure) {
        match &failure {
            Failure::Authentication(_) => count(&self.shared.counters.authentication_failed),
            Failure::Malformed(_) => count(&self.shared.counters.malformed),
            Failure::TimedOut => count(&self.shared.counters.handshake_timeouts),
            Failure::Refused
            | Failure::Dropped(_)
            | Failure::Version(_)
            | Failure::Duplicate
            | Failure::Stale
            | Failure::NotNeeded
            | Failure::Address(_)
            | Failure::Io(_) => {}
        }
        tracing::debug!(?purpose, %failure, "dial failed");
        match purpose {
            Purpose::Connect { address, attempt } => self.connect_failed(address, attempt, failure),
            Purpose::Reconnect { node, generation } => {
                self.reconnect_failed(&node, generation, &failure);
            }
            Purpose::Bulk { node } => self.bulk_failed(&node),
        }
    }

    fn connect_failed(&mut self, address: String, attempt: u32, failure: Failure) {
        let is_linked = self
            .links
            .values()
            .any(|link| link.ctl.is_some() && link.is_at(&address));
        if is_linked || failure == Failure::NotNeeded || self.closing.is_some() {
            self.connecting.remove(&address);
            return;
        }
        let is_race = matches!(failure, Failure::Duplicate | Failure::Stale);
        if is_race && attempt < MAX_QUICK_RETRIES {
            self.set_timer(QUICK_RETRY, Timer::Connect(address, attempt + 1));
            return;
        }
        self.connecting.remove(&address);
        let error = dial_error(&address, failure);
        if error.kind == ErrorKind::AuthenticationFailed {
            tracing::warn!(%address, %error, "dial failed");
        }
        self.shared
            .tell(TransportEvent::DialFailed { address, error });
    }

    fn reconnect_failed(&mut self, node: &NodeRef, generation: u64, failure: &Failure) {
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        if link.generation != generation || link.ctl.is_some() {
            return;
        }
        link.state = LinkState::Waiting;
        let mut delay = QUICK_RETRY;
        match failure {
            Failure::Refused => {
                link.refusals += 1;
                if link.refusals >= REFUSALS_OF_DEATH {
                    self.gone(node);
                    return;
                }
            }
            Failure::Dropped(_) | Failure::Duplicate | Failure::Stale | Failure::NotNeeded
                if link.attempts < MAX_QUICK_RETRIES =>
            {
                link.refusals = 0;
                link.attempts += 1;
            }
            Failure::Dropped(_)
            | Failure::Duplicate
            | Failure::Stale
            | Failure::NotNeeded
            | Failure::TimedOut
            | Failure::Malformed(_)
            | Failure::Authentication(_)
            | Failure::Version(_)
            | Failure::Address(_)
            | Failure::Io(_) => {
                link.refusals = 0;
                link.attempts += 1;
                delay = link.backoff(BACKOFF);
                self.tell_down(node);
            }
        }
        if self
            .links
            .get(node)
            .is_some_and(|link| link.down_since.elapsed() > RETENTION)
        {
            self.remove(node);
            return;
        }
        self.set_timer(delay, Timer::Reconnect(node.clone(), generation));
    }

    fn bulk_failed(&mut self, node: &NodeRef) {
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        link.is_bulk_dialing = false;
        link.bulk_attempts += 1;
        self.retry_bulk(node);
    }

    /// Opens the bulk lane again if something waits for it.
    fn retry_bulk(&mut self, node: &NodeRef) {
        let Some(link) = self.links.get(node) else {
            return;
        };
        if link.ctl.is_none() || link.bulk.is_some() || link.peer.bulk.is_drained() {
            return;
        }
        let delay = QUICK_RETRY * 2u32.pow(link.bulk_attempts.min(6));
        let generation = link.generation;
        self.set_timer(delay, Timer::Bulk(node.clone(), generation));
    }

    // --- accepting

    fn accepted(&mut self, accepted: std::io::Result<TcpStream>) {
        self.accept_after = None;
        match accepted {
            Ok(stream) => dial::answer(&self.shared, &self.limits, stream),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                self.accept_after = Some(Instant::now() + ACCEPT_PAUSE);
            }
        }
    }

    fn proven(&mut self, accepted: Accepted) {
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

    fn admit_ctl(&mut self, accepted: Accepted) -> Result<(), Failure> {
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
        let Accepted {
            stream,
            id,
            greeting,
            offer,
            ..
        } = accepted;
        self.attach_ctl(&node, &greeting.address, stream, id, false, offer.received)
    }

    fn admit_bulk(&mut self, accepted: Accepted) -> Result<(), Failure> {
        let node = accepted.greeting.node.clone();
        let own = self.shared.identity.node.clone();
        let Some(link) = self.links.get(&node) else {
            refuse(&accepted.stream, Refusal::Stale);
            return Err(Failure::Stale);
        };
        if link.ctl.is_none() || !link.is_same_session(accepted.offer) {
            refuse(&accepted.stream, Refusal::Stale);
            return Err(Failure::Stale);
        }
        let is_kept = |kept: &super::link::Attached| kept.is_ours && own < node;
        if link.bulk.as_ref().is_some_and(is_kept) {
            refuse(&accepted.stream, Refusal::Duplicate);
            return Err(Failure::Duplicate);
        }
        write_answer(&accepted, &self.shared, link.offer(Lane::Bulk))?;
        let Accepted {
            stream, id, offer, ..
        } = accepted;
        self.attach_bulk_as(&node, stream, id, false, offer.received)
    }

    // --- links

    fn attach_ctl(
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
        link.attach(
            Lane::Ctl,
            &shared,
            &Handle::current(),
            stream,
            id,
            is_ours,
            received,
        )?;
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
        self.link(node)
            .start_reading(Lane::Ctl, &shared, &Handle::current());
        self.link(node).bulk_attempts = 0;
        if !peer.bulk.is_drained() {
            self.dial_bulk(node);
        }
        Ok(())
    }

    fn attach_bulk(
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

    fn attach_bulk_as(
        &mut self,
        node: &NodeRef,
        stream: TcpStream,
        id: u64,
        is_ours: bool,
        received: u64,
    ) -> Result<(), Failure> {
        let (shared, bulk) = (self.shared.clone(), self.bulk.clone());
        let link = self.link(node);
        link.attach(Lane::Bulk, &shared, &bulk, stream, id, is_ours, received)?;
        link.start_reading(Lane::Bulk, &shared, &bulk);
        Ok(())
    }

    fn lost(&mut self, node: &NodeRef, lane: Lane, id: u64, end: &End) {
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
        if self.closing.is_some() {
            self.remove(node);
            return;
        }
        if *end == End::Goodbye {
            self.tell_down(node);
            self.remove(node);
            return;
        }
        link.bad_connections = if is_short {
            link.bad_connections + 1
        } else {
            0
        };
        self.start_reconnecting(node);
    }

    fn start_reconnecting(&mut self, node: &NodeRef) {
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
    fn reset(&mut self, node: &NodeRef) {
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        link.reset(Half::new(random_id()));
        count(&self.shared.counters.sessions_reset);
        tracing::warn!(%node, "session is reset");
        self.shared
            .tell(TransportEvent::SessionReset { node: node.clone() });
    }

    fn overflow(&mut self, node: &NodeRef) {
        self.reset(node);
        self.settle(node);
    }

    /// Nothing of this node listens at its address any more.
    fn gone(&mut self, node: &NodeRef) {
        if self.links.get(node).is_none_or(|link| !link.is_session) {
            return;
        }
        self.remove(node);
        tracing::info!(%node, "link is down: refused");
        self.shared.tell(TransportEvent::LinkDown {
            node: node.clone(),
            refused: true,
        });
    }

    fn tell_down(&mut self, node: &NodeRef) {
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        if link.is_told_down || !link.is_session {
            return;
        }
        link.is_told_down = true;
        link.peer.is_up.store(false, Ordering::Release);
        tracing::info!(%node, "link is down");
        self.shared.tell(TransportEvent::LinkDown {
            node: node.clone(),
            refused: false,
        });
    }

    /// Forgets a node and closes its connections.
    fn remove(&mut self, node: &NodeRef) {
        self.shared.peers.write().remove(node);
        if let Some(link) = self.links.remove(node) {
            link.close();
        }
    }

    fn disconnect(&mut self, node: &NodeRef) {
        if let Some(link) = self.links.get(node) {
            link.peer.ctl.say_goodbye();
            self.tell_down(node);
            self.remove(node);
        }
    }

    // --- the end

    fn close(&mut self, deadline: Instant) {
        self.closing = Some(deadline);
        self.listener = None;
        let down: Vec<NodeRef> = self
            .links
            .iter()
            .filter(|(_, link)| link.ctl.is_none())
            .map(|(node, _)| node.clone())
            .collect();
        for node in down {
            self.remove(&node);
        }
        self.drained();
    }

    /// Says goodbye to whoever has everything of the bulk lane; the control lane sends its rest before it.
    fn drained(&mut self) {
        if self.closing.is_none() {
            return;
        }
        for link in self.links.values() {
            if link.peer.bulk.is_drained() {
                link.peer.ctl.say_goodbye();
            }
        }
    }
}

async fn accept(
    listener: Option<&TcpListener>,
    after: Option<Instant>,
) -> std::io::Result<TcpStream> {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    if let Some(after) = after {
        time::sleep_until(after).await;
    }
    listener.accept().await.map(|(stream, _)| stream)
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

/// The error of `DialFailed`.
fn dial_error(address: &str, failure: Failure) -> Error {
    let kind = match &failure {
        Failure::Address(error) => return error.clone(),
        Failure::Authentication(_) => ErrorKind::AuthenticationFailed,
        Failure::Version(_) => ErrorKind::VersionMismatch,
        Failure::TimedOut => ErrorKind::Timeout,
        Failure::Refused
        | Failure::Dropped(_)
        | Failure::Malformed(_)
        | Failure::Duplicate
        | Failure::Stale
        | Failure::NotNeeded
        | Failure::Io(_) => ErrorKind::Unreachable,
    };
    Error::new(kind, "connect", format!("{address}: {failure}"))
}
