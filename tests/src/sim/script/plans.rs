//! How the code of single children misbehaves in a script.

use std::collections::BTreeSet;

use process_hub::host::call::HostCall;

use super::super::fact::child_index;

/// Children and callbacks.
#[derive(Default)]
pub(crate) struct Plans {
    /// These never end.
    pub(crate) hanging: BTreeSet<(usize, &'static str)>,
    /// These fail.
    pub(crate) failing: BTreeSet<(usize, &'static str)>,
}

impl Plans {
    pub(crate) fn hangs(&self, call: &HostCall) -> bool {
        has(&self.hanging, call)
    }

    pub(crate) fn fails(&self, call: &HostCall) -> bool {
        has(&self.failing, call)
    }

    /// The child's code is as good as any other again.
    pub(crate) fn forget(&mut self, child: usize) {
        self.hanging.retain(|(one, _)| *one != child);
        self.failing.retain(|(one, _)| *one != child);
    }
}

fn has(plans: &BTreeSet<(usize, &'static str)>, call: &HostCall) -> bool {
    !plans.is_empty() && child_index(&call.child).is_some_and(|child| plans.contains(&(child, call.request.callback())))
}
