//! Nodes that are chosen when a child is started, where the distribution leaves that to the hub, and recorded in
//! [`ChildSpec::mapping`].
//!
//! The hub that is asked for a start chooses. Two that start one child at once may choose differently, so neither asks
//! the node it chose: both ask the *arbiter* of the child, the node that hashing finds for whoever asks. The arbiter
//! passes the start on to the owner: by the mapping of a child that is wanted, or else by the first choice it was shown
//! in this view, which it remembers as a claim. Another view has other arbiters; a settled one knows what was started
//! before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use super::Engine;
use super::arbiter::Asked;
use super::hash::FixedHash;
use super::starts::CHUNK;
use crate::ids::{ChildId, NodeName, NodeRef};
use crate::spec::ChildSpec;
use crate::strategy::Accounts;
use crate::time::Timestamp;
use crate::wire::{Message, StartAnswer};

/// A claim is remembered at least so long after it was asked for last: a start is not on its way to the owner for longer.
const CLAIM_TIME: Duration = Duration::from_secs(10);
/// Claims after which the older ones go.
const MAX_CLAIMS: usize = 1 << 16;

/// Where children go whose start is under way, as the arbiter was shown first. They are forgotten by the generation.
#[derive(Debug, Default)]
pub(super) struct Claims {
    young: IndexMap<ChildId, Vec<NodeName>, FixedHash>,
    old: IndexMap<ChildId, Vec<NodeName>, FixedHash>,
    /// Since when claims are young.
    since: Timestamp,
}

impl Claims {
    /// The mapping that holds for a child: an earlier one, or this.
    fn claim(&mut self, now: Timestamp, child: &ChildId, mapping: &[NodeName]) -> Vec<NodeName> {
        if now.since(self.since) >= CLAIM_TIME || self.young.len() >= MAX_CLAIMS {
            self.old = std::mem::take(&mut self.young);
            self.since = now;
        }
        if let Some(known) = self.young.get(child) {
            return known.clone();
        }
        // Young again: the start may be asked for once more.
        let mapping = self.old.get(child).map_or(mapping, Vec::as_slice).to_vec();
        self.young.insert(child.clone(), mapping.clone());
        mapping
    }
}

/// What a hub that chooses nodes knows beside the members' loads.
#[derive(Debug, Default)]
pub(super) struct Assigning {
    pub(super) accounts: Accounts,
    claims: Claims,
}

impl Engine {
    /// The members are others: whatever was begun is known once they agree.
    pub(super) fn forget_claims(&mut self) {
        self.assigning.claims = Claims::default();
    }

    /// The arbiter's part of a start: passes on what other nodes own, and returns the rest.
    pub(super) fn pass_to_owners(
        &mut self,
        asked: &Asked,
        specs: Vec<(u32, Arc<ChildSpec>)>,
    ) -> Vec<(u32, Arc<ChildSpec>)> {
        let mut by_owner: BTreeMap<NodeRef, Vec<(u32, Arc<ChildSpec>)>> = BTreeMap::new();
        let mut claimed = Vec::new();
        for (item, spec) in specs {
            let known = self.children.find(spec.id.as_str()).filter(|child| self.children[*child].entry.is_wanted());
            if let Some(child) = known {
                // One that nobody can run has no owner: this node decides.
                let owner = self.owner_of(child).unwrap_or_else(|| self.me.clone());
                let mapping = self.children[child].entry.mapping().unwrap_or_default().to_vec();
                by_owner.entry(owner).or_default().push((item, with_mapping(spec, mapping)));
            } else {
                let mapping = self.assigning.claims.claim(self.now, &spec.id, &spec.mapping);
                claimed.push((item, with_mapping(spec, mapping)));
            }
        }
        let borrowed: Vec<&ChildSpec> = claimed.iter().map(|(_, spec)| spec.as_ref()).collect();
        let (groups, unplaced) = self.owners_of(&borrowed).group();
        for (owner, group) in groups {
            by_owner.entry(owner).or_default().extend(group.into_iter().map(|at| claimed[at].clone()));
        }
        for at in unplaced {
            self.arbiter.started.add(&asked.waiter(claimed[at].0), StartAnswer::ViewMismatch);
        }
        let own = by_owner.remove(&self.me).unwrap_or_default();
        let left = asked.until.since(self.now);
        for (owner, specs) in by_owner {
            for specs in specs.chunks(CHUNK) {
                let message = Message::StartFor {
                    asker: asked.from.clone(),
                    request: asked.key,
                    view_hash: asked.view_hash,
                    left_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
                    return_existing: asked.return_existing,
                    specs: specs.to_vec(),
                };
                self.send_ctl(&owner, &message);
            }
        }
        own
    }
}

/// The same spec with this mapping.
pub(super) fn with_mapping(spec: Arc<ChildSpec>, mapping: Vec<NodeName>) -> Arc<ChildSpec> {
    if spec.mapping == mapping {
        return spec;
    }
    Arc::new(ChildSpec { mapping, ..Arc::unwrap_or_clone(spec) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_is_asked_for_again_and_again_then_its_claim_stays() {
        let child = ChildId::new("c").unwrap();
        let mapping = |name: &str| vec![NodeName::new(name).unwrap()];
        let mut claims = Claims::default();
        for second in 0..60 {
            let asked = mapping(if second == 0 { "first" } else { "other" });
            let at = Timestamp::default() + Duration::from_secs(second);
            assert_eq!(claims.claim(at, &child, &asked), mapping("first"), "after {second} s");
        }
        let much_later = Timestamp::default() + Duration::from_secs(60) + 2 * CLAIM_TIME;
        claims.claim(much_later, &ChildId::new("another").unwrap(), &mapping("x"));
        let later_still = much_later + CLAIM_TIME;
        assert_eq!(claims.claim(later_still, &child, &mapping("other")), mapping("other"), "nobody asked for long");
    }
}
