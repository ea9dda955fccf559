//! The families of which the host may decide, in a language that cannot implement their traits.

use std::fmt;

use serde_json::Value;

use crate::error::{Error, ErrorKind};

/// A family of which the host may decide (the type `custom` of a configuration).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// Which instance of each child is the active one.
    Redundancy,
    /// In which order moves begin.
    Migration,
    /// Whether this side of the cluster may run children.
    PartitionTolerance,
    /// Which nodes run which children.
    Distribution,
}

impl Family {
    /// Every one.
    pub const ALL: &'static [Self] = &[Self::Redundancy, Self::Migration, Self::PartitionTolerance, Self::Distribution];

    /// The key in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redundancy => "redundancy",
            Self::Migration => "migration",
            Self::PartitionTolerance => "partition_tolerance",
            Self::Distribution => "distribution",
        }
    }

    /// The family with this key.
    ///
    /// # Errors
    /// `invalid_argument` with the keys there are.
    pub fn parse(name: &str) -> Result<Self, Error> {
        Self::ALL.iter().copied().find(|family| family.name() == name).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|family| family.name()).collect();
            let message = format!("a strategy's family must be one of {}, not {name}", known.join(", "));
            Error::new(ErrorKind::InvalidArgument, "register_strategy", message)
        })
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the host is asked to decide.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// The family.
    pub family: Family,
    /// The name of the strategy in the configuration.
    pub strategy: String,
    /// What is to be decided: docs/strategies.md shows the questions and their answers.
    pub question: Value,
}
