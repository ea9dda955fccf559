//! `agents`: builds the agents of tests/agents, each on its installed package, and runs the scenarios over them.

mod c;
mod node;
mod python;
mod rust;

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::process::{self, Failure, Outcome, io};
use crate::report::Ended;

/// A language: its name, and what builds and installs its agent into a folder, leaving `start` there.
struct Language {
    name: &'static str,
    build: fn(&Path) -> Outcome,
}

const LANGUAGES: &[Language] = &[
    Language { name: "rust", build: rust::build },
    Language { name: "python", build: python::build },
    Language { name: "c", build: c::build },
    Language { name: "node", build: node::build },
];

/// `agents --build [--languages A,B]` or `agents --check [--languages A,B] [--only SCENARIO,…]`.
pub(crate) fn run(args: &[String]) -> Outcome {
    match args.split_first() {
        Some((flag, rest)) if flag == "--build" => build(rest),
        Some((flag, rest)) if flag == "--check" => check(rest),
        _ => Err(Failure::usage("agents needs --build or --check first")),
    }
}

/// The suite of `test`: builds the agents and checks them.
pub(crate) fn suite() -> Outcome<Ended> {
    build(&[])?;
    let names: Vec<&str> = LANGUAGES.iter().map(|language| language.name).collect();
    let mut command = process::tests_command("agents", &["--languages".to_owned(), names.join(",")]);
    let summary = |line: &str| line.starts_with("agents: ").then(|| line.replacen("agents: ", "", 1));
    process::run_watched(&mut command, summary).map(Ended::Passed)
}

fn build(args: &[String]) -> Outcome {
    for language in chosen(args)? {
        let folder = process::target().join("agents").join(language.name);
        if folder.exists() {
            io(folder.display(), std::fs::remove_dir_all(&folder))?;
        }
        io(folder.display(), std::fs::create_dir_all(&folder))?;
        (language.build)(&folder)?;
        if !start_of(&folder).exists() {
            return Err(Failure::new(format!(
                "the build of {} left no {}",
                language.name,
                start_of(&folder).display()
            )));
        }
    }
    Ok(())
}

fn check(args: &[String]) -> Outcome {
    process::run(&mut process::tests_command("agents", args))
}

fn chosen(args: &[String]) -> Outcome<Vec<&'static Language>> {
    let names: Vec<&str> = match args {
        [] => return Ok(LANGUAGES.iter().collect()),
        [flag, names] if flag == "--languages" => names.split(',').collect(),
        [flag] if flag == "--languages" => return Err(Failure::usage("--languages needs a list")),
        [other, ..] => return Err(Failure::usage(format!("unknown argument `{other}`"))),
    };
    let find = |name| {
        LANGUAGES
            .iter()
            .find(|language| language.name == name)
            .ok_or_else(|| Failure::usage(format!("no agent in `{name}`")))
    };
    names.into_iter().map(find).collect()
}

/// The one file of a language's folder that counts (tests/agents/README.md).
fn start_of(folder: &Path) -> PathBuf {
    folder.join("start")
}

/// Leaves a `start` that becomes this program.
fn write_start(folder: &Path, program: &Path, args: &[&OsStr]) -> Outcome {
    let words = std::iter::once(program.as_os_str()).chain(args.iter().copied());
    let quoted: Vec<String> =
        words.map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))).collect();
    let start = start_of(folder);
    io(start.display(), std::fs::write(&start, format!("#!/bin/sh\nexec {} \"$@\"\n", quoted.join(" "))))?;
    io(start.display(), std::fs::set_permissions(&start, std::fs::Permissions::from_mode(0o755)))
}
