//! Where children belong in the present view.

use std::sync::Arc;

use serde_json::json;
use smallvec::SmallVec;

use super::Engine;
use super::children::Slot;
use crate::ids::NodeRef;
use crate::observe::HookName;
use crate::spec::ChildSpec;
use crate::strategy::{ConsistentHashing, Distribution};

/// The owners of a batch of specs.
pub(super) struct Owners {
    nodes: Vec<NodeRef>,
    chosen: Vec<Option<usize>>,
    /// The rest of each placement; empty where no child has more than one instance.
    others: Vec<SmallVec<[usize; 2]>>,
}

impl Owners {
    /// The owner of the spec at this place of the batch.
    pub(super) fn get(&self, at: usize) -> Option<&NodeRef> {
        self.nodes.get((*self.chosen.get(at)?)?)
    }

    /// The rest of the placement of the spec at this place of the batch, in order.
    pub(super) fn others(&self, at: usize) -> impl Iterator<Item = &NodeRef> {
        self.others.get(at).into_iter().flatten().filter_map(|index| self.nodes.get(*index))
    }

    /// The places of the batch by their owner, and those without one.
    pub(super) fn group(self) -> (Vec<(NodeRef, Vec<usize>)>, Vec<usize>) {
        let mut groups: Vec<(NodeRef, Vec<usize>)> = self.nodes.into_iter().map(|node| (node, Vec::new())).collect();
        let mut unplaced = Vec::new();
        for (at, chosen) in self.chosen.into_iter().enumerate() {
            match chosen.and_then(|index| groups.get_mut(index)) {
                Some((_, group)) => group.push(at),
                None => unplaced.push(at),
            }
        }
        groups.retain(|(_, group)| !group.is_empty());
        (groups, unplaced)
    }
}

impl Engine {
    /// Finds the owners of children in the present view, where they are not known.
    pub(super) fn place(&mut self, children: impl IntoIterator<Item = Slot>) {
        let number = self.membership.view.number;
        let stale: Vec<(Slot, Arc<ChildSpec>)> = children
            .into_iter()
            .filter_map(|child| {
                let entry = Some(&self.children[child].entry).filter(|entry| entry.placed_in != number)?;
                Some((child, entry.wanted.as_ref()?.spec.clone()?))
            })
            .collect();
        if stale.is_empty() {
            return;
        }
        let specs: Vec<&ChildSpec> = stale.iter().map(|(_, spec)| spec.as_ref()).collect();
        let owners = self.owners_of(&specs);
        for (at, (child, _)) in stale.iter().enumerate() {
            let entry = &mut self.children[*child].entry;
            entry.owner = owners.get(at).cloned();
            let others: SmallVec<[NodeRef; 1]> = owners.others(at).cloned().collect();
            entry.others = (!others.is_empty()).then(|| Box::new(others));
            entry.placed_in = number;
        }
    }

    /// The owners of specs in the present view.
    pub(super) fn owners_of(&mut self, specs: &[&ChildSpec]) -> Owners {
        let candidates = self.membership.view.candidates();
        let factor = self.factor;
        let placed = self.strategies.place(&candidates, specs, factor, &mut self.placements);
        let nodes = candidates.iter().map(|one| one.node.clone()).collect();
        let chosen = (0..specs.len()).map(|at| self.placements.owner(at)).collect();
        let others = |at| self.placements.get(at).iter().skip(1).map(|index| *index as usize).collect();
        let others = if factor > 1 { (0..specs.len()).map(others).collect() } else { Vec::new() };
        let owners = Owners { nodes, chosen, others };
        if let Err(error) = placed {
            let strategy = self.strategies.distribution.name();
            self.fire(HookName::StrategyFallback, || json!({"strategy": strategy, "why": error.message}));
        }
        owners
    }

    /// Who is asked to start these children: their owners, or the arbiters of those whose nodes are chosen at the start.
    pub(super) fn asked_to_start(&mut self, specs: &[&ChildSpec]) -> Owners {
        if !self.strategies.distribution.is_assigned() {
            return self.owners_of(specs);
        }
        let candidates = self.membership.view.candidates();
        self.placements.clear();
        ConsistentHashing.place(&candidates, specs, 1, &mut self.placements);
        let nodes = candidates.iter().map(|one| one.node.clone()).collect();
        let chosen = (0..specs.len()).map(|at| self.placements.owner(at)).collect();
        Owners { nodes, chosen, others: Vec::new() }
    }

    /// The owner of a wanted child in the present view.
    pub(super) fn owner_of(&mut self, child: Slot) -> Option<NodeRef> {
        self.place([child]);
        self.children[child].entry.owner.clone()
    }
}
