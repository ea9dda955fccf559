//! Connections that are not authenticated yet: how many there may be, in all and from one source.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// Most connections that may be half open at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct HalfOpenLimits {
    /// Of all sources together.
    pub(super) total: usize,
    /// Of one address of another machine, so that one machine cannot keep all others out.
    pub(super) per_source: usize,
    /// Of one loopback address, which every node of this machine dials from.
    pub(super) per_loopback_source: usize,
}

/// Counts half-open connections.
#[derive(Debug)]
pub(super) struct HalfOpen {
    limits: HalfOpenLimits,
    counts: Mutex<BTreeMap<IpAddr, usize>>,
}

/// A half-open connection, for as long as it is kept.
#[derive(Debug)]
pub(super) struct Place {
    half_open: Arc<HalfOpen>,
    source: IpAddr,
}

/// Why a connection is closed at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TooMany {
    /// This many are half open.
    InAll(usize),
    /// This many are half open from its source.
    FromSource(usize),
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InAll(limit) => write!(f, "{limit} connections are half open"),
            Self::FromSource(limit) => write!(f, "{limit} connections of its source are half open"),
        }
    }
}

impl HalfOpen {
    pub(super) fn new(limits: HalfOpenLimits) -> Self {
        Self { limits, counts: Mutex::new(BTreeMap::new()) }
    }

    /// Takes a place for a connection that comes from `address`.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Place, TooMany> {
        let source = source(address);
        let limit = if source.is_loopback() { self.limits.per_loopback_source } else { self.limits.per_source };
        let mut counts = self.counts.lock();
        if counts.values().sum::<usize>() >= self.limits.total {
            return Err(TooMany::InAll(self.limits.total));
        }
        let count = counts.get(&source).copied().unwrap_or(0);
        if count >= limit {
            return Err(TooMany::FromSource(limit));
        }
        counts.insert(source, count + 1);
        Ok(Place { half_open: self.clone(), source })
    }

    pub(super) fn count(&self) -> usize {
        self.counts.lock().values().sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.half_open.counts.lock();
        match counts.get_mut(&self.source) {
            Some(count) if *count > 1 => *count -= 1,
            // Sources that have none are forgotten, so that the map holds no more of them than places.
            Some(_) | None => {
                counts.remove(&self.source);
            }
        }
    }
}

/// What counts as one source: an IPv4 address, or the /64 that one IPv6 host can choose its addresses from.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        canonical @ (IpAddr::V4(_) | IpAddr::V6(_)) => canonical,
    }
}

#[cfg(test)]
mod tests;
