//! What happened, as the oracle is told.

use std::sync::Arc;

use process_hub::engine::{Command, HubStatus, Outcome};
use process_hub::error::Error;
use process_hub::host::call::{HostAnswer, HostCall, InstanceEvent};
use process_hub::ids::{ChildId, InstanceId, NodeRef, RequestId};
use process_hub::observe::HookEvent;
use process_hub::spec::Row;

use super::host::Kind;
use super::queue::{HubIndex, ProcessId, Verdict};
use super::time::WorldTime;

/// One thing that happened.
#[derive(Debug)]
pub(crate) enum Fact<'a> {
    ProcessUp {
        node: &'a NodeRef,
        slot: usize,
        kinds: Vec<Kind>,
        weight: f64,
        hub_count: usize,
    },
    ProcessDown {
        process: ProcessId,
        why: &'static str,
    },
    Suspended(ProcessId),
    Resumed(ProcessId),
    /// A directed link was cut or mended.
    Link {
        from: usize,
        to: usize,
        passes: bool,
    },
    /// A disturbance that is none of the above.
    Fault(String),
    /// Every fault ended; only these processes stay.
    Healed(Vec<ProcessId>),
    /// Membership told the engines of a process about a peer.
    Member {
        process: ProcessId,
        peer: &'a NodeRef,
        verdict: Verdict,
    },
    /// A frame was sent; when it arrives, if it does.
    Frame {
        from: ProcessId,
        to: &'a NodeRef,
        hub: HubIndex,
        frame: &'a bytes::Bytes,
        arrival: Option<WorldTime>,
    },
    Called {
        process: ProcessId,
        hub: HubIndex,
        call: &'a HostCall,
    },
    Completed {
        process: ProcessId,
        hub: HubIndex,
        call: &'a HostCall,
        answer: &'a HostAnswer,
    },
    Acted {
        process: ProcessId,
        hub: HubIndex,
        instance: InstanceId,
        event: &'a InstanceEvent,
    },
    /// A `run` body ended.
    RunEnded {
        process: ProcessId,
        hub: HubIndex,
        instance: InstanceId,
        crash: bool,
    },
    Row {
        process: ProcessId,
        hub: HubIndex,
        child: &'a ChildId,
        row: Option<&'a Arc<Row>>,
    },
    Status {
        process: ProcessId,
        hub: HubIndex,
        status: &'a HubStatus,
    },
    /// Until when a hub may run children.
    Lease {
        process: ProcessId,
        hub: HubIndex,
        until: WorldTime,
    },
    Hook {
        process: ProcessId,
        hub: HubIndex,
        event: &'a HookEvent,
    },
    Issued {
        process: ProcessId,
        hub: HubIndex,
        request: RequestId,
        command: &'a Command,
    },
    Cancelled {
        process: ProcessId,
        hub: HubIndex,
        request: RequestId,
    },
    Replied {
        process: ProcessId,
        hub: HubIndex,
        request: RequestId,
        result: &'a Result<Outcome, Error>,
    },
    /// An open request passed its deadline.
    Overdue {
        process: ProcessId,
        hub: HubIndex,
        request: RequestId,
    },
    /// A hub fenced itself.
    Failed {
        process: ProcessId,
        hub: HubIndex,
        reason: &'a str,
    },
    /// The engine asks for a turn again and again at one moment.
    Spins {
        process: ProcessId,
        hub: HubIndex,
    },
}

/// The index of a child, from its id.
pub(crate) fn child_index(child: &ChildId) -> Option<usize> {
    child.as_str().strip_prefix('c')?.parse().ok()
}

/// The id of the child with this index.
#[allow(clippy::unwrap_used, reason = "the text is ours and short")]
pub(crate) fn child_id(index: usize) -> ChildId {
    ChildId::new(format!("c{index}")).unwrap()
}

/// The number of a requested spec, from its arguments `{"spec":7,…}`.
pub(crate) fn spec_number(args: &[u8]) -> Option<u32> {
    let digits = args.strip_prefix(b"{\"spec\":")?;
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&digits[..length]).ok()?.parse().ok()
}

/// The arguments of a requested spec.
pub(crate) fn spec_args(number: u32, pad_bytes: u64) -> Vec<u8> {
    format!("{{\"spec\":{number},\"pad_bytes\":{pad_bytes}}}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_written_then_their_number_reads_back() {
        assert_eq!(spec_number(&spec_args(1207, 3)), Some(1207));
        assert_eq!(spec_number(b"null"), None);
    }
}
