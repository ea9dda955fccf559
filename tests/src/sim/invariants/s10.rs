//! S10: a spec that a node dropped, because a newer version replaced it, never comes back there.

use process_hub::host::call::StartReason;

use super::super::fact::{Fact, child_index, spec_number};
use super::super::ghost::{Ghost, Run};
use super::super::violation::Check;
use super::{Invariant, broken};

/// See the module.
pub(super) struct NoResurrection;

impl Invariant for NoResurrection {
    fn observe(&mut self, ghost: &Ghost, fact: &Fact<'_>) -> Check {
        let Fact::Row { process, child, row: Some(row), .. } = fact else {
            return Ok(());
        };
        let known = child_index(child).and_then(|index| ghost.children.get(index));
        let number = spec_number(&row.spec.args.data);
        let (Some(known), Some(number)) = (known, number) else {
            return broken(ghost, "S1", format!("a row tells of an unknown child {child}: {row:?}"));
        };
        let Some(dropped) = known.dropped.get(&(*process, number)) else {
            return Ok(());
        };
        // A request that both sides of a split carry out is written twice, and the later write wins on heal (R1): that
        // is a new start of the spec, made where the drop was not known, and no old entry that came back.
        let is_new = |run: &Run| {
            run.reason == StartReason::Initial
                && run.spec == Some(number)
                && run.begun >= *dropped
                && !run.company.contains(process)
        };
        if known.runs.iter().any(is_new) {
            return Ok(());
        }
        broken(
            ghost,
            "S10",
            format!("{} tells spec {number} of {child} again, which it had dropped", ghost.describe(*process)),
        )
    }
}
