//! One process of a cluster, as the bench sees it: orders go in, answers come out, each with a deadline.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::PATIENCE;
use super::figure::Language;

/// How to start a process of each language.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The program of a language, and its arguments. A language without one is left out.
    pub commands: BTreeMap<Language, Vec<PathBuf>>,
    /// Where the processes keep their key file.
    pub scratch: PathBuf,
}

/// An answer, and when it came.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The answer.
    pub value: Value,
    /// When its line was read.
    pub at: Instant,
}

impl Answer {
    /// A number of it; the bench's own workers always send it.
    ///
    /// # Errors
    /// When it is not there.
    pub fn number(&self, key: &str) -> Result<f64, String> {
        self.value[key].as_f64().ok_or_else(|| format!("an answer without `{key}`: {}", self.value))
    }
}

/// What a process took, as the kernel counts.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Processor time of the threads that still run; those of a hub end with it.
    pub cpu: Duration,
    /// Bytes written, to sockets for the most part; the answers to the bench, and 8 bytes for each time a thread wakes
    /// another, are in it.
    pub written: u64,
}

/// A process that runs one node. Dropping it kills the process.
#[derive(Debug)]
pub struct NodeProcess {
    /// The node's name.
    pub name: String,
    child: Child,
    orders: ChildStdin,
    answers: Receiver<(Instant, String)>,
}

impl NodeProcess {
    /// Starts a process and waits until it is ready to obey.
    ///
    /// # Errors
    /// When it does not start or does not answer.
    pub fn spawn(programs: &Programs, language: Language, name: &str) -> Result<Self, String> {
        let words = programs.commands.get(&language).map_or(&[][..], Vec::as_slice);
        let [program, args @ ..] = words else {
            return Err(format!("there is no program for {language}"));
        };
        let mut command = Command::new(program);
        command.args(args);
        command.env("XDG_STATE_HOME", &programs.scratch);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
        let (Some(orders), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a process without pipes".into());
        };
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        let mut node = Self { name: name.into(), child, orders, answers };
        node.answer()?;
        Ok(node)
    }

    /// Sends an order without waiting.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn order(&mut self, order: &Value) -> Result<(), String> {
        let sent = writeln!(self.orders, "{order}").and_then(|()| self.orders.flush());
        sent.map_err(|error| format!("{} takes no orders: {error}", self.name))
    }

    /// Waits for the next answer.
    ///
    /// # Errors
    /// When it does not come in time, or says what went wrong.
    pub fn answer(&mut self) -> Result<Answer, String> {
        let (at, line) = self.answers.recv_timeout(PATIENCE + Duration::from_secs(10)).map_err(|error| {
            let status = self.child.try_wait().ok().flatten();
            let status = status.map_or_else(String::new, |status| format!(", it ended with {status}"));
            format!("{} does not answer: {error}{status}", self.name)
        })?;
        let value: Value =
            serde_json::from_str(&line).map_err(|error| format!("{} answered {line:?}: {error}", self.name))?;
        match value.get("error") {
            Some(error) => Err(format!("{}: {error}", self.name)),
            None => Ok(Answer { value, at }),
        }
    }

    /// Sends an order and waits for its answer.
    ///
    /// # Errors
    /// As of the two.
    pub fn ask(&mut self, order: &Value) -> Result<Answer, String> {
        self.order(order)?;
        self.answer()
    }

    /// What the process took and wrote so far.
    ///
    /// # Errors
    /// When the process is gone, or the kernel does not tell.
    pub fn usage(&self) -> Result<Usage, String> {
        let root = PathBuf::from(format!("/proc/{}", self.child.id()));
        let read =
            |path: PathBuf| std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()));
        let number = |text: Option<&str>| text.and_then(|text| text.trim().parse::<u64>().ok());
        let mut cpu = Duration::ZERO;
        let tasks = root.join("task");
        for task in std::fs::read_dir(&tasks).map_err(|error| format!("{}: {error}", tasks.display()))? {
            let path = task.map_err(|error| error.to_string())?.path().join("schedstat");
            let text = read(path)?;
            cpu += Duration::from_nanos(number(text.split(' ').next()).ok_or("a schedstat without a time")?);
        }
        let io = read(root.join("io"))?;
        let written = number(io.lines().find_map(|line| line.strip_prefix("wchar:"))).ok_or("an io without wchar")?;
        Ok(Usage { cpu, written })
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        // It fails only if the process ended already.
        let _ = self.child.kill();
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}
