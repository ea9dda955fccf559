//! `test`: every suite, each with its own summary, and a table at the end.

use std::ffi::OsStr;

use crate::process::{self, Failure, Outcome, cargo, has};
use crate::report::{self, Ended, Suite};
use crate::{agents, c, check, node_suites, python};

/// Seeds of the simulator in one run of `test`; nightly runs take more.
const SIM_SEEDS: &str = "100";

const RUN_SUITES: &[Suite] = &[
    Suite { name: "rust", shows: "units, properties, scenarios over real sockets, vectors, parity", run: rust },
    Suite { name: "loom", shows: "the orders in which the threads of one hub may come", run: models },
    Suite { name: "examples", shows: "the examples in the documentation compile and hold", run: doc_tests },
    Suite { name: "sim", shows: "whole clusters on virtual time under faults", run: simulator },
    Suite { name: "wheel", shows: "the wheel builds and installs into an empty environment", run: wheel },
    Suite { name: "readme", shows: "the README's example runs as a newcomer would run it", run: readme },
    Suite { name: "python", shows: "the Python package on real hubs", run: pytest },
    Suite { name: "npm", shows: "the npm packages build and install into an empty folder", run: node_suites::npm },
    Suite {
        name: "node-readme",
        shows: "the READMEs' examples run in three kinds of modules",
        run: node_suites::readme,
    },
    Suite { name: "node", shows: "the Node package on real hubs", run: node_suites::tests },
    Suite { name: "chat-rooms", shows: "the Node example keeps its rooms", run: node_suites::example },
    Suite { name: "agents", shows: "agents of every language, alone and mixed, in scenarios", run: agents::suite },
];

const MIXED_SUITE: Suite =
    Suite { name: "mixed", shows: "the example in C, Python and Node counts every reading once", run: mixed };

const NET_SUITE: Suite = Suite { name: "net", shows: "the long tests over real sockets, in release", run: long_tests };

/// `test [--net] [--only SUITE,…]`.
pub(crate) fn run(args: &[String]) -> Outcome {
    let (net, rest): (Vec<_>, Vec<_>) = args.iter().cloned().partition(|arg| arg == "--net");
    let only = check::only(&rest)?;
    let suites = check::SUITES.iter().chain(RUN_SUITES).chain(c::SUITES).chain([&MIXED_SUITE]);
    let net_suite = (!net.is_empty()).then_some(&NET_SUITE);
    let suites: Vec<Suite> = suites.chain(net_suite).copied().collect();
    report::run(&suites, &only)
}

fn rust() -> Outcome<Ended> {
    rust_tests(&[], &[])
}

fn long_tests() -> Outcome<Ended> {
    rust_tests(&["--release"], &["--run-ignored", "only"])
}

fn rust_tests(cargo_args: &[&str], nextest_args: &[&str]) -> Outcome<Ended> {
    let mut command = cargo();
    if has("cargo-nextest") {
        command.args(["nextest", "run"]).args(cargo_args).args(nextest_args);
        command.args(["--status-level", "slow", "--no-tests", "pass"]);
    } else {
        eprintln!("    cargo-nextest is not installed (cargo install cargo-nextest): cargo test instead");
        command.args(["test", "--lib", "--bins", "--tests", "--no-fail-fast"]).args(cargo_args);
        if !nextest_args.is_empty() {
            command.args(["--", "--ignored"]);
        }
    }
    process::run_watched(&mut command, cargo_summary).map(Ended::Passed)
}

fn models() -> Outcome<Ended> {
    let mut command = cargo();
    command.args(["test", "--lib", "-p", "process-hub", "--features", "loom", "models::"]);
    process::run_watched(&mut command, cargo_summary).map(Ended::Passed)
}

fn doc_tests() -> Outcome<Ended> {
    let mut command = cargo();
    command.args(["test", "--doc", "-p", "process-hub"]);
    process::run_watched(&mut command, cargo_summary).map(Ended::Passed)
}

/// The summary line of nextest (`Summary [ 1.2s] 9 tests run: …`) or of cargo test (`test result: …`).
fn cargo_summary(line: &str) -> Option<String> {
    if line.starts_with("Summary [") {
        return line.split_once("] ").map(|(_, counts)| counts.trim().to_owned());
    }
    line.strip_prefix("test result: ").map(str::to_owned)
}

fn simulator() -> Outcome<Ended> {
    let args = ["--seeds", SIM_SEEDS, "--json"].map(str::to_owned);
    let mut command = process::simulator(&args);
    let json = |line: &str| line.starts_with('{').then(|| line.to_owned());
    process::run_watched(&mut command, json).map(Ended::Passed)
}

fn wheel() -> Outcome<Ended> {
    let environment = python::Environment::fresh("test-venv")?;
    let wheel = environment.install_wheel()?;
    let name = wheel.file_name().unwrap_or(OsStr::new("")).to_string_lossy();
    Ok(Ended::Passed(Some(name.into_owned())))
}

/// The environment that the suite `wheel` made.
fn environment() -> Outcome<python::Environment> {
    python::Environment::existing("test-venv")
        .ok_or_else(|| Failure::new("there is no environment with the wheel: the suite `wheel` makes it"))
}

/// The examples of the READMEs, plain and typed, by the installed wheel.
fn readme() -> Outcome<Ended> {
    let environment = environment()?;
    let page = |name: &str| process::io(name, std::fs::read_to_string(process::root().join(name)));
    let missing = |what: &str| Failure::new(format!("there is no {what} block of Python in the page"));
    let (main, own) = (page("README.md")?, page("bindings-python/README.md")?);
    let plain = process::block(&main, "python", "import process_hub").ok_or_else(|| missing("plain"))?;
    let typed = process::block(&own, "python", "import Any").ok_or_else(|| missing("typed"))?;
    for example in [plain, typed] {
        let mut command = environment.python();
        let prints = process::run_watched(command.args(["-I", "-c", example]), |line| Some(line.to_owned()))?;
        if prints.as_deref() != Some("2") {
            let prints = prints.unwrap_or_else(|| "nothing".into());
            return Err(Failure::new(format!("it printed {prints}, not 2")));
        }
    }
    let mut check = process::command(python::tool("mypy")?);
    check.arg("--strict").arg("--python-executable").arg(environment.program("python"));
    process::run(check.args(["-c", typed]))?;
    Ok(Ended::Passed(Some("both print 2, the typed one passes mypy --strict".into())))
}

fn pytest() -> Outcome<Ended> {
    let environment = environment()?;
    environment.pip_install(&["pytest", "pytest-asyncio", "pytest-timeout"])?;
    let mut command = environment.python();
    command.current_dir(process::root().join("bindings-python"));
    command.args(["-m", "pytest", "--color=no", "-q", "tests"]);
    let summary = process::run_watched(&mut command, |line| {
        let is_summary = line.contains(" in ") && (line.contains("passed") || line.contains("failed"));
        is_summary.then(|| line.trim_matches(['=', ' ']).to_owned())
    })?;
    Ok(Ended::Passed(summary))
}

/// The cluster of three languages, each on its installed package.
fn mixed() -> Outcome<Ended> {
    let station = c::example("examples/mixed/station.c")?;
    let board = node_suites::project()?.add("examples/mixed/board.mjs")?;
    let mut command = environment()?.python();
    command.args(["-Iu", "examples/mixed/run.py"]).arg(station).arg(board);
    process::run_watched(&mut command, |line| Some(line.to_owned())).map(Ended::Passed)
}

#[cfg(test)]
mod tests {
    use super::cargo_summary;

    #[test]
    fn summary_lines_then_their_counts() {
        let nextest = "Summary [   0.006s] 3 tests run: 3 passed, 0 skipped";
        let expected = "3 tests run: 3 passed, 0 skipped";
        assert_eq!(cargo_summary(nextest).as_deref(), Some(expected));
        let cargo = "test result: ok. 2 passed; 0 failed";
        assert_eq!(cargo_summary(cargo).as_deref(), Some("ok. 2 passed; 0 failed"));
        assert_eq!(cargo_summary("Compiling xtask"), None);
    }
}
