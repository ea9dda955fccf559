//! The Node agent: on the npm packages, in a project of its own.

use std::path::Path;

use crate::node::Project;
use crate::process::Outcome;

pub(super) fn build(_: &Path) -> Outcome {
    let project = Project::fresh("agents/node")?;
    let agent = project.add("tests/agents/node")?.join("agent.mjs");
    super::write_start(project.folder(), Path::new("node"), &[agent.as_os_str()])
}
