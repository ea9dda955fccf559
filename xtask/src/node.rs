//! Finds Node.js, builds the npm packages, and installs them into projects of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::process::{self, Failure, Outcome, cargo, io};

/// Oldest Node.js the package supports, as (major, minor).
const OLDEST: (u32, u32) = (20, 19);
/// The sources of the package.
const SOURCES: &str = "bindings-node";

/// Says what is missing, before anything is built.
pub(crate) fn require() -> Outcome {
    let version = process::capture(Command::new("node").arg("--version"));
    let parsed = version.as_deref().and_then(parse_version);
    if parsed.is_none_or(|version| version < OLDEST) {
        let found = version.unwrap_or_else(|| "none".into());
        let (major, minor) = OLDEST;
        return Err(Failure::new(format!(
            "Node.js {major}.{minor} or newer is needed, found {found}: install it from https://nodejs.org"
        )));
    }
    if !process::has("npm") {
        return Err(Failure::new("npm is missing: it comes with Node.js, or as the package npm"));
    }
    Ok(())
}

/// Reads `v20.19.1`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim_start_matches('v').split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The name of this machine's package in Node's words.
fn platform() -> Outcome<(&'static str, String)> {
    let cpu = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => return Err(Failure::new(format!("there is no package for {other}"))),
    };
    match std::env::consts::OS {
        "linux" => Ok((cpu, format!("process-hub-linux-{cpu}-gnu"))),
        other => Err(Failure::new(format!("there is no package for {other}"))),
    }
}

fn npm(folder: &Path) -> Command {
    let mut command = process::command("npm");
    command.current_dir(folder);
    command
}

/// The compiler and the types of Node, as package-lock.json says.
pub(crate) fn install_tools() -> Outcome {
    require()?;
    let folder = process::root().join(SOURCES);
    let (lock, installed) = (folder.join("package-lock.json"), folder.join("node_modules/.package-lock.json"));
    let modified = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified()).ok();
    if modified(&installed).is_some_and(|installed| Some(installed) >= modified(&lock)) {
        return Ok(());
    }
    process::run_aside(npm(&folder).args(["ci", "--ignore-scripts"]))
}

/// The TypeScript compiler.
pub(crate) fn tsc() -> Command {
    process::command(process::root().join(SOURCES).join("node_modules/.bin/tsc"))
}

/// Builds the native half, compiles the package, and leaves both tarballs in `target/pack`.
pub(crate) fn build_packages() -> Outcome<Vec<PathBuf>> {
    install_tools()?;
    let (cpu, name) = platform()?;
    let stage = process::target().join("node-packages");
    if stage.exists() {
        io(stage.display(), std::fs::remove_dir_all(&stage))?;
    }
    let native = stage.join(&name);
    stage_native(&native, &name, cpu)?;
    let package = stage.join("process-hub");
    stage_package(&package, &name)?;
    let folder = process::target().join("pack");
    io(folder.display(), std::fs::create_dir_all(&folder))?;
    for old in tarballs_in(&folder)? {
        io(old.display(), std::fs::remove_file(&old))?;
    }
    for package in [&package, &native] {
        let mut command = npm(package);
        process::run_aside(command.args(["pack", "--silent", "--pack-destination"]).arg(&folder))?;
    }
    tarballs_in(&folder)
}

fn stage_native(folder: &Path, name: &str, cpu: &str) -> Outcome {
    let mut command = cargo();
    command.args(["rustc", "--release", "-p", "process-hub-node", "--lib", "--", "-C", "strip=symbols"]);
    process::run_aside(&mut command)?;
    io(folder.display(), std::fs::create_dir_all(folder))?;
    copy(&process::target().join("release/libprocess_hub_node.so"), &folder.join("process-hub.node"))?;
    let manifest = json!({
        "name": name, "version": env!("CARGO_PKG_VERSION"), "license": "Apache-2.0 OR MIT",
        "description": format!("The native half of process-hub for linux {cpu}"),
        "main": "process-hub.node", "files": ["process-hub.node"],
        "os": ["linux"], "cpu": [cpu], "libc": ["glibc"], "engines": {"node": ">=20.19"},
    });
    write_manifest(folder, &manifest)?;
    copy_licences(folder)
}

fn stage_package(folder: &Path, native: &str) -> Outcome {
    let sources = process::root().join(SOURCES);
    let manifest = sources.join("package.json");
    let text = io(manifest.display(), std::fs::read_to_string(&manifest))?;
    let mut manifest: Value =
        serde_json::from_str(&text).map_err(|error| Failure::new(format!("{SOURCES}/package.json: {error}")))?;
    let version = env!("CARGO_PKG_VERSION");
    if manifest["version"] != version {
        return Err(Failure::new(format!("{SOURCES}/package.json has another version than {version} of Cargo.toml")));
    }
    if let Some(keys) = manifest.as_object_mut() {
        keys.remove("scripts");
        keys.remove("devDependencies");
        // Those that are packed: npm asks for each of them.
        keys.insert("optionalDependencies".into(), json!({ native: version }));
    }
    process::run_aside(tsc().arg("-p").arg(&sources).arg("--outDir").arg(folder.join("dist")))?;
    write_manifest(folder, &manifest)?;
    copy(&sources.join("README.md"), &folder.join("README.md"))?;
    copy_licences(folder)
}

fn write_manifest(folder: &Path, manifest: &Value) -> Outcome {
    let path = folder.join("package.json");
    io(path.display(), std::fs::write(&path, format!("{manifest:#}\n")))
}

fn copy_licences(folder: &Path) -> Outcome {
    for name in ["LICENSE-APACHE", "LICENSE-MIT"] {
        copy(&process::root().join(name), &folder.join(name))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Outcome {
    io(from.display(), std::fs::copy(from, to)).map(drop)
}

/// Copies the files of a folder, and of the folders in it.
fn copy_all(from: &Path, to: &Path) -> Outcome {
    io(to.display(), std::fs::create_dir_all(to))?;
    for entry in io(from.display(), std::fs::read_dir(from))? {
        let path = io(from.display(), entry)?.path();
        let to = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() { copy_all(&path, &to)? } else { copy(&path, &to)? }
    }
    Ok(())
}

fn tarballs_in(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut tarballs = Vec::new();
    for entry in io(folder.display(), std::fs::read_dir(folder))? {
        let path = io(folder.display(), entry)?.path();
        if path.extension().is_some_and(|extension| extension == "tgz") {
            tarballs.push(path);
        }
    }
    tarballs.sort();
    Ok(tarballs)
}

/// A project under `target` that has the package as its users have it.
pub(crate) struct Project {
    folder: PathBuf,
}

impl Project {
    /// Makes an empty project and installs the tarballs, without the registry.
    pub(crate) fn fresh(name: &str) -> Outcome<Self> {
        let tarballs = build_packages()?;
        let folder = process::target().join(name);
        if folder.exists() {
            io(folder.display(), std::fs::remove_dir_all(&folder))?;
        }
        io(folder.display(), std::fs::create_dir_all(&folder))?;
        let manifest = json!({"name": "project", "private": true, "type": "module"});
        write_manifest(&folder, &manifest)?;
        process::run_aside(npm(&folder).args(["install", "--offline", "--no-audit", "--no-fund"]).args(tarballs))?;
        Ok(Self { folder })
    }

    /// The project, if it is there and its package loads.
    pub(crate) fn existing(name: &str) -> Option<Self> {
        let project = Self { folder: process::target().join(name) };
        let mut command = Command::new("node");
        command.current_dir(project.folder()).args(["--input-type=module", "--eval", "import 'process-hub'"]);
        process::capture(&mut command).map(|_| project)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Node.js in the project's folder.
    pub(crate) fn node(&self) -> Command {
        let mut command = process::command("node");
        command.current_dir(&self.folder);
        command
    }

    /// Copies a file or folder of the repository into the project, where imports find the package.
    pub(crate) fn add(&self, from: &str) -> Outcome<PathBuf> {
        let from = process::root().join(from);
        let to = self.folder.join(from.file_name().unwrap_or_default());
        if from.is_dir() {
            if to.exists() {
                io(to.display(), std::fs::remove_dir_all(&to))?;
            }
            copy_all(&from, &to)?;
        } else {
            copy(&from, &to)?;
        }
        Ok(to)
    }

    /// Writes a file of the project.
    pub(crate) fn write(&self, name: &str, text: &str) -> Outcome {
        let path = self.folder.join(name);
        io(path.display(), std::fs::write(&path, text))
    }
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn version_of_node_then_its_numbers() {
        assert_eq!(parse_version("v20.19.1"), Some((20, 19)));
        assert_eq!(parse_version("v24.0.0-nightly"), Some((24, 0)));
        assert_eq!(parse_version("none"), None);
    }
}
