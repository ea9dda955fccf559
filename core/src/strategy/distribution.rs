//! Who runs what.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::ids::{KindName, NodeRef};
use crate::spec::ChildSpec;

/// The label whose values replicas of one child are spread over. Nodes without it count as one zone.
pub const ZONE_LABEL: &str = "zone";

/// Smallest and largest weight of a candidate, in thousandths.
const WEIGHT_RANGE: (u32, u32) = (1, 1_000_000);

/// A node that may be given children.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The node.
    pub node: &'a NodeRef,
    /// Its share relative to the other candidates, in thousandths: 1000 is the usual node, 2000 gets twice as
    /// much. A node of weight 0 is given nothing.
    pub weight: u32,
    /// Its labels, for `require` and [`ZONE_LABEL`].
    pub labels: &'a BTreeMap<String, String>,
    /// The kinds it registered.
    pub kinds: &'a BTreeSet<KindName>,
}

impl Candidate<'_> {
    /// Whether the node may run this child: it registered the kind, has every label the spec requires, and takes
    /// children at all.
    #[must_use]
    pub fn qualifies(&self, child: &ChildSpec) -> bool {
        self.weight > 0
            && self.kinds.contains(&child.kind)
            && child.require.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }
}

/// A configured weight as [`Candidate::weight`]: rounded to thousandths, and kept within 0.001 and 1000, so that a
/// node that asks for little still gets something. A weight that is not a number counts as 1.
///
/// Done once, by the node the weight belongs to; peers are told the integer.
#[must_use]
pub fn weight_thousandths(weight: f64) -> u32 {
    let (least, most) = WEIGHT_RANGE;
    if weight.is_nan() {
        return 1000;
    }
    (weight * 1000.0).round().clamp(f64::from(least), f64::from(most)) as u32
}

/// Decides which nodes run which children.
///
/// Called with a whole batch whenever the view, a weight, a kind or the wanted children change, on every node of
/// the hub. The answer must depend on the arguments only, not on the order of `candidates`, and must be the same
/// on every node: nodes that disagree refuse each other's moves (R3). A good one also moves few children when one
/// candidate comes or goes, because each move freezes a child for a moment.
///
/// ```
/// use process_hub::spec::ChildSpec;
/// use process_hub::strategy::{Candidate, Distribution, Placements};
///
/// /// Everything to the nodes with the smallest names.
/// #[derive(Debug)]
/// struct SmallestName;
///
/// impl Distribution for SmallestName {
///     fn name(&self) -> &'static str {
///         "smallest_name"
///     }
///
///     fn place(
///         &self,
///         candidates: &[Candidate<'_>],
///         children: &[&ChildSpec],
///         factor: usize,
///         placements: &mut Placements,
///     ) {
///         let mut sorted: Vec<_> = (0..).zip(candidates).collect();
///         sorted.sort_by_key(|(_, candidate)| candidate.node);
///         for child in children {
///             let able = sorted.iter().filter(|(_, it)| it.qualifies(child));
///             placements.push(able.map(|&(index, _)| index).take(factor));
///         }
///     }
/// }
/// ```
pub trait Distribution: Send + Sync + fmt::Debug {
    /// The name in the configuration and in logs.
    fn name(&self) -> &'static str;

    /// Adds to `placements`, which is empty, for each child in order: the indices into `candidates` of up to
    /// `factor` distinct nodes that [qualify](Candidate::qualifies), the owner first; none when nobody qualifies
    /// (R15).
    ///
    /// An answer that fails [`Placements::check`] is replaced by that of
    /// [`ConsistentHashing`](super::ConsistentHashing).
    fn place(&self, candidates: &[Candidate<'_>], children: &[&ChildSpec], factor: usize, placements: &mut Placements);

    /// Whether it goes by [`ChildSpec::mapping`]: then every start has to say where its children go.
    fn is_mapped(&self) -> bool {
        false
    }

    /// Whether the hub itself fills [`ChildSpec::mapping`] when a child is started, by the loads and weights that it
    /// knows then: [`Self::place`] goes by what was chosen, so that all nodes answer the same.
    fn is_assigned(&self) -> bool {
        false
    }

    /// How members measure and tell their loads, for a distribution that goes by them.
    fn load_options(&self) -> Option<LoadOptions> {
        None
    }

    /// The options all nodes of a hub must share, with their values; the name is shared anyway.
    fn shared_options(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

/// How members measure and tell their loads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoadOptions {
    /// How many measured loads a member's score is made of.
    pub max_history_size: usize,
    /// What each of them counts relative to the one after it, in thousandths.
    pub weight_decay: u32,
    /// How often a load is measured and told.
    pub push_interval: Duration,
    /// Whether a node that joins is given its share of the children that run already.
    pub nodeup_redistribution: bool,
}

/// For each child of a batch the chosen candidates, the owner first. Clear and reuse it: it keeps its memory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Placements {
    indices: Vec<u32>,
    ends: Vec<usize>,
}

impl Placements {
    /// No children.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets all children, and keeps the memory.
    pub fn clear(&mut self) {
        self.indices.clear();
        self.ends.clear();
    }

    /// Adds the next child with its candidates, the owner first.
    pub fn push(&mut self, chosen: impl IntoIterator<Item = u32>) {
        self.indices.extend(chosen);
        self.ends.push(self.indices.len());
    }

    /// How many children have been placed, those that nobody can run included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no child at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The candidates of the child at `position` of the batch, the owner first; empty when nobody qualifies, or
    /// when there is no such child.
    #[must_use]
    pub fn get(&self, position: usize) -> &[u32] {
        let start = match position.checked_sub(1) {
            None => 0,
            Some(before) => self.ends.get(before).copied().unwrap_or_default(),
        };
        self.ends.get(position).and_then(|&end| self.indices.get(start..end)).unwrap_or_default()
    }

    /// Makes the candidate at this place of a placement its first one; the others keep their order.
    pub(super) fn put_first(&mut self, position: usize, place: usize) {
        let end = self.ends.get(position).copied().unwrap_or_default();
        let start = end - self.get(position).len();
        if let Some(front) = self.indices[start..end].get_mut(..=place) {
            front.rotate_right(1);
        }
    }

    /// The index into the candidates of the child's owner.
    #[must_use]
    pub fn owner(&self, position: usize) -> Option<usize> {
        self.get(position).first().map(|&index| index as usize)
    }

    /// The placements in the order of the batch.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        (0..self.len()).map(|position| self.get(position))
    }

    /// Checks the answer of a custom strategy: one placement for each child, each of at most `factor` distinct
    /// candidates that qualify.
    ///
    /// # Errors
    /// `invalid_answer` with the child, the node and what is wrong with them.
    pub fn check(&self, candidates: &[Candidate<'_>], children: &[&ChildSpec], factor: usize) -> Result<(), Error> {
        let refuse = |message: String| Error::new(ErrorKind::InvalidAnswer, "place", message);
        if self.len() != children.len() {
            return Err(refuse(format!(
                "{} children were given and {} placements came back",
                children.len(),
                self.len()
            )));
        }
        for (child, chosen) in children.iter().zip(self.iter()) {
            let refuse = |message: String| refuse(message).with_child(child.id.as_str());
            if chosen.len() > factor {
                return Err(refuse(format!(
                    "{} nodes for {}, at most {factor} were asked for",
                    chosen.len(),
                    child.id
                )));
            }
            for (position, &index) in chosen.iter().enumerate() {
                let Some(candidate) = candidates.get(index as usize) else {
                    return Err(refuse(format!("candidate {index} of {} for {}", candidates.len(), child.id)));
                };
                let node = candidate.node;
                if chosen[..position].contains(&index) {
                    return Err(refuse(format!("{node} twice for {}", child.id)));
                }
                if !candidate.qualifies(child) {
                    return Err(refuse(format!("{node} cannot run {}", child.id)));
                }
            }
        }
        Ok(())
    }
}
