//! A broken invariant, with the facts a reader needs.

use std::fmt;

use super::time::WorldTime;

/// A broken invariant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The name of semantics.md, such as `S4`.
    pub invariant: &'static str,
    /// When it was seen.
    pub at: WorldTime,
    /// Nodes, child and tokens.
    pub facts: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, at, facts } = self;
        write!(f, "{invariant} is broken at {at}: {facts}")
    }
}

/// What a check of an invariant says.
pub(crate) type Check = Result<(), Violation>;
