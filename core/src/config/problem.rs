//! What is wrong with a configuration, and where.

use std::fmt;

use crate::error::{Error, ErrorKind};

/// Most problems listed in one message; a document that has more is not a configuration.
const MAX_LISTED: usize = 64;

/// One thing wrong with a configuration.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// Where in the document, such as `node.seeds[1]`; `$` is the document itself.
    pub path: String,
    /// What is wrong, as the end of a sentence that starts with the path.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

/// The problems found so far.
#[derive(Default, Debug)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    /// Notes one.
    pub(crate) fn add(&mut self, path: impl Into<String>, what: impl Into<String>) {
        self.0.push(Problem { path: path.into(), what: what.into() });
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// `Ok` if there are none.
    pub(crate) fn into_result<T>(self, value: T) -> Result<T, Vec<Problem>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }
}

/// One `invalid_config` error that lists every problem with its path.
pub(crate) fn invalid_config(problems: &[Problem]) -> Error {
    let count = problems.len();
    let noun = if count == 1 { "problem" } else { "problems" };
    let mut message = format!("the configuration has {count} {noun}");
    let mut separator = ": ";
    for problem in problems.iter().take(MAX_LISTED) {
        message.push_str(&format!("{separator}{problem}"));
        separator = "; ";
    }
    if count > MAX_LISTED {
        message.push_str(&format!("; and {} more", count - MAX_LISTED));
    }
    Error::new(ErrorKind::InvalidConfig, "hub_config", message)
}
