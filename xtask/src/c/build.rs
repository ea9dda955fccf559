//! Compiles C programs against the library.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::install::PRIVATE_LIBS;
use super::stem;
use crate::process::{self, Failure, Outcome, cargo, io};

/// What every program is compiled with.
const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-pedantic", "-Werror"];
/// What pkg-config calls jansson.
const JANSSON: &str = "jansson";
/// The first program.
pub(super) const QUICKSTART: &str = "examples/c/quickstart.c";
/// Where the library with AddressSanitizer is built for: a target of its own keeps build scripts without it.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The library a program is linked with.
pub(super) enum Linked {
    /// The shared one, found by pkg-config below this prefix.
    Installed(PathBuf),
    /// The static one at this path, built with AddressSanitizer.
    Sanitizer(PathBuf),
}

/// Compiles into a folder of its own.
pub(super) struct Compiler {
    linked: Linked,
    folder: PathBuf,
}

impl Compiler {
    pub(super) fn new(linked: Linked, folder: &str) -> Outcome<Self> {
        let folder = process::target().join(folder);
        io(folder.display(), std::fs::create_dir_all(&folder))?;
        Ok(Self { linked, folder })
    }

    /// Compiles every source to a program of its name.
    pub(super) fn compile_all(&self, sources: &[PathBuf]) -> Outcome<Vec<PathBuf>> {
        sources.iter().map(|source| self.compile(source, &stem(source))).collect()
    }

    /// Compiles one source to a program of this name.
    pub(super) fn compile(&self, source: &Path, name: &str) -> Outcome<PathBuf> {
        let program = self.folder.join(name);
        self.link(&[source.to_owned()], &program)?;
        Ok(program)
    }

    /// Compiles sources, C11 or, by their extension, C++17, to one program.
    pub(super) fn link(&self, sources: &[PathBuf], program: &Path) -> Outcome {
        let is_cpp = sources.iter().any(|source| source.extension().is_some_and(|extension| extension == "cc"));
        let mut command = process::command(if is_cpp { "c++" } else { "cc" });
        command.arg(if is_cpp { "-std=c++17" } else { "-std=c11" }).args(["-O1", "-g", "-pthread"]).args(WARNINGS);
        command.arg("-o").arg(program).args(sources);
        command.args(flags(&[JANSSON], None)?);
        match &self.linked {
            Linked::Installed(prefix) => {
                command.args(flags(&["process_hub"], Some(prefix))?).arg("-ldl");
            }
            Linked::Sanitizer(library) => {
                command.arg("-I").arg(process::root().join("include")).arg(library);
                command.arg("-Wl,--whole-archive").arg(sanitizer_runtime()?).arg("-Wl,--no-whole-archive");
                command.args(["-Wl,--export-dynamic", "-lresolv"]).args(PRIVATE_LIBS.split(' '));
            }
        }
        process::run_aside(&mut command)
    }
}

/// What pkg-config says of packages, below a prefix if there is one.
fn flags(packages: &[&str], prefix: Option<&Path>) -> Outcome<Vec<String>> {
    let mut command = Command::new("pkg-config");
    command.args(["--cflags", "--libs"]).args(packages);
    if let Some(prefix) = prefix {
        command.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"));
    }
    let answer = process::capture(&mut command);
    let flags = answer.ok_or_else(|| Failure::new(format!("pkg-config does not know {}", packages.join(", "))))?;
    Ok(flags.split_whitespace().map(str::to_owned).collect())
}

/// The tests and the agent read JSON by jansson.
pub(super) fn require_jansson() -> Outcome {
    flags(&[JANSSON], None)
        .map(drop)
        .map_err(|_| Failure::new("jansson is missing, which the C tests read JSON with: apt install libjansson-dev"))
}

/// The runtime of AddressSanitizer that comes with the compiler.
fn sanitizer_runtime() -> Outcome<PathBuf> {
    let sysroot = process::capture(Command::new("rustc").args(["--print", "sysroot"]));
    let sysroot = sysroot.ok_or_else(|| Failure::new("rustc does not tell its sysroot"))?;
    let folder = Path::new(&sysroot).join("lib/rustlib").join(TARGET).join("lib");
    for entry in io(folder.display(), std::fs::read_dir(&folder))? {
        let path = io(folder.display(), entry)?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("_rt.asan.a")) {
            return Ok(path);
        }
    }
    Err(Failure::new(format!("this Rust comes without the runtime of AddressSanitizer: none in {}", folder.display())))
}

/// Builds the static library with AddressSanitizer; the stable compiler can, if it is told to.
pub(super) fn with_sanitizer() -> Outcome<PathBuf> {
    sanitizer_runtime()?;
    let folder = process::target().join("asan");
    let mut command = cargo();
    command.args(["build", "-p", "process-hub-c", "--lib", "--target", TARGET]).arg("--target-dir").arg(&folder);
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address");
    process::run_aside(&mut command)?;
    Ok(folder.join(TARGET).join("debug/libprocess_hub_c.a"))
}

/// The quickstart, by the very command of the README, as C11 and as C++17, in an empty folder.
pub(super) fn run_quickstart(prefix: &Path) -> Outcome {
    let folder = empty_folder("c-quickstart")?;
    let source = process::root().join(QUICKSTART);
    for (compiler, standard, copy) in [("cc", "c11", "quickstart.c"), ("c++", "c++17", "quickstart.cc")] {
        let copy = folder.join(copy);
        io(copy.display(), std::fs::copy(&source, &copy))?;
        let line = format!(
            "{compiler} -std={standard} {warnings} -o quickstart-{standard} {name} $(pkg-config --cflags --libs process_hub) \
             && ./quickstart-{standard}",
            warnings = WARNINGS.join(" "),
            name = copy.file_name().unwrap_or_default().to_string_lossy(),
        );
        let mut command = Command::new("sh");
        command.args(["-c", &line]).current_dir(&folder).env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"));
        prints_2(&mut command)?;
    }
    Ok(())
}

/// A folder below `target`, made empty.
pub(super) fn empty_folder(name: &str) -> Outcome<PathBuf> {
    let folder = process::target().join(name);
    let _ = std::fs::remove_dir_all(&folder);
    io(folder.display(), std::fs::create_dir_all(&folder))?;
    Ok(folder)
}

/// Runs the quickstart, which prints 2.
pub(super) fn prints_2(command: &mut Command) -> Outcome {
    let prints = process::run_watched(command, |line| Some(line.to_owned()))?;
    match prints.as_deref() {
        Some("2") => Ok(()),
        _ => Err(Failure::new(format!("the quickstart printed {prints:?}, not 2"))),
    }
}
