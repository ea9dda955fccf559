//! The Rust agent: one JSON object a line in, one a line out (tests/agents/README.md).

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a program: it has threads, and shares its hubs among them"
)]

mod agent;
mod arguments;
mod commands;
mod lines;
mod payloads;
mod probe;
mod strategies;

use std::io::BufRead;
use std::process::ExitCode;
use std::sync::Arc;

use process_hub::error::Error;
use serde_json::{Value, json};

use agent::Agent;
use arguments::{Arguments, bad};

fn main() -> ExitCode {
    let agent = Arc::new(Agent::default());
    for line in std::io::stdin().lock().split(b'\n') {
        let Ok(line) = line else { break };
        if line.trim_ascii().is_empty() {
            continue;
        }
        let agent = Arc::clone(&agent);
        std::thread::spawn(move || answer(&agent, &line));
    }
    agent.close();
    ExitCode::SUCCESS
}

/// Carries out one request and writes its reply.
fn answer(agent: &Agent, line: &[u8]) {
    let request = match read(line) {
        Ok(request) => request,
        Err(error) => return lines::write(&json!({"id": null, "error": error.to_json()})),
    };
    let id = request.value("id").cloned().unwrap_or_default();
    if request.value("cmd").is_some_and(|command| command == "exit") {
        agent.close();
        lines::write(&json!({"id": id, "ok": null}));
        std::process::exit(0);
    }
    lines::write(&match commands::perform(agent, &request) {
        Ok(ok) => json!({"id": id, "ok": ok}),
        Err(error) => json!({"id": id, "error": error.to_json()}),
    });
}

fn read(line: &[u8]) -> Result<Arguments, Error> {
    match serde_json::from_slice(line) {
        Ok(Value::Object(object)) => Ok(Arguments::new(object)),
        Ok(other) => Err(bad(format!("a request must be an object, not {other}"))),
        Err(error) => Err(bad(format!("no JSON: {error}"))),
    }
}
