//! `demo`, `pack` and `bench`: what runs on the built wheel.

use std::path::PathBuf;

use crate::c;
use crate::node::{self, Project};
use crate::process::{self, Failure, Outcome};
use crate::python::{self, Environment};

const PROGRAM: &str = "examples/python/word_count.py";

/// `demo [--input DIR]`: the word count cluster on the wheel, installed in a fresh environment.
pub(crate) fn run(args: &[String]) -> Outcome {
    let input = match args {
        [] => None,
        [flag, folder] if flag == "--input" => Some(absolute(folder)?),
        [flag] if flag == "--input" => return Err(Failure::usage("--input needs a folder")),
        [other, ..] => return Err(Failure::usage(format!("unknown argument `{other}`"))),
    };
    let environment = Environment::fresh("demo-venv")?;
    environment.install_wheel()?;
    let mut command = environment.python();
    command.arg("-u").arg(PROGRAM);
    if let Some(input) = input {
        command.arg("--input").arg(input);
    }
    process::run(&mut command)
}

/// The folder as the user named it, before we change to the repository's.
fn absolute(folder: &str) -> Outcome<PathBuf> {
    let path = process::io(folder, std::fs::canonicalize(folder))?;
    match path.is_dir() {
        true => Ok(path),
        false => Err(Failure::usage(format!("{folder} is no folder"))),
    }
}

/// `pack`: leaves the wheel and the npm tarballs in `target/pack`.
pub(crate) fn pack(args: &[String]) -> Outcome {
    if let Some(arg) = args.first() {
        return Err(Failure::usage(format!("pack takes no `{arg}`")));
    }
    println!("{}", python::build_wheel()?.display());
    for tarball in node::build_packages()? {
        println!("{}", tarball.display());
    }
    Ok(())
}

/// `bench ARGS…`: the workloads, with a Python that has the wheel in `PROCESS_HUB_PYTHON`, and the worker of a project
/// that has the npm package in `PROCESS_HUB_NODE`, and a program on the C library in `PROCESS_HUB_C`.
pub(crate) fn bench(args: &[String]) -> Outcome {
    let environment = Environment::fresh("bench-venv")?;
    environment.install_wheel()?;
    let python = environment.program("python");
    let worker = Project::fresh("bench-node")?.add("examples/node/bench_worker.mjs")?;
    let mut command = process::tests_command("bench", args);
    command.env("PROCESS_HUB_PYTHON", python).env("PROCESS_HUB_NODE", worker).env("PROCESS_HUB_C", c::bench_worker()?);
    process::run(&mut command)
}
