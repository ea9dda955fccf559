//! Children where whoever starts them says.

use std::collections::BTreeMap;

use super::distribution::{Candidate, Distribution, Placements};
use super::rendezvous::ConsistentHashing;
use crate::config::Fallback;
use crate::ids::NodeName;
use crate::spec::ChildSpec;

/// A child goes to the nodes it is mapped to, as far as they can run it; the mapping is a part of its spec.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Guided {
    /// Where a child goes in the place of nodes that cannot run it.
    pub fallback: Fallback,
}

impl Distribution for Guided {
    fn name(&self) -> &'static str {
        "guided"
    }

    fn is_mapped(&self) -> bool {
        true
    }

    fn place(&self, candidates: &[Candidate<'_>], children: &[&ChildSpec], factor: usize, placements: &mut Placements) {
        let mut by_name: BTreeMap<&NodeName, u32> = BTreeMap::new();
        for (index, candidate) in (0..).zip(candidates) {
            let known = by_name.entry(&candidate.node.name).or_insert(index);
            // Two of a name for a moment: the younger one stays.
            if candidates[*known as usize].node < candidate.node {
                *known = index;
            }
        }
        let mut substitutes = Placements::new();
        if self.fallback == Fallback::ConsistentHashing {
            // Enough for any of them to be mapped already.
            ConsistentHashing.place(candidates, children, factor.saturating_mul(2), &mut substitutes);
        }
        for (position, child) in children.iter().enumerate() {
            let mapped = child.mapping.iter().filter_map(|name| by_name.get(name).copied());
            let mapped = mapped.filter(|index| candidates[*index as usize].qualifies(child));
            let mut chosen: Vec<u32> = mapped.take(factor).collect();
            for &substitute in substitutes.get(position) {
                if chosen.len() < factor && !chosen.contains(&substitute) {
                    chosen.push(substitute);
                }
            }
            placements.push(chosen);
        }
    }

    fn shared_options(&self) -> Vec<(&'static str, String)> {
        vec![("fallback", self.fallback.name().to_owned())]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ids::{Incarnation, KindName, NodeRef};

    const ABSENT: &str = "z";

    fn name(text: &str) -> NodeName {
        NodeName::new(text).expect("a valid name")
    }

    fn placed(fallback: Fallback, mapping: &[&str], factor: usize) -> Vec<String> {
        let nodes: Vec<NodeRef> =
            ["a", "b", "c", "d"].map(|node| NodeRef { name: name(node), incarnation: Incarnation(1) }).into();
        let (labels, kinds) = (BTreeMap::new(), BTreeSet::from([KindName::new("k").expect("a valid kind")]));
        let none = BTreeSet::new();
        // `d` cannot run the kind.
        let kinds_of = |node: &NodeRef| if node.name.as_str() == "d" { &none } else { &kinds };
        let candidates: Vec<Candidate<'_>> =
            nodes.iter().map(|node| Candidate { node, weight: 1000, labels: &labels, kinds: kinds_of(node) }).collect();
        let mut child = ChildSpec::new("c", "k").expect("a valid spec");
        child.mapping = mapping.iter().map(|node| name(node)).collect();
        let mut placements = Placements::new();
        Guided { fallback }.place(&candidates, &[&child], factor, &mut placements);
        placements.check(&candidates, &[&child], factor).expect("an answer that is one");
        placements.get(0).iter().map(|index| nodes[*index as usize].name.to_string()).collect()
    }

    #[test]
    fn mapped_nodes_are_there_then_they_are_the_placement_in_order() {
        for fallback in [Fallback::Wait, Fallback::ConsistentHashing] {
            assert_eq!(placed(fallback, &["c", "a"], 2), ["c", "a"]);
            assert_eq!(placed(fallback, &["b"], 1), ["b"]);
        }
    }

    #[test]
    fn mapped_node_is_gone_then_the_child_waits_or_another_stands_in() {
        assert_eq!(placed(Fallback::Wait, &[ABSENT, "c"], 2), ["c"]);
        assert_eq!(placed(Fallback::Wait, &[ABSENT], 1), Vec::<String>::new());
        assert_eq!(placed(Fallback::Wait, &["d"], 1), Vec::<String>::new(), "it does not offer the kind");
        let stands_in = placed(Fallback::ConsistentHashing, &[ABSENT, "c"], 2);
        assert_eq!((stands_in.len(), stands_in[0].as_str()), (2, "c"), "those that are mapped come first");
        assert_eq!(placed(Fallback::ConsistentHashing, &[ABSENT], 1).len(), 1);
    }
}
