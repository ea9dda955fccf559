//! Dials: what asks for them, and what they come to.

use std::time::Duration;

use super::super::dial::{self, Purpose};
use super::super::handshake::{Dialled, Failure};
use super::super::link::{Link, LinkState};
use super::super::peer::count;
use super::super::wire::Offer;
use super::{BACKOFF, Manager, QUICK_RETRY, Timer};
use crate::engine::Lane;
use crate::error::{Error, ErrorKind};
use crate::ids::NodeRef;
use crate::net::TransportEvent;
use crate::net::session::Meeting;

/// Refusals in a row that prove that nothing listens (R14).
const REFUSALS_OF_DEATH: u32 = 2;
/// Quick retries when a listener accepts and closes, as one does whose process is going down.
const MAX_QUICK_RETRIES: u32 = 5;
/// A link that is down is given up after this time, and its session with it.
const RETENTION: Duration = Duration::from_secs(600);
/// Addresses dialed at once for `connect`.
const MAX_CONNECTING: usize = 128;

impl Manager {
    pub(super) fn connect(&mut self, address: &str) {
        if self.closing.is_some() || self.own_addresses.contains(address) || self.connecting.contains(address) {
            return;
        }
        let known =
            self.links.iter().find(|(_, link)| link.is_session && link.is_at(address)).map(|(node, _)| node.clone());
        match known {
            Some(node) => self.hurry(&node),
            None if self.connecting.len() >= MAX_CONNECTING => {
                let error = Error::new(
                    ErrorKind::Overloaded,
                    "connect",
                    format!("{address}: {MAX_CONNECTING} dials are under way"),
                );
                let address = address.to_owned();
                self.shared.tell(TransportEvent::DialFailed { address, error });
            }
            None => {
                self.connecting.insert(address.to_owned());
                self.dial_address(address.to_owned(), 0);
            }
        }
    }

    /// Does not wait out the pause before the next attempt.
    pub(super) fn hurry(&mut self, node: &NodeRef) {
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        if link.is_told_down && link.state == LinkState::Waiting {
            link.generation += 1;
            let generation = link.generation;
            self.reconnect(node, generation);
        }
    }

    pub(super) fn dial_address(&mut self, address: String, attempt: u32) {
        let purpose = Purpose::Connect { address: address.clone(), attempt };
        dial::start(&self.shared, &self.limits, purpose, address);
    }

    /// Dials a node whose link is down, unless that dial is under way.
    pub(super) fn reconnect(&mut self, node: &NodeRef, generation: u64) {
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        if link.generation != generation || link.state != LinkState::Waiting {
            return;
        }
        link.state = LinkState::Dialing;
        let purpose = Purpose::Reconnect { node: node.clone(), generation };
        dial::start(&self.shared, &self.limits, purpose, link.address());
    }

    pub(super) fn dial_bulk(&mut self, node: &NodeRef) {
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        if link.ctl.is_none() || link.bulk.is_some() || link.is_bulk_dialing {
            return;
        }
        link.is_bulk_dialing = true;
        dial::start(&self.shared, &self.limits, Purpose::Bulk { node: node.clone() }, link.address());
    }

    pub(super) fn greeted(&mut self, purpose: &Purpose, node: &NodeRef) -> Option<Offer> {
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

    pub(super) fn dialed(&mut self, purpose: Purpose, node: Option<&NodeRef>, result: Result<Box<Dialled>, Failure>) {
        let is_ctl = purpose.lane() == Lane::Ctl;
        let result = match result {
            // While closing, what is queued for a bulk lane still goes.
            Ok(_) if is_ctl && self.closing.is_some() => Err(Failure::NotNeeded),
            Ok(dialled) => self.welcome(&purpose, *dialled),
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

    pub(super) fn handshake_ended(&mut self, node: &NodeRef) {
        if let Some(link) = self.links.get_mut(node) {
            link.handshakes = link.handshakes.saturating_sub(1);
        }
        self.settle(node);
    }

    /// Leaves no link in between: what never became a peer is dropped, what lost its connection is dialed.
    pub(super) fn settle(&mut self, node: &NodeRef) {
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
    pub(super) fn welcome(&mut self, purpose: &Purpose, dialled: Dialled) -> Result<(), Failure> {
        let Dialled { stream, id, greeting, offer } = dialled;
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

    pub(super) fn dial_failed(&mut self, purpose: Purpose, failure: Failure) {
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

    pub(super) fn connect_failed(&mut self, address: String, attempt: u32, failure: Failure) {
        let is_linked = self.links.values().any(|link| link.is_session && link.is_at(&address));
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
        self.shared.tell(TransportEvent::DialFailed { address, error });
    }

    pub(super) fn reconnect_failed(&mut self, node: &NodeRef, generation: u64, failure: &Failure) {
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
        if self.links.get(node).is_some_and(|link| link.down_since.elapsed() > RETENTION) {
            self.remove(node);
            return;
        }
        self.set_timer(delay, Timer::Reconnect(node.clone(), generation));
    }

    pub(super) fn bulk_failed(&mut self, node: &NodeRef) {
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        link.is_bulk_dialing = false;
        link.bulk_attempts += 1;
        self.retry_bulk(node);
    }

    /// Opens the bulk lane again if something waits for it.
    pub(super) fn retry_bulk(&mut self, node: &NodeRef) {
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
}

/// The error of `DialFailed`.
fn dial_error(address: &str, failure: Failure) -> Error {
    let kind = match &failure {
        Failure::Address(error) => return Error::clone(error),
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
