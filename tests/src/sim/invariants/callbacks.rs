//! S11 for callbacks: once per instance, one at a time, none after the last.

use process_hub::host::call::{HostCall, HostRequest};

use super::super::fact::{Fact, child_index};
use super::super::ghost::{Ghost, Run};
use super::super::queue::ProcessId;
use super::super::violation::Check;
use super::{Invariant, broken};

/// See the module.
pub(super) struct OncePerToken;

impl Invariant for OncePerToken {
    fn observe(&mut self, ghost: &Ghost, fact: &Fact<'_>) -> Check {
        let Fact::Called { process, call, .. } = fact else {
            return Ok(());
        };
        if matches!(call.request, HostRequest::AlterSpec { .. }) {
            return Ok(());
        }
        let run = child_index(&call.child)
            .and_then(|index| ghost.children.get(index))
            .and_then(|child| child.run(*process, call.instance));
        match wrong(call, run) {
            None => Ok(()),
            Some(what) => complain(ghost, *process, call, run, what),
        }
    }
}

fn wrong(call: &HostCall, run: Option<&Run>) -> Option<&'static str> {
    let Some(run) = run else {
        let is_start = matches!(call.request, HostRequest::Start(_));
        return (!is_start).then_some("of an instance that was never started");
    };
    let is_instant = matches!(
        call.request,
        HostRequest::Run | HostRequest::CancelRun | HostRequest::SetRole(..) | HostRequest::Discard
    );
    if matches!(call.request, HostRequest::Start(_)) {
        return Some("of an instance that was started before");
    }
    if run.ended.is_some() && !matches!(call.request, HostRequest::Discard) {
        return Some("after the instance's last");
    }
    if run.stopping.is_some() && !matches!(call.request, HostRequest::Discard) {
        return Some("after stop");
    }
    if run.in_flight.is_some() && !is_instant {
        return Some("while another one runs");
    }
    let needs_start = !matches!(call.request, HostRequest::Discard | HostRequest::Stop(_));
    if run.started.is_none() && needs_start && run.in_flight.is_none() {
        return Some("before start succeeded");
    }
    None
}

fn complain(ghost: &Ghost, process: ProcessId, call: &HostCall, run: Option<&Run>, what: &str) -> Check {
    broken(
        ghost,
        "S11",
        format!(
            "{} calls {} {what}: {} instance {}, in flight {:?}, ended {:?}",
            ghost.describe(process),
            call.request.callback(),
            call.child,
            call.instance,
            run.and_then(|run| run.in_flight),
            run.and_then(|run| run.ended),
        ),
    )
}
