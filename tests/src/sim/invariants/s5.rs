//! S5: children are called under a lease only, and never by a side that another has taken over from.

use std::collections::BTreeMap;

use process_hub::config::{PartitionTolerance, Redundancy};
use process_hub::host::call::HostRequest;
use process_hub::ids::{ChildId, Epoch};

use super::super::fact::{Fact, child_index};
use super::super::ghost::{Ghost, GhostProcess, Life, Run};
use super::super::queue::{HubIndex, ProcessId};
use super::super::time::WorldTime;
use super::super::violation::Check;
use super::{Invariant, broken};

/// See the module.
#[derive(Default)]
pub(super) struct OneSide {
    leases: BTreeMap<(ProcessId, HubIndex), WorldTime>,
    /// The highest epoch that handled messages or ran a body, and where.
    highest: BTreeMap<ChildId, (Epoch, ProcessId)>,
}

impl Invariant for OneSide {
    fn observe(&mut self, ghost: &Ghost, fact: &Fact<'_>) -> Check {
        let (process, hub, call) = match fact {
            Fact::Lease { process, hub, until } => {
                self.leases.insert((*process, *hub), *until);
                return Ok(());
            }
            Fact::ProcessDown { process, .. } => {
                // Over the end of all nodes epochs rise as far as clocks agree (R4).
                let is_over = |(index, other): (usize, &GhostProcess)| {
                    u32::try_from(index) == Ok(process.0) || other.life == Life::Down || other.is_leaving
                };
                if ghost.processes.iter().enumerate().all(is_over) {
                    self.highest.clear();
                }
                return Ok(());
            }
            Fact::Called { process, hub, call } => (*process, *hub, *call),
            _ => return Ok(()),
        };
        let is_dispatch = matches!(
            &call.request,
            HostRequest::Start(_)
                | HostRequest::Run
                | HostRequest::Handle { .. }
                | HostRequest::PrepareState
                | HostRequest::AlterState(_)
                | HostRequest::ResolveConflict(_)
        );
        let Some(until) = self.leases.get(&(process, hub)).filter(|_| is_dispatch) else {
            return Ok(());
        };
        let here = ghost.describe(process);
        let callback = call.request.callback();
        if ghost.now >= *until {
            return broken(ghost, "S5", format!("{here} calls {callback} of {} without a lease", call.child));
        }
        let is_active = matches!(&call.request, HostRequest::Run | HostRequest::Handle { .. });
        // A node alone begins a dynamic quorum by itself; replicas share their epoch.
        let config = &ghost.hubs[usize::from(hub)];
        let is_strict = !matches!(config.partition_tolerance, PartitionTolerance::DynamicQuorum { .. })
            && matches!(config.redundancy, Redundancy::Singularity);
        let run = child_index(&call.child).and_then(|index| ghost.children.get(index)?.run(process, call.instance));
        let Some(Run { epoch, .. }) = run.filter(|_| is_active && is_strict) else {
            return Ok(());
        };
        let highest = self.highest.entry(call.child.clone()).or_insert((*epoch, process));
        if *epoch < highest.0 || (*epoch == highest.0 && process != highest.1) {
            let facts = format!(
                "{here} calls {callback} of {} at epoch {epoch}, and {} acted at epoch {} before",
                call.child,
                ghost.describe(highest.1),
                highest.0
            );
            return broken(ghost, "S5", facts);
        }
        *highest = (*epoch, process);
        Ok(())
    }
}
