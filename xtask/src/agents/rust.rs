//! The Rust agent: a program on the crate.

use std::path::Path;

use crate::process::{self, Outcome, cargo, io};

pub(super) fn build(folder: &Path) -> Outcome {
    process::run_aside(cargo().args(["build", "--release", "-p", "process-hub-agent"]))?;
    let (program, start) = (process::target().join("release/process-hub-agent"), super::start_of(folder));
    io(program.display(), std::fs::copy(&program, start)).map(drop)
}
