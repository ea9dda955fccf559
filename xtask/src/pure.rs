//! Reads the pure folders as text: what clippy.toml bans crate-wide may not be allowed again there.

use std::path::{Path, PathBuf};

use crate::process::{self, Failure, Outcome, io};
use crate::report::Ended;

/// The folders of core/src that hold pure state machines.
const FOLDERS: &[&str] = &["config", "engine", "strategy", "swim", "wire"];

/// What they may not name, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    ("Instant", "time is an input: take `now: Timestamp`"),
    ("SystemTime", "time is an input"),
    ("std::thread", "pure parts have no threads"),
    ("TcpStream", "pure parts have no sockets"),
    ("TcpListener", "pure parts have no sockets"),
    ("UdpSocket", "pure parts have no sockets"),
    ("UnixStream", "pure parts have no sockets"),
    ("std::fs", "pure parts read no files"),
    ("std::env", "pure parts read no environment"),
    ("tokio", "pure parts have no tasks"),
    ("async", "pure parts do not wait"),
    ("parking_lot", "pure parts have one owner, so no locks"),
    ("Mutex", "pure parts have one owner, so no locks"),
    ("RwLock", "pure parts have one owner, so no locks"),
    ("crossbeam_channel", "pure parts return effects, they send nothing"),
    ("papaya", "pure parts have one owner"),
    ("HashMap", "its order differs from run to run: BTreeMap or IndexMap"),
    ("HashSet", "its order differs from run to run: BTreeSet or IndexSet"),
    ("thread_rng", "a seeded generator is part of the value"),
    ("rand::rng", "a seeded generator is part of the value"),
    ("rand::random", "a seeded generator is part of the value"),
    ("getrandom", "a seeded generator is part of the value"),
    ("thread_local", "state has one owner"),
    ("unsafe", "unsafe is for bindings"),
    ("disallowed_methods", "do not silence the lint here: move the code"),
    ("disallowed_types", "do not silence the lint here: move the code"),
];

/// The suite.
pub(crate) fn suite() -> Outcome<Ended> {
    let source = process::root().join("core/src");
    let mut files = Vec::new();
    for folder in FOLDERS {
        collect(&source.join(folder), &mut files)?;
    }
    let mut findings = Vec::new();
    for file in &files {
        let text = io(file.display(), std::fs::read_to_string(file))?;
        let name = file.strip_prefix(process::root()).unwrap_or(file);
        for (line, word, why) in find(&text) {
            findings.push(format!("{}:{line}: `{word}`: {why}", name.display()));
        }
    }
    if findings.is_empty() {
        return Ok(Ended::Passed(Some(format!("{} files", files.len()))));
    }
    eprintln!("{}", findings.join("\n"));
    let count = findings.len();
    Err(Failure::new(format!("{count} uses of what the pure parts may not use")))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Outcome {
    if !folder.exists() {
        return Ok(());
    }
    for entry in io(folder.display(), std::fs::read_dir(folder))? {
        let path = io(folder.display(), entry)?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

/// Every forbidden word of a source, with its line; comments do not count.
fn find(source: &str) -> Vec<(usize, &'static str, &'static str)> {
    let mut findings = Vec::new();
    for (index, line) in source.lines().enumerate() {
        let code = line.split("//").next().unwrap_or(line);
        for (word, why) in FORBIDDEN {
            if names(code, word) {
                findings.push((index + 1, *word, *why));
            }
        }
    }
    findings
}

/// Whether `code` has `word` standing by itself, not as a part of a longer name.
fn names(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(start, _)| {
        let before = code[..start].chars().next_back();
        let after = code[start + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::find;

    fn words(source: &str) -> Vec<(usize, &'static str)> {
        let findings = find(source).into_iter();
        findings.map(|(line, word, _)| (line, word)).collect()
    }

    #[test]
    fn forbidden_path_then_found_with_its_line() {
        let source = "use std::time::Duration;\nuse std::time::Instant;\nlet x: HashMap<u8, u8>;\n";
        assert_eq!(words(source), [(2, "Instant"), (3, "HashMap")]);
        assert_eq!(words("let now = std::time::SystemTime::now();"), [(1, "SystemTime")]);
        assert_eq!(words("#![allow(clippy::disallowed_types)]"), [(1, "disallowed_types")]);
    }

    #[test]
    fn longer_names_and_comments_then_not_found() {
        let source = "// no HashMap here\nstruct RegistryHashMap;\nfn instant() {} // tokio\nlet unsafe_name = 1;";
        assert_eq!(words(source), []);
    }
}
