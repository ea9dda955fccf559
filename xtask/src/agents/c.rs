//! The C agent: a program on the installed library.

use std::path::Path;

use crate::c;
use crate::process::Outcome;

pub(super) fn build(folder: &Path) -> Outcome {
    c::build_agent(&folder.join("prefix"), &super::start_of(folder))
}
