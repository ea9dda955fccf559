//! The C library: installs it, and runs the programs of bindings-c/tests and examples/c on it.

mod build;
mod cases;
mod cmake;
mod install;

use std::path::{Path, PathBuf};

use crate::process::{self, Failure, Outcome, has, io};
use crate::report::{Ended, Suite};
use build::{Compiler, Linked};
pub(crate) use install::{install_into, run as install};

/// The suites of the C library.
pub(crate) const SUITES: &[Suite] = &[
    Suite { name: "c", shows: "C programs on the installed library, as C11 and as C++17", run: tests },
    Suite { name: "c-examples", shows: "the examples in C run as a newcomer would run them", run: examples },
    Suite { name: "c-cmake", shows: "CMake finds the installed library, shared and static", run: cmake::suite },
    Suite { name: "c-asan", shows: "the C programs on a library built with AddressSanitizer", run: sanitizer },
    Suite { name: "c-valgrind", shows: "the C programs under valgrind", run: valgrind },
];

/// Where the suites install the library.
fn prefix() -> PathBuf {
    process::target().join("c-prefix")
}

/// Refuses with the name of the package when a tool is missing.
fn require(tools: &[(&str, &str)]) -> Outcome {
    match tools.iter().find(|(tool, _)| !has(tool)) {
        None => Ok(()),
        Some((tool, package)) => {
            Err(Failure::new(format!("`{tool}` is missing, which the C suites need: apt install {package}")))
        }
    }
}

fn require_compilers() -> Outcome {
    require(&[("cc", "gcc"), ("c++", "g++"), ("pkg-config", "pkg-config")])?;
    build::require_jansson()
}

/// The C sources of a folder, in order.
fn sources(folder: &str) -> Outcome<Vec<PathBuf>> {
    let folder = process::root().join(folder);
    let mut sources = Vec::new();
    for entry in io(folder.display(), std::fs::read_dir(&folder))? {
        let path = io(folder.display(), entry)?.path();
        if path.extension().is_some_and(|extension| extension == "c") {
            sources.push(path);
        }
    }
    sources.sort();
    Ok(sources)
}

fn tests() -> Outcome<Ended> {
    require_compilers()?;
    install_into(&prefix())?;
    let compiler = Compiler::new(Linked::Installed(prefix()), "c-tests")?;
    // The header and the initializers are checked as C++ too.
    let header = compiler.compile(&process::root().join("bindings-c/tests/header.cc"), "header-as-c++")?;
    process::run_aside(&mut process::command(header))?;
    let programs = compiler.compile_all(&sources("bindings-c/tests")?)?;
    cases::run_all(&programs, &cases::Manner::plain()).map(Ended::Passed)
}

fn examples() -> Outcome<Ended> {
    require_compilers()?;
    if !prefix().exists() {
        install_into(&prefix())?;
    }
    build::run_quickstart(&prefix())?;
    let program = example("examples/c/sensors.c")?;
    let summary = process::run_watched(&mut process::command(program), |line| Some(line.to_owned()))?;
    Ok(Ended::Passed(summary))
}

fn sanitizer() -> Outcome<Ended> {
    require_compilers()?;
    let library = build::with_sanitizer()?;
    let compiler = Compiler::new(Linked::Sanitizer(library), "c-asan")?;
    let programs = compiler.compile_all(&sources("bindings-c/tests")?)?;
    cases::run_all(&programs, &cases::Manner::sanitizer()).map(Ended::Passed)
}

fn valgrind() -> Outcome<Ended> {
    require_compilers()?;
    require(&[("valgrind", "valgrind")])?;
    if !prefix().exists() {
        install_into(&prefix())?;
    }
    let compiler = Compiler::new(Linked::Installed(prefix()), "c-tests")?;
    let programs = compiler.compile_all(&sources("bindings-c/tests")?)?;
    cases::run_all(&programs, &cases::Manner::valgrind()).map(Ended::Passed)
}

/// Installs the library into `prefix` and builds the agent on it, as `program`.
pub(crate) fn build_agent(prefix: &Path, program: &Path) -> Outcome {
    require_compilers()?;
    install_into(prefix)?;
    let compiler = Compiler::new(Linked::Installed(prefix.to_owned()), "c-agent")?;
    compiler.link(&sources("tests/agents/c")?, program)
}

/// Builds an example on the installed library.
pub(crate) fn example(source: &str) -> Outcome<PathBuf> {
    require_compilers()?;
    if !prefix().exists() {
        install_into(&prefix())?;
    }
    let source = process::root().join(source);
    Compiler::new(Linked::Installed(prefix()), "c-examples")?.compile(&source, &stem(&source))
}

/// Builds the worker of the bench on the installed library.
pub(crate) fn bench_worker() -> Outcome<PathBuf> {
    require_compilers()?;
    install_into(&prefix())?;
    let compiler = Compiler::new(Linked::Installed(prefix()), "c-bench")?;
    compiler.compile(&process::root().join("examples/c/bench_worker.c"), "bench_worker")
}

/// The name of a source without its extension.
fn stem(source: &Path) -> String {
    source.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
