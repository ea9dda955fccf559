//! The invariants of reliability-and-security.md §3, as semantics.md reads them, one file each.
//!
//! Safety is checked at every fact, against what was known before it; it looks only at what the fact touches.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "an invariant names the facts it looks at; the others do not concern it"
)]

mod callbacks;
mod contract;
pub(crate) mod liveness;
mod loss;
mod messages;
mod roles;
mod s1;
mod s10;
mod s17;
mod s2;
mod s20;
mod s3;
mod s4;
mod s5;
mod s6;
mod s8;
mod s9;

use super::fact::Fact;
use super::ghost::Ghost;
use super::violation::{Check, Violation};

/// Something that must hold at all times.
pub(crate) trait Invariant {
    /// Checks a fact against what was known before it.
    fn observe(&mut self, ghost: &Ghost, fact: &Fact<'_>) -> Check;

    /// Checks what can only be said when the run is over.
    fn conclude(&mut self, _ghost: &Ghost) -> Check {
        Ok(())
    }
}

/// Every safety invariant.
pub(crate) fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(contract::Contract),
        Box::new(s1::Requested),
        Box::new(s2::OneIncarnation),
        Box::new(s3::OneActive),
        Box::new(s4::Swap),
        Box::new(s5::OneSide::default()),
        Box::new(s6::Report),
        Box::new(s8::Decided::default()),
        Box::new(s9::Fencing::default()),
        Box::new(s10::NoResurrection),
        Box::new(callbacks::OncePerToken),
        Box::new(messages::HandledOnce),
        Box::new(roles::Roles),
        Box::new(s17::Order::default()),
        Box::new(s20::Conflict),
        Box::new(loss::NothingSilent),
    ]
}

/// A violation now.
fn broken(ghost: &Ghost, invariant: &'static str, facts: String) -> Check {
    Err(Violation { invariant, at: ghost.now, facts })
}
