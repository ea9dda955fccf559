//! The lines this agent writes.

use std::io::Write;

use serde_json::Value;

/// Writes one line, whole, from any thread.
pub(crate) fn write(line: &Value) {
    let mut text = line.to_string();
    text.push('\n');
    // Whoever drives this agent is gone if this fails; the end of stdin says so too.
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
