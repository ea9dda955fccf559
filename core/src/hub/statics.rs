//! The static children of a configuration: asked for until they are wanted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::pending::Answer;
use crate::engine::{Command, IfExists, StartOptions};
use crate::ids::RequestId;
use crate::spec::ChildSpec;
use crate::time::Timestamp;

/// The driver's own requests have this bit. Those of the public API count up from one, and the bit above it marks
/// the engine's own.
const OWN_REQUEST: u64 = 1 << 62;

/// The static children of one hub that are not ensured yet.
#[derive(Debug)]
pub(crate) struct StaticChildren {
    missing: Vec<Arc<ChildSpec>>,
    interval: Duration,
    next: Timestamp,
    attempts: u64,
}

impl StaticChildren {
    pub(crate) fn new(specs: Vec<ChildSpec>, interval: Duration, now: Timestamp) -> Self {
        Self {
            next: if specs.is_empty() { Timestamp::NEVER } else { now },
            missing: specs.into_iter().map(Arc::new).collect(),
            interval,
            attempts: 0,
        }
    }

    pub(crate) fn next_deadline(&self) -> Timestamp {
        self.next
    }

    /// Asks for the missing children if it is time.
    pub(crate) fn begin_due(&mut self, now: Timestamp, begin: impl FnOnce(RequestId, Command)) {
        if now < self.next {
            return;
        }
        self.next = Timestamp::NEVER;
        self.attempts += 1;
        let options = StartOptions { if_exists: IfExists::Return, ..StartOptions::default() };
        begin(self.request(), Command::Start(self.missing.clone(), options));
    }

    fn request(&self) -> RequestId {
        RequestId(OWN_REQUEST | self.attempts)
    }

    /// Whether the answer of this request is for [`Self::answered`].
    pub(crate) fn is_own(&self, id: RequestId) -> bool {
        id.0 & OWN_REQUEST != 0
    }

    /// Keeps what failed for the next interval.
    pub(crate) fn answered(&mut self, now: Timestamp, answer: Answer) {
        match answer {
            Ok(outcome) => {
                let result = outcome.into_start_result().unwrap_or_default();
                for error in &result.errors {
                    tracing::warn!(target: "process_hub::hub", child = %error.id, kind = %error.kind, message = error.message, "a static child is not ensured yet");
                }
                let failed: BTreeSet<&str> = result.errors.iter().map(|error| error.id.as_str()).collect();
                self.missing.retain(|spec| failed.contains(spec.id.as_str()));
            }
            Err(error) => {
                tracing::warn!(target: "process_hub::hub", %error, "the static children are not ensured yet");
            }
        }
        if !self.missing.is_empty() {
            self.next = now + self.interval;
        }
    }
}
