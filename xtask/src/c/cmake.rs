//! Builds the quickstart with CMake, by the lines of bindings-c/README.md, in an empty folder.

use std::path::Path;
use std::process::Command;

use super::build::{QUICKSTART, empty_folder, prints_2};
use super::{install_into, prefix, require};
use crate::process::{self, Failure, Outcome, io};
use crate::report::Ended;

const PAGE: &str = "bindings-c/README.md";
/// What the project of the page builds.
const PROGRAMS: [&str; 2] = ["quickstart", "quickstart_static"];

pub(super) fn suite() -> Outcome<Ended> {
    require(&[("cc", "gcc"), ("cmake", "cmake")])?;
    if !prefix().exists() {
        install_into(&prefix())?;
    }
    let page = io(PAGE, std::fs::read_to_string(process::root().join(PAGE)))?;
    let lists = process::block(&page, "cmake", "find_package")
        .ok_or_else(|| Failure::new(format!("{PAGE} has no block of CMake")))?;
    let folder = empty_folder("c-cmake")?;
    let source = folder.join("quickstart.c");
    io(source.display(), std::fs::copy(process::root().join(QUICKSTART), &source))?;
    write_lists(&folder, lists)?;
    process::run_aside(&mut configure(&folder))?;
    process::run_aside(Command::new("cmake").args(["--build", "build"]).current_dir(&folder))?;
    for program in PROGRAMS {
        prints_2(&mut Command::new(folder.join("build").join(program)))?;
    }
    refuses_another_version(lists)?;
    Ok(Ended::Passed(Some(format!("{} print 2, another version is refused", PROGRAMS.join(" and ")))))
}

fn write_lists(folder: &Path, lists: &str) -> Outcome {
    let path = folder.join("CMakeLists.txt");
    io(path.display(), std::fs::write(&path, lists))
}

fn configure(folder: &Path) -> Command {
    let mut command = Command::new("cmake");
    command.args(["-S", ".", "-B", "build"]).current_dir(folder);
    command.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix().display()));
    command
}

/// A program that needs what this version does not promise is told so, and not at run time.
fn refuses_another_version(lists: &str) -> Outcome {
    let folder = empty_folder("c-cmake-version")?;
    write_lists(&folder, &lists.replace("process_hub 0.1 ", "process_hub 99 "))?;
    let output = io("cmake", configure(&folder).output())?;
    let told = String::from_utf8_lossy(&output.stderr);
    match !output.status.success() && told.contains("compatible with requested version \"99\"") {
        true => Ok(()),
        false => Err(Failure::new(format!("CMake took this version for 99: {told}"))),
    }
}
