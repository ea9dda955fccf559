//! The nodes of the children of a start, where the hub that is asked chooses them.

use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::assigning::with_mapping;
use crate::engine::requests::Request;
use crate::ids::NodeName;
use crate::spec::ChildSpec;
use crate::strategy::capacity;

impl Engine {
    /// Chooses the nodes of items that have none of the present view.
    pub(super) fn assign_items(&mut self, id: u64, planned: &mut [(u32, Arc<ChildSpec>)]) {
        let view = self.membership.view.number;
        let Some(Request::Start(request)) = self.requests.get(&id) else {
            return;
        };
        let is_open = |item: u32| request.items.get(item as usize).is_some_and(|item| item.assigned_in != view);
        let mut open: Vec<&mut (u32, Arc<ChildSpec>)> = planned.iter_mut().filter(|(item, _)| is_open(*item)).collect();
        let specs: Vec<Arc<ChildSpec>> = open.iter().map(|(_, spec)| spec.clone()).collect();
        let mappings = self.assign(&specs.iter().map(AsRef::as_ref).collect::<Vec<_>>());
        let Some(Request::Start(request)) = self.requests.get_mut(&id) else {
            return;
        };
        for ((item, spec), mapping) in open.iter_mut().map(|one| &mut **one).zip(mappings) {
            *spec = with_mapping(spec.clone(), mapping);
            if let Some(item) = request.items.get_mut(*item as usize) {
                item.spec = spec.clone();
                item.assigned_in = view;
            }
        }
    }

    /// Chooses the nodes of children that are to be started, by what the members can take now.
    fn assign(&mut self, specs: &[&ChildSpec]) -> Vec<Vec<NodeName>> {
        let candidates = self.membership.view.candidates();
        let capacities: Vec<u64> =
            candidates.iter().map(|candidate| capacity(candidate, self.load_of(candidate.node))).collect();
        let name = |at: usize| candidates[at].node.name.clone();
        let factor = self.factor;
        let mut choose = |spec: &&ChildSpec| {
            let known = self.children.find(spec.id.as_str()).and_then(|child| self.children[child].entry.mapping());
            if let Some(mapping) = known {
                return mapping.to_vec();
            }
            let chosen = self.assigning.accounts.choose(&candidates, &capacities, spec, factor, &mut self.random);
            chosen.into_iter().map(name).collect()
        };
        specs.iter().map(&mut choose).collect()
    }
}
