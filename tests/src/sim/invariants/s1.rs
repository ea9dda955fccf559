//! S1: no invented children. Every start has a spec that somebody requested before.

use process_hub::host::call::HostRequest;

use super::super::fact::{Fact, child_index, spec_number};
use super::super::ghost::{Ghost, Wish};
use super::super::violation::Check;
use super::{Invariant, broken};

/// See the module.
pub(super) struct Requested;

impl Invariant for Requested {
    fn observe(&mut self, ghost: &Ghost, fact: &Fact<'_>) -> Check {
        let Fact::Called { process, call, .. } = fact else {
            return Ok(());
        };
        let HostRequest::Start(context) = &call.request else {
            return Ok(());
        };
        let number = spec_number(&context.spec.args.data);
        let is_requested = child_index(&call.child)
            .and_then(|index| ghost.children.get(index))
            .zip(number)
            .is_some_and(|(child, number)| {
                let wish = Wish::Start(number);
                child.intents.iter().any(|intent| intent.wish == wish)
            });
        if is_requested {
            return Ok(());
        }
        broken(
            ghost,
            "S1",
            format!(
                "{} starts {} with a spec nobody requested: {:?}",
                ghost.describe(*process),
                call.child,
                context.spec
            ),
        )
    }
}
