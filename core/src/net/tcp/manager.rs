//! The one task that decides about links: it owns every link's state and runs on the thread of the control lane.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{self, Instant};

use super::Limits;
use super::dial::Purpose;
use super::handshake::{Accepted, Dialled, Failure};
use super::inherited::Noted;
use super::link::Link;
use super::peer::Shared;
use super::reader::End;
use super::wire::Offer;
use crate::engine::Lane;
use crate::ids::NodeRef;

mod accepting;
mod dialing;
mod links;

/// Reconnects of R14 come at this distance.
const QUICK_RETRY: Duration = Duration::from_millis(20);
/// First and longest pause after that.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

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
    Lost { node: NodeRef, lane: Lane, id: u64, end: End },
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
    Leave(NodeRef, u64),
}

pub(super) struct Manager {
    shared: Arc<Shared>,
    limits: Limits,
    events: mpsc::UnboundedReceiver<Event>,
    listener: Option<Noted<TcpListener>>,
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
            listener: Some(Noted::new(listener)),
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
                accepted = accept(self.listener.as_deref(), self.accept_after) => self.accepted(accepted),
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
            Event::Lost { node, lane, id, end } => self.lost(&node, lane, id, &end),
            Event::Drained => self.drained(),
            #[cfg(test)]
            Event::Break(node) => {
                if let Some(link) = self.links.get(&node) {
                    link.break_connections();
                }
            }
        }
    }

    fn next_deadline(&self) -> Instant {
        let timer = self.timers.keys().next().map(|(at, _)| *at);
        let far = || Instant::now() + Duration::from_secs(3600);
        [timer, self.closing].into_iter().flatten().min().unwrap_or_else(far)
    }

    fn set_timer(&mut self, delay: Duration, timer: Timer) {
        self.timer_count += 1;
        self.timers.insert((Instant::now() + delay, self.timer_count), timer);
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
                Timer::Leave(node, generation) => {
                    let is_current = |link: &Link| link.is_leaving && link.generation == generation;
                    if self.links.get(&node).is_some_and(is_current) {
                        self.remove(&node);
                    }
                }
            }
        }
    }

    fn close(&mut self, deadline: Instant) {
        self.closing = Some(deadline);
        self.listener = None;
        let down: Vec<NodeRef> =
            self.links.iter().filter(|(_, link)| link.ctl.is_none()).map(|(node, _)| node.clone()).collect();
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

async fn accept(listener: Option<&TcpListener>, after: Option<Instant>) -> io::Result<(TcpStream, SocketAddr)> {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    if let Some(after) = after {
        time::sleep_until(after).await;
    }
    listener.accept().await
}
