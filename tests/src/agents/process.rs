//! One agent: a process that is told JSON lines and answers with such.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use process_hub::error::ErrorKind;
use serde_json::{Value, json};

use super::coverage;
use super::language::Language;
use crate::shapes;

/// How long an answer or an event may take before a scenario gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A signal an agent is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Continue,
}

/// An agent that runs.
pub(crate) struct Agent {
    /// The language it is written in.
    pub(crate) language: Language,
    /// The name of its node.
    pub(crate) name: String,
    /// Where its node listens, once it has one.
    pub(crate) address: String,
    process: Mutex<Child>,
    stdin: Mutex<Option<ChildStdin>>,
    heard: Arc<Heard>,
    next_id: AtomicU64,
}

#[derive(Default)]
struct Heard {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    replies: BTreeMap<u64, Value>,
    /// Replies to what had no number.
    unnumbered: Vec<Value>,
    /// Events of each hub, in order.
    events: BTreeMap<String, Vec<Value>>,
    /// Lines that are none of these.
    stray: Vec<String>,
    has_ended: bool,
}

/// A reply that is still to come.
#[must_use = "the reply may be an error"]
pub(crate) struct Reply<'a> {
    agent: &'a Agent,
    id: u64,
    command: String,
}

/// The `error` of a reply.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal(pub(crate) Value);

impl Refusal {
    /// The kind of the error.
    pub(crate) fn kind(&self) -> &str {
        self.0["kind"].as_str().unwrap_or_default()
    }

    /// Its message.
    pub(crate) fn message(&self) -> &str {
        self.0["message"].as_str().unwrap_or_default()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Agent {
    /// Starts an agent; `name` is for its node, later.
    pub(crate) fn start(language: Language, name: &str) -> Self {
        let mut command = Command::new(language.run_script());
        command.arg(language.name()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap_or_else(|error| panic!("tests/agents/run: {error}"));
        let stdout = process.stdout.take().expect("stdout is a pipe");
        let stdin = Mutex::new(process.stdin.take());
        let heard = Arc::new(Heard::default());
        let hearing = Arc::clone(&heard);
        std::thread::spawn(move || hearing.read(BufReader::new(stdout)));
        Self {
            language,
            name: name.to_owned(),
            address: String::new(),
            process: Mutex::new(process),
            stdin,
            heard,
            next_id: AtomicU64::new(1),
        }
    }

    /// Sends a request whose reply is waited for later.
    pub(crate) fn begin(&self, command: &str, arguments: Value) -> Reply<'_> {
        coverage::note_request(command, &arguments);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut request = arguments;
        request["id"] = id.into();
        request["cmd"] = command.into();
        self.write(&request.to_string());
        Reply { agent: self, id, command: command.to_owned() }
    }

    /// Sends a request and waits for the reply.
    pub(crate) fn request(&self, command: &str, arguments: Value) -> Result<Value, Refusal> {
        self.begin(command, arguments).wait()
    }

    /// Writes a line as it is.
    pub(crate) fn write(&self, line: &str) {
        let mut stdin = lock(&self.stdin);
        // A reply that never comes tells of an agent that is gone.
        let _ = stdin.as_mut().map(|pipe| pipe.write_all(format!("{line}\n").as_bytes()).and_then(|()| pipe.flush()));
    }

    /// Ends its stdin.
    pub(crate) fn close_stdin(&self) {
        *lock(&self.stdin) = None;
    }

    /// Waits for the next reply to a line that had no number.
    pub(crate) fn unnumbered(&self) -> Value {
        self.wait_for("a reply without a number", PATIENCE, |state| {
            (!state.unnumbered.is_empty()).then(|| state.unnumbered.remove(0))
        })
    }

    /// Waits for an event of this hub.
    pub(crate) fn event(&self, hub: &str, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        self.wait_for(&format!("the event {what} of {hub}"), PATIENCE, |state| {
            state.events.get(hub).into_iter().flatten().find(|event| is_it(event)).cloned()
        })
    }

    /// The events of this hub so far.
    pub(crate) fn events(&self, hub: &str) -> Vec<Value> {
        lock(&self.heard.state).events.get(hub).cloned().unwrap_or_default()
    }

    /// What it wrote that is neither a reply nor an event.
    pub(crate) fn stray(&self) -> Vec<String> {
        lock(&self.heard.state).stray.clone()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        lock(&self.process).id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let number = match signal {
            Signal::Kill => rustix::process::Signal::KILL,
            Signal::Stop => rustix::process::Signal::STOP,
            Signal::Continue => rustix::process::Signal::CONT,
        };
        // The process is ours and not waited for yet, so its number is not another's.
        let pid = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw);
        let sent = pid.map(|pid| rustix::process::kill_process(pid, number));
        assert_eq!(sent, Some(Ok(())), "{signal:?} to {self:?}");
    }

    /// Waits until the process ended.
    pub(crate) fn wait_end(&self, patience: Duration) -> ExitStatus {
        let until = Instant::now() + patience;
        loop {
            if let Some(status) = lock(&self.process).try_wait().expect("the process is ours") {
                return status;
            }
            assert!(Instant::now() < until, "{self:?} did not end within {patience:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn wait_for<T>(&self, what: &str, patience: Duration, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        let until = Instant::now() + patience;
        let mut state = lock(&self.heard.state);
        loop {
            if let Some(found) = look(&mut state) {
                return found;
            }
            assert!(!state.has_ended, "{self:?} ended: no {what}");
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{self:?} gave no {what} within {patience:?}");
            state = self.heard.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Reply<'_> {
    /// Waits for it.
    pub(crate) fn wait(self) -> Result<Value, Refusal> {
        self.wait_within(PATIENCE)
    }

    /// Waits for it as long as this.
    pub(crate) fn wait_within(self, patience: Duration) -> Result<Value, Refusal> {
        let what = format!("reply to {}", self.command);
        let reply = self.agent.wait_for(&what, patience, |state| state.replies.remove(&self.id));
        match reply.get("error") {
            Some(error) => {
                check_error(error);
                Err(Refusal(error.clone()))
            }
            None => {
                let shape = reply_shape(&self.command);
                shapes::check(shape, &reply["ok"]).unwrap_or_else(|why| panic!("{}: {why}", self.command));
                Ok(reply["ok"].clone())
            }
        }
    }
}

impl Heard {
    fn read(&self, lines: impl BufRead) {
        for line in lines.split(b'\n') {
            let Ok(line) = line else { break };
            let mut state = lock(&self.state);
            state.take(&String::from_utf8_lossy(&line));
            drop(state);
            self.changed.notify_all();
        }
        lock(&self.state).has_ended = true;
        self.changed.notify_all();
    }
}

impl State {
    fn take(&mut self, line: &str) {
        let value: Value = serde_json::from_str(line).unwrap_or_default();
        let keys: Vec<&str> = value.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        match (keys.as_slice(), value["id"].as_u64(), value["hub_id"].as_str()) {
            (["id", "ok"] | ["error", "id"], Some(id), _) => drop(self.replies.insert(id, value)),
            (["error", "id"], None, _) if value["id"].is_null() => self.unnumbered.push(value),
            (_, _, Some(hub)) if coverage::is_event(&value) => {
                coverage::note_event(&value);
                self.events.entry(hub.to_owned()).or_default().push(value);
            }
            _ => self.stray.push(line.to_owned()),
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let process = self.process.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = process.kill();
        let _ = process.wait();
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} agent {}", self.language.name(), self.name)
    }
}

/// The shape of what a command answers, in every language.
fn reply_shape(command: &str) -> &'static str {
    match command {
        "start_children" => "StartResult | text",
        "stop_children" => "StopResult | text",
        "child_lookup" => "Row | null",
        "process_registry" => "Registry",
        "which_children" => "Children",
        "tag_query" | "metadata_query" => "Rows",
        "drain" | "stop_hub" => "DrainReport",
        "where" => "Where",
        "plan" => "Plan",
        "debug_stats" => "DebugStats",
        "metrics_text" => "text",
        "is_alive" | "is_locked" | "is_partitioned" => "boolean",
        "send" | "subscribe" | "sync" | "acknowledge_loss" | "exit" => "null",
        // `info`, `start_hub` and `nodes` are looked at where they are asked; a reply of `call` is the child's.
        _ => "any",
    }
}

/// Every error has the number of its kind and all of its facts, in every language.
fn check_error(error: &Value) {
    shapes::check("Error", error).unwrap_or_else(|why| panic!("{why}: {error}"));
    let kind = ErrorKind::ALL.iter().find(|kind| error["kind"] == kind.name());
    assert_eq!(kind.map(|kind| u64::from(kind.number())), error["code"].as_u64(), "{error}");
}

/// `{"hub_id": hub}` with these arguments.
pub(crate) fn on_hub(hub: &str, arguments: &Value) -> Value {
    let mut all = json!({"hub_id": hub});
    for (key, value) in arguments.as_object().into_iter().flatten() {
        all[key.as_str()] = value.clone();
    }
    all
}
