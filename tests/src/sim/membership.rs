//! What nodes learn of each other, by SWIM's packets over links or by a detector without any.

use process_hub::engine::Input;
use process_hub::ids::NodeRef;

use super::fact::Fact;
use super::queue::{ProcessId, Verdict};
use super::violation::Check;
use super::world::World;

impl World {
    /// Something changed between machines or processes: whoever may notice it will.
    pub(crate) fn look_around(&mut self) {
        if self.swarm.uses_swim {
            self.look_at_links();
        } else {
            self.look_at_peers();
        }
    }

    /// Membership tells every hub of a process about a peer.
    pub(crate) fn tell_member(&mut self, at: ProcessId, peer: &NodeRef, verdict: Verdict) -> Check {
        self.observe(&Fact::Member { process: at, peer, verdict })?;
        for hub in self.hub_indices(at) {
            let input = match verdict {
                Verdict::Up => Input::NodeUp(peer.clone()),
                Verdict::Down(evidence) => Input::NodeDown(peer.clone(), evidence),
            };
            self.turn(at, hub, input)?;
        }
        Ok(())
    }
}
