//! The Python agent: on the wheel, in an environment of its own.

use std::ffi::OsStr;
use std::path::Path;

use crate::process::{self, Outcome};
use crate::python::Environment;

pub(super) fn build(folder: &Path) -> Outcome {
    let environment = Environment::fresh("agents/python/venv")?;
    environment.install_wheel()?;
    let agent = process::root().join("tests/agents/python");
    super::write_start(folder, &environment.program("python"), &[OsStr::new("-Iu"), agent.as_os_str()])
}
