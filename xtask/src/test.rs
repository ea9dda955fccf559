//! `test`: every suite, each with its own summary, and a table at the end.

use std::ffi::OsStr;

use crate::process::{self, Failure, Outcome, cargo, has};
use crate::report::{self, Ended, Suite};
use crate::{check, python};

/// Seeds of the simulator in one run of `test`; nightly runs take more.
const SIM_SEEDS: &str = "100";

const RUN_SUITES: &[Suite] = &[
    Suite {
        name: "rust",
        shows: "units, properties, scenarios over real sockets, vectors, parity",
        run: rust,
    },
    Suite {
        name: "examples",
        shows: "the examples in the documentation compile and hold",
        run: doc_tests,
    },
    Suite {
        name: "sim",
        shows: "whole clusters on virtual time under faults",
        run: simulator,
    },
    Suite {
        name: "wheel",
        shows: "the wheel builds and installs into an empty environment",
        run: wheel,
    },
    Suite {
        name: "python",
        shows: "the Python package on real hubs",
        run: pytest,
    },
];

const NET_SUITE: Suite = Suite {
    name: "net",
    shows: "the long tests over real sockets, in release",
    run: long_tests,
};

/// `test [--net] [--only SUITE,…]`.
pub(crate) fn run(args: &[String]) -> Outcome {
    let (net, rest): (Vec<_>, Vec<_>) = args.iter().cloned().partition(|arg| arg == "--net");
    let only = check::only(&rest)?;
    let suites = check::SUITES.iter().chain(RUN_SUITES);
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
        command
            .args(["nextest", "run"])
            .args(cargo_args)
            .args(nextest_args);
        command.args(["--status-level", "slow", "--no-tests", "pass"]);
    } else {
        eprintln!(
            "    cargo-nextest is not installed (cargo install cargo-nextest): cargo test instead"
        );
        command
            .args(["test", "--lib", "--bins", "--tests", "--no-fail-fast"])
            .args(cargo_args);
        if !nextest_args.is_empty() {
            command.args(["--", "--ignored"]);
        }
    }
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
        return line
            .split_once("] ")
            .map(|(_, counts)| counts.trim().to_owned());
    }
    line.strip_prefix("test result: ").map(str::to_owned)
}

fn simulator() -> Outcome<Ended> {
    let mut command = cargo();
    command.args([
        "run",
        "--quiet",
        "--release",
        "-p",
        "process-hub-tests",
        "--bin",
        "sim",
    ]);
    command.args(["--", "--seeds", SIM_SEEDS, "--json"]);
    let json = |line: &str| line.starts_with('{').then(|| line.to_owned());
    process::run_watched(&mut command, json).map(Ended::Passed)
}

fn wheel() -> Outcome<Ended> {
    let environment = python::Environment::fresh("test-venv")?;
    let wheel = environment.install_wheel()?;
    let name = wheel
        .file_name()
        .unwrap_or(OsStr::new(""))
        .to_string_lossy();
    Ok(Ended::Passed(Some(name.into_owned())))
}

fn pytest() -> Outcome<Ended> {
    let environment = python::Environment::existing("test-venv").ok_or_else(|| {
        Failure::new("there is no environment with the wheel: the suite `wheel` makes it")
    })?;
    environment.pip_install(&["pytest", "pytest-asyncio", "pytest-timeout"])?;
    let mut command = environment.python();
    command.current_dir(process::root().join("bindings-python"));
    command.args(["-m", "pytest", "--color=no", "-q", "tests"]);
    let summary = process::run_watched(&mut command, |line| {
        let is_summary =
            line.contains(" in ") && (line.contains("passed") || line.contains("failed"));
        is_summary.then(|| line.trim_matches(['=', ' ']).to_owned())
    })?;
    Ok(Ended::Passed(summary))
}
