//! The readable history of a run: one line per event, with virtual time.

use process_hub::host::call::{HostAnswer, HostRequest};
use process_hub::ids::ChildId;

use super::fact::Fact;
use super::ghost::Ghost;
use super::host::{State, decode_message};
use super::queue::ProcessId;

/// Which facts are printed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    pub(crate) is_on: bool,
    /// Only what concerns this child, and the life of the nodes.
    pub(crate) child: Option<String>,
}

impl Trace {
    /// Prints a fact, if it is asked for.
    pub(crate) fn show(&self, ghost: &Ghost, fact: &Fact<'_>) {
        if self.is_on
            && self.concerns(ghost, fact)
            && let Some(line) = line(ghost, fact, self.child.as_deref())
        {
            println!("{} {line}", ghost.now);
        }
    }

    fn concerns(&self, ghost: &Ghost, fact: &Fact<'_>) -> bool {
        let Some(wanted) = &self.child else {
            return true;
        };
        let is_it = |child: &ChildId| child.as_str() == wanted;
        match fact {
            Fact::ProcessUp { .. }
            | Fact::ProcessDown { .. }
            | Fact::Suspended(_)
            | Fact::Resumed(_)
            | Fact::Link { .. }
            | Fact::Fault(_)
            | Fact::Healed(_)
            | Fact::Member { .. }
            | Fact::Status { .. }
            | Fact::Lease { .. }
            | Fact::Failed { .. }
            | Fact::Spins { .. } => true,
            Fact::Frame { frame, .. } => contains(frame, wanted),
            Fact::Called { call, .. } | Fact::Completed { call, .. } => is_it(&call.child),
            Fact::Acted { process, instance, .. } | Fact::RunEnded { process, instance, .. } => wanted
                .strip_prefix('c')
                .and_then(|index| ghost.children.get(index.parse::<usize>().ok()?))
                .is_some_and(|child| child.run(*process, *instance).is_some()),
            Fact::Row { child, .. } => is_it(child),
            Fact::Hook { event, .. } => event.payload.to_string().contains(&format!("\"{wanted}\"")),
            Fact::Issued { command, .. } => format!("{command:?}").contains(&format!("\"{wanted}\"")),
            Fact::Replied { result, .. } => format!("{result:?}").contains(&format!("\"{wanted}\"")),
            Fact::Cancelled { .. } | Fact::Overdue { .. } => true,
        }
    }
}

/// Whether a frame names the child: its length, then its id.
fn contains(frame: &[u8], child: &str) -> bool {
    let Ok(length) = u8::try_from(child.len()) else {
        return false;
    };
    frame.windows(child.len() + 1).any(|window| window[0] == length && &window[1..] == child.as_bytes())
}

fn line(ghost: &Ghost, fact: &Fact<'_>, child: Option<&str>) -> Option<String> {
    let at = |process: &ProcessId| {
        let life = ghost.processes.get(process.0 as usize);
        life.map_or_else(|| format!("#{}", process.0), |p| p.node.to_string())
    };
    Some(match fact {
        Fact::ProcessUp { node, slot, kinds, weight, .. } => {
            format!("{node} UP on machine {slot}, weight {weight}, kinds {kinds:?}")
        }
        Fact::ProcessDown { process, why } => format!("{} DOWN: {why}", at(process)),
        Fact::Suspended(process) => format!("{} PAUSED", at(process)),
        Fact::Resumed(process) => format!("{} RESUMED", at(process)),
        Fact::Link { from, to, passes } => {
            let what = if *passes { "mended" } else { "cut" };
            format!("LINK {from}->{to} {what}")
        }
        Fact::Fault(text) => format!("FAULT {text}"),
        Fact::Healed(core) => {
            let names: Vec<_> = core.iter().map(at).collect();
            format!("HEALED, the core is {}", names.join(" "))
        }
        Fact::Member { process, peer, verdict } => format!("{} membership: {peer} {verdict:?}", at(process)),
        Fact::Frame { from, to, hub, frame, arrival } => {
            let fate = arrival.map_or_else(|| "LOST".to_owned(), |at| format!("arrives {at}"));
            let mut text = format!("{} frame hub{hub} {} bytes to {to}, {fate}", at(from), frame.len());
            let names = child.map(|child| format!("\"{child}\""));
            let is_shown = |text: &String| names.as_ref().is_none_or(|name| text.contains(name));
            for message in process_hub::wire::describe(frame).iter().filter(|text| is_shown(text)) {
                text.push_str("\n                 ");
                text.push_str(message);
            }
            text
        }
        Fact::Called { process, hub, call } => format!(
            "{} hub{hub} call {} {} of {} instance {}",
            at(process),
            call.number,
            request(&call.request),
            call.child,
            call.instance
        ),
        Fact::Completed { process, hub, call, answer } => format!(
            "{} hub{hub} done {} {} of {} instance {}: {}",
            at(process),
            call.number,
            call.request.callback(),
            call.child,
            call.instance,
            answered(&call.request, answer)
        ),
        Fact::Acted { process, hub, instance, event } => {
            format!("{} hub{hub} instance {instance} acts: {event:?}", at(process))
        }
        Fact::RunEnded { process, hub, instance, crash } => {
            format!("{} hub{hub} instance {instance} run ends, crash {crash}", at(process))
        }
        Fact::Row { process, hub, child, row } => match row {
            None => format!("{} hub{hub} row {child}: none", at(process)),
            Some(row) => {
                let instances: Vec<_> =
                    row.instances.iter().map(|i| format!("{} {:?} {}", i.node, i.mode, i.epoch)).collect();
                let lost = row.state_lost.as_ref().map(|lost| lost.epoch);
                let spec = String::from_utf8_lossy(&row.spec.args.data);
                format!("{} hub{hub} row {child}: [{}] args {spec} lost {lost:?}", at(process), instances.join(", "))
            }
        },
        Fact::Status { process, hub, status } => {
            let members: Vec<_> = status.members.iter().map(ToString::to_string).collect();
            format!(
                "{} hub{hub} status: members [{}] locked {} partitioned {}",
                at(process),
                members.join(" "),
                status.is_locked,
                status.is_partitioned
            )
        }
        Fact::Lease { process, hub, until } => format!("{} hub{hub} lease until {until}", at(process)),
        Fact::Hook { process, hub, event } => format!("{} hub{hub} hook {} {}", at(process), event.name, event.payload),
        Fact::Issued { process, hub, request, command } => {
            let mut text = format!("{command:?}");
            if text.len() > 600 {
                text.truncate((0..=600).rev().find(|at| text.is_char_boundary(*at))?);
            }
            format!("{} hub{hub} request {request}: {text}", at(process))
        }
        Fact::Cancelled { process, hub, request } => format!("{} hub{hub} request {request} cancelled", at(process)),
        Fact::Replied { process, hub, request, result } => {
            format!("{} hub{hub} reply {request}: {result:?}", at(process))
        }
        Fact::Overdue { process, hub, request } => format!("{} hub{hub} request {request} is overdue", at(process)),
        Fact::Failed { process, hub, reason } => format!("{} hub{hub} FENCED ITSELF: {reason}", at(process)),
        Fact::Spins { process, hub } => format!("{} hub{hub} SPINS", at(process)),
    })
}

fn request(request: &HostRequest) -> String {
    match request {
        HostRequest::Start(context) => format!(
            "start ({:?}, epoch {}, {:?}, {})",
            context.reason,
            context.epoch,
            context.mode,
            String::from_utf8_lossy(&context.spec.args.data)
        ),
        HostRequest::Handle { message, .. } => format!("handle {:?}", decode_message(message)),
        HostRequest::AlterState(payload) | HostRequest::ResolveConflict(payload) => {
            format!("{} of {} ops", request.callback(), State::decode(payload).map_or(0, |state| state.ops.len()))
        }
        HostRequest::Stop(reason) => format!("stop ({reason:?})"),
        HostRequest::RedundancySignal(mode) => format!("redundancy_signal ({mode:?})"),
        HostRequest::HandoverStart(target) => format!("handover_start ({target:?})"),
        HostRequest::SetRole(epoch, mode) => format!("set_role {epoch} {mode:?}"),
        HostRequest::Run
        | HostRequest::CancelRun
        | HostRequest::PrepareState
        | HostRequest::Discard
        | HostRequest::AlterSpec { .. } => request.callback().to_owned(),
    }
}

fn answered(request: &HostRequest, answer: &HostAnswer) -> String {
    match answer {
        HostAnswer::Failed(failure) => format!("failed: {}", failure.message),
        HostAnswer::Done(Some(payload)) if matches!(request, HostRequest::PrepareState) => {
            format!("{} ops", State::decode(payload).map_or(0, |state| state.ops.len()))
        }
        HostAnswer::Done(_) => "ok".to_owned(),
    }
}
