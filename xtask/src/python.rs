//! Finds Python, makes virtual environments, builds and installs the wheel.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{self, Failure, Outcome, io};

/// Oldest Python the package supports, as (major, minor).
const OLDEST: (u32, u32) = (3, 10);
/// The environment of the tools: maturin, ruff, mypy.
const TOOLS: &str = "tools-venv";

/// The folders of Python sources.
pub(crate) fn folders() -> [&'static str; 4] {
    ["bindings-python", "examples/python", "examples/mixed", "tests/agents/python"]
}

/// A Python of 3.10 or newer: `$PYTHON`, or the first that answers.
fn find() -> Outcome<String> {
    let named = std::env::var("PYTHON").ok();
    let usual = ["python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10"];
    let candidates: Vec<String> = match named {
        Some(named) => vec![named],
        None => usual.iter().map(ToString::to_string).collect(),
    };
    let found = candidates.iter().find(|name| version(name) >= Some(OLDEST));
    found.cloned().ok_or_else(|| {
        let tried = candidates.join(", ");
        Failure::new(format!(
            "no Python of {}.{} or newer answers (tried {tried}): install one (apt install python3 \
             python3-venv) or name it in $PYTHON",
            OLDEST.0, OLDEST.1
        ))
    })
}

fn version(python: &str) -> Option<(u32, u32)> {
    let program = "import sys; print(sys.version_info.major, sys.version_info.minor)";
    let answer = process::capture(Command::new(python).args(["-c", program]))?;
    let (major, minor) = answer.split_once(' ')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// A virtual environment under `target`.
pub(crate) struct Environment {
    folder: PathBuf,
}

impl Environment {
    /// Makes an environment, removing what was there.
    pub(crate) fn fresh(name: &str) -> Outcome<Self> {
        let folder = process::target().join(name);
        let mut command = process::command(find()?);
        command.args(["-m", "venv", "--clear"]).arg(&folder);
        process::run_aside(&mut command).map_err(|failure| {
            Failure::new(format!("{failure} (Debian and Ubuntu keep venv apart: apt install python3-venv)"))
        })?;
        Ok(Self { folder })
    }

    /// The environment, if it is there and its Python still runs.
    pub(crate) fn existing(name: &str) -> Option<Self> {
        let environment = Self { folder: process::target().join(name) };
        let python = environment.program("python");
        version(&python.to_string_lossy()).map(|_| environment)
    }

    /// A program of the environment.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    /// The environment's Python.
    pub(crate) fn python(&self) -> Command {
        process::command(self.program("python"))
    }

    /// Installs packages by name.
    pub(crate) fn pip_install(&self, packages: &[&str]) -> Outcome {
        let mut command = self.pip();
        process::run_aside(command.args(packages))
    }

    /// Builds the wheel and installs it.
    pub(crate) fn install_wheel(&self) -> Outcome<PathBuf> {
        let wheel = build_wheel()?;
        let mut command = self.pip();
        process::run_aside(command.arg("--force-reinstall").arg(&wheel))?;
        Ok(wheel)
    }

    fn pip(&self) -> Command {
        let mut command = self.python();
        command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        command
    }
}

/// A tool of the tools' environment, installed there if it is missing.
pub(crate) fn tool(name: &str) -> Outcome<PathBuf> {
    let environment = match Environment::existing(TOOLS) {
        Some(environment) => environment,
        None => Environment::fresh(TOOLS)?,
    };
    let program = environment.program(name);
    if !program.exists() {
        environment.pip_install(&[name])?;
    }
    Ok(program)
}

/// Builds the wheel into `target/pack` and returns its path.
pub(crate) fn build_wheel() -> Outcome<PathBuf> {
    let maturin = tool("maturin")?;
    let folder = process::target().join("pack");
    io(folder.display(), std::fs::create_dir_all(&folder))?;
    for old in wheels_in(&folder)? {
        io(old.display(), std::fs::remove_file(&old))?;
    }
    let mut command = process::builder(maturin);
    command.args(["build", "--release", "--strip"]);
    command.args(["--manifest-path", "bindings-python/Cargo.toml", "--out"]);
    process::run_aside(command.arg(&folder))?;
    match wheels_in(&folder)?.as_slice() {
        [wheel] => Ok(wheel.clone()),
        wheels => Err(Failure::new(format!("maturin left {} wheels in {}, not one", wheels.len(), folder.display()))),
    }
}

fn wheels_in(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut wheels = Vec::new();
    for entry in io(folder.display(), std::fs::read_dir(folder))? {
        let path = io(folder.display(), entry)?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            wheels.push(path);
        }
    }
    Ok(wheels)
}
