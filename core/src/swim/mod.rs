//! Membership: foca and the driver around it, pure (A7).

use serde::{Deserialize, Serialize};

/// Why a member counts as gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Evidence {
    /// Its link was closed and two reconnects were refused: nothing listens there (R14).
    Refused,
    /// It did not answer probes, nor the last check.
    Suspected,
    /// It said that it leaves.
    Left,
    /// A newer incarnation has its name (R13).
    Replaced,
}
