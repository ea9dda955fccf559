//! Runs other programs: echoes what they print, keeps their summary, passes their exit status on.

use std::ffi::OsStr;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why a command of xtask failed, and the exit status that says so.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    exit_code: u8,
}

/// The result of a step.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure told in one line.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit_code: 1 }
    }

    /// A wrong command line.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self { message: format!("{message}; see cargo xtask help"), exit_code: 2 }
    }

    pub(crate) fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Adds what was being done to an I/O error.
pub(crate) fn io<T>(what: impl fmt::Display, result: std::io::Result<T>) -> Outcome<T> {
    result.map_err(|error| Failure::new(format!("{what}: {error}")))
}

/// The folder of the repository.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// A program, run in the repository's folder.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    builder(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A program that runs cargo in turn.
pub(crate) fn builder(program: impl AsRef<OsStr>) -> Command {
    let mut command = command(program);
    // What the cargo that runs us set for us alone: build scripts that watch these would run again.
    for (name, _) in std::env::vars_os() {
        let is_ours = ["CARGO_PKG_", "CARGO_MANIFEST_"].map(|ours| name.to_string_lossy().starts_with(ours));
        if is_ours.contains(&true) {
            command.env_remove(name);
        }
    }
    command
}

/// How a command reads on a command line.
fn line_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(name).chain(command.get_args());
    // A program given as an argument shows as its first line.
    let words: Vec<String> = words.map(|word| word.to_string_lossy().lines().take(1).collect()).collect();
    words.join(" ")
}

/// Runs a command with our own input and output.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let line = line_of(command);
    eprintln!("    $ {line}");
    let status = io(&line, command.status())?;
    if status.success() {
        return Ok(());
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Err(Failure { message: format!("`{line}` ended with {status}"), exit_code: code.unwrap_or(1) })
}

/// Runs a command whose standard output is not ours to fill: everything goes to standard error.
pub(crate) fn run_aside(command: &mut Command) -> Outcome {
    run_watched(command, |_| None).map(|_| ())
}

/// Runs a command, echoes its lines to standard error, and returns the last summary that `summary` finds in them.
pub(crate) fn run_watched(command: &mut Command, summary: fn(&str) -> Option<String>) -> Outcome<Option<String>> {
    let line = line_of(command);
    eprintln!("    $ {line}");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = io(&line, command.spawn())?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let from_stdout = std::thread::spawn(move || stdout.and_then(|pipe| echo(pipe, summary)));
    let from_stderr = stderr.and_then(|pipe| echo(pipe, summary));
    let from_stdout = from_stdout.join().ok().flatten();
    let status = io(&line, child.wait())?;
    let found = from_stdout.or(from_stderr);
    if status.success() {
        return Ok(found);
    }
    let account = found.unwrap_or_else(|| status.to_string());
    Err(Failure::new(format!("`{line}` failed: {account}")))
}

fn echo(pipe: impl Read, summary: fn(&str) -> Option<String>) -> Option<String> {
    let mut last = None;
    let mut reader = BufReader::new(pipe);
    let mut bytes = Vec::new();
    while matches!(reader.read_until(b'\n', &mut bytes), Ok(1..)) {
        let line = String::from_utf8_lossy(&bytes);
        eprint!("{line}");
        last = summary(line.trim()).or(last);
        bytes.clear();
    }
    last
}

/// What a command prints, if it runs at all and succeeds.
pub(crate) fn capture(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// Whether a program answers `--version`.
pub(crate) fn has(program: &str) -> bool {
    capture(Command::new(program).arg("--version")).is_some()
}

/// A program of the tests crate, in release.
pub(crate) fn tests_command(name: &str, args: &[String]) -> Command {
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "-p", "process-hub-tests"]);
    command.args(["--bin", name, "--"]).args(args);
    command
}

/// The simulator, in its own profile.
pub(crate) fn simulator(args: &[String]) -> Command {
    let mut command = cargo();
    command.args(["run", "--quiet", "--profile", "sim", "-p", "process-hub-tests", "--bin", "sim", "--"]).args(args);
    command
}

/// The first block of a language in a page that contains `mark`.
pub(crate) fn block<'a>(page: &'a str, language: &str, mark: &str) -> Option<&'a str> {
    let open = format!("```{language}\n");
    let blocks = page.split(open.as_str()).skip(1).filter_map(|rest| rest.split_once("```"));
    blocks.map(|(block, _)| block).find(|block| block.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::block;

    #[test]
    fn page_with_blocks_then_the_first_of_the_language_with_the_mark() {
        let page = "```sh\nls\n```\n```js\nimport 1\n```\ntext\n```js\nrequire(2)\n```\n";
        assert_eq!(block(page, "js", "import"), Some("import 1\n"));
        assert_eq!(block(page, "js", "require("), Some("require(2)\n"));
        assert_eq!(block(page, "ts", "import"), None);
    }
}
