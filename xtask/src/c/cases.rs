//! Runs the cases of test programs, each in a process of its own.
//!
//! A test program without arguments lists its cases, one a line: name, expected exit status (128 + the signal for a
//! death by signal), seconds it may take, and tags. With a name it runs that case.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::process::{self, Failure, Outcome, io};

/// How the cases are run.
pub(super) struct Manner {
    name: &'static str,
    /// What the program runs under.
    wrapper: &'static [&'static str],
    /// How much longer everything takes.
    slowness: u32,
    /// Cases with this tag are left out.
    without: Option<&'static str>,
}

impl Manner {
    pub(super) fn plain() -> Self {
        Self { name: "plainly", wrapper: &[], slowness: 1, without: None }
    }

    pub(super) fn sanitizer() -> Self {
        Self { name: "with AddressSanitizer", wrapper: &[], slowness: 3, without: Some("no-asan") }
    }

    pub(super) fn valgrind() -> Self {
        const WRAPPER: &[&str] = &[
            "valgrind",
            "--quiet",
            "--error-exitcode=99",
            "--leak-check=full",
            "--errors-for-leak-kinds=definite",
            "--show-leak-kinds=definite",
            "--fair-sched=yes",
        ];
        Self { name: "under valgrind", wrapper: WRAPPER, slowness: 10, without: Some("no-valgrind") }
    }
}

struct Case {
    name: String,
    expected: i32,
    limit: Duration,
    tags: Vec<String>,
}

/// Runs every case of these programs; the summary counts them.
pub(super) fn run_all(programs: &[PathBuf], manner: &Manner) -> Outcome<Option<String>> {
    let (mut passed, mut left_out, mut failures) = (0, 0, Vec::new());
    for program in programs {
        for case in list(program)? {
            let is_left_out = manner.without.is_some_and(|without| case.tags.iter().any(|tag| tag == without));
            if is_left_out {
                left_out += 1;
                continue;
            }
            match run(program, &case, manner)? {
                None => passed += 1,
                Some(account) => {
                    let name = format!("{} {}", super::stem(program), case.name);
                    eprintln!("    FAIL {name}: {account}");
                    failures.push(name);
                }
            }
        }
    }
    let summary = format!("{passed} cases passed {}, {left_out} left out", manner.name);
    match failures.as_slice() {
        [] if passed == 0 => Err(Failure::new("no case ran")),
        [] => Ok(Some(summary)),
        failures => Err(Failure::new(format!("{} failed: {}; {summary}", failures.len(), failures.join(", ")))),
    }
}

fn list(program: &Path) -> Outcome<Vec<Case>> {
    let text = process::capture(&mut Command::new(program))
        .ok_or_else(|| Failure::new(format!("{} lists no cases", program.display())))?;
    text.lines().map(|line| read(line).ok_or_else(|| Failure::new(format!("no case: {line}")))).collect()
}

/// `name expected seconds tag…`.
fn read(line: &str) -> Option<Case> {
    let mut words = line.split_whitespace();
    Some(Case {
        name: words.next()?.to_owned(),
        expected: words.next()?.parse().ok()?,
        limit: Duration::from_secs(words.next()?.parse().ok()?),
        tags: words.map(str::to_owned).collect(),
    })
}

/// Runs one case; says what went wrong, if anything did.
fn run(program: &Path, case: &Case, manner: &Manner) -> Outcome<Option<String>> {
    let mut command = match manner.wrapper.split_first() {
        Some((wrapper, args)) => {
            let mut command = Command::new(wrapper);
            command.args(args).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.arg(&case.name).current_dir(process::root()).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    // Found by LeakSanitizer, and reported by a status of its own.
    command.env("ASAN_OPTIONS", "exitcode=99:detect_leaks=1").env("PROCESS_HUB_SLOWNESS", manner.slowness.to_string());
    let started = Instant::now();
    let mut child = io(program.display(), command.spawn())?;
    let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let status = wait(&mut child, case.limit * manner.slowness)?;
    let told = [stdout, stderr].map(|reader| reader.join().unwrap_or_default()).concat();
    let took = started.elapsed().as_secs_f64();
    let account = match status {
        None => format!("it did not end within {:.0} s", took),
        Some(status) if number(status) == case.expected => return Ok(None),
        Some(status) => format!("{status} after {took:.1} s, expected {}", case.expected),
    };
    Ok(Some(format!("{account}\n{}", tail(&told))))
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The last lines of what a program told.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(40);
    lines[from..].join("\n")
}

fn number(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// The status, or nothing when the child had to be killed. Its descendants are those of a fork, and end by themselves.
fn wait(child: &mut Child, limit: Duration) -> Outcome<Option<ExitStatus>> {
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = io("wait", child.try_wait())? {
            return Ok(Some(status));
        }
        if Instant::now() > until {
            let _ = child.kill();
            let _ = child.wait();
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_of_a_program_then_its_case() {
        let case = read("close_twice 0 20 no-valgrind").unwrap();
        assert_eq!((case.name.as_str(), case.expected, case.limit.as_secs()), ("close_twice", 0, 20));
        assert_eq!(case.tags, ["no-valgrind"]);
        assert!(read("close_twice soon").is_none());
    }
}
