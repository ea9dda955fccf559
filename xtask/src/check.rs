//! `check`: everything that only reads. `fix`: its mutating twin.

use crate::process::{self, Failure, Outcome, cargo, has};
use crate::report::{self, Ended, Suite};
use crate::{generate, node_suites, pure, python};

/// The suites of `check`, quickest first.
pub(crate) const SUITES: &[Suite] = &[
    Suite { name: "format", shows: "the sources are formatted", run: format },
    Suite { name: "pure", shows: "the pure parts use no clock, lock, thread, socket or chance", run: pure::suite },
    Suite { name: "clippy", shows: "no lint warns", run: clippy },
    Suite { name: "docs", shows: "the documentation builds without a warning", run: docs },
    Suite { name: "generated", shows: "the generated files are current", run: generated },
    Suite { name: "deny", shows: "licences, sources and advisories of the dependencies", run: deny },
    Suite { name: "ruff", shows: "the Python sources are formatted and lint clean", run: ruff },
    Suite { name: "mypy", shows: "the Python package is fully typed", run: mypy },
    Suite { name: "tsc", shows: "the Node package is fully typed", run: node_suites::types },
];

/// `check [--only SUITE,…]`.
pub(crate) fn run(args: &[String]) -> Outcome {
    report::run(SUITES, &only(args)?)
}

/// `fix`.
pub(crate) fn fix(args: &[String]) -> Outcome {
    if let Some(arg) = args.first() {
        return Err(Failure::usage(format!("fix takes no `{arg}`")));
    }
    generate::run(&[])?;
    process::run(cargo().args(["fmt", "--all"]))?;
    process::run(cargo().args(["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"]))?;
    let ruff = python::tool("ruff")?;
    process::run(process::command(&ruff).args(["check", "--fix"]).args(python::folders()))?;
    process::run(process::command(&ruff).arg("format").args(python::folders()))
}

/// Reads `--only A,B`.
pub(crate) fn only(args: &[String]) -> Outcome<Vec<String>> {
    match args {
        [] => Ok(Vec::new()),
        [flag, names] if flag == "--only" => Ok(names.split(',').map(str::to_owned).collect()),
        [flag] if flag == "--only" => Err(Failure::usage("--only needs a list of suites")),
        [other, ..] => Err(Failure::usage(format!("unknown argument `{other}`"))),
    }
}

fn format() -> Outcome<Ended> {
    process::run(cargo().args(["fmt", "--all", "--check"]))?;
    Ok(Ended::Passed(None))
}

fn clippy() -> Outcome<Ended> {
    let mut command = cargo();
    command.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    process::run(&mut command)?;
    Ok(Ended::Passed(None))
}

fn docs() -> Outcome<Ended> {
    let mut command = cargo();
    command.args(["doc", "--workspace", "--no-deps"]);
    process::run(command.env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(Ended::Passed(None))
}

fn generated() -> Outcome<Ended> {
    generate::run(&["--check".to_owned()])?;
    Ok(Ended::Passed(None))
}

fn deny() -> Outcome<Ended> {
    if !has("cargo-deny") {
        let how = "cargo-deny is not installed: cargo install cargo-deny";
        return Ok(Ended::Skipped(how.into()));
    }
    process::run(cargo().args(["deny", "check"]))?;
    Ok(Ended::Passed(None))
}

fn ruff() -> Outcome<Ended> {
    let ruff = python::tool("ruff")?;
    let mut check = process::command(&ruff);
    process::run(check.arg("check").args(python::folders()))?;
    let mut format = process::command(&ruff);
    process::run(format.args(["format", "--check"]).args(python::folders()))?;
    Ok(Ended::Passed(None))
}

fn mypy() -> Outcome<Ended> {
    let mypy = python::tool("mypy")?;
    let mut command = process::command(mypy);
    command.current_dir(process::root().join("bindings-python"));
    command.env("MYPYPATH", "python");
    command.args(["--strict", "-p", "process_hub"]);
    let summary = process::run_watched(&mut command, |line| {
        let is_summary = line.starts_with("Success:") || line.starts_with("Found ");
        is_summary.then(|| line.to_owned())
    })?;
    Ok(Ended::Passed(summary))
}
