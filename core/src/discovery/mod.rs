//! Where other nodes may be: seeds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind};

/// Longest seed file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Most addresses taken of one seed file.
const MAX_FILE_ADDRESSES: usize = 1024;

/// One configured seed.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Seed {
    Static(String),
    File(PathBuf),
}

/// The configured seeds: `host:port`, or `file:PATH` with one address per line and `#` comments.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seeds {
    seeds: Vec<Seed>,
}

impl Seeds {
    /// Checks the form of every seed; nothing is read or resolved yet.
    ///
    /// # Errors
    /// `invalid_config` naming every seed that is not right, with its place in the list.
    pub fn parse(seeds: &[String]) -> Result<Self, Error> {
        let mut parsed = Vec::with_capacity(seeds.len());
        let mut problems = Vec::new();
        for (index, seed) in seeds.iter().enumerate() {
            match parse_seed(seed) {
                Ok(seed) => parsed.push(seed),
                Err(problem) => problems.push(format!("node.seeds[{index}]: {problem}")),
            }
        }
        if problems.is_empty() {
            return Ok(Self { seeds: parsed });
        }
        Err(Error::new(ErrorKind::InvalidConfig, "parse_seeds", problems.join("; ")))
    }

    /// The addresses the seeds name now, each once, in their order. Reads the seed files: call it where waiting
    /// for a disk is no harm. A file that is missing or cannot be read is logged and names none.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        let mut addresses: Vec<String> = Vec::new();
        let mut add = |address: String| {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        };
        for seed in &self.seeds {
            match seed {
                Seed::Static(address) => add(address.clone()),
                Seed::File(path) => read_file(path).into_iter().for_each(&mut add),
            }
        }
        addresses
    }
}

fn parse_seed(seed: &str) -> Result<Seed, String> {
    let seed = seed.trim();
    if let Some(path) = seed.strip_prefix("file:") {
        if path.is_empty() {
            return Err("file: needs a path".to_owned());
        }
        return Ok(Seed::File(PathBuf::from(path)));
    }
    if seed.starts_with("dns:") {
        return Err(format!("{seed:?}: dns seeds are not there yet; use host:port or file:PATH"));
    }
    check_address(seed)?;
    Ok(Seed::Static(seed.to_owned()))
}

/// Checks the form `host:port`, with brackets around an IPv6 host.
fn check_address(address: &str) -> Result<(), String> {
    let fault = |what: &str| format!("{address:?} is not host:port: {what}");
    let Some((host, port)) = address.rsplit_once(':') else {
        return Err(fault("there is no port"));
    };
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err(fault("the host is empty or has spaces"));
    }
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err(fault("an IPv6 host needs brackets"));
    }
    match port.parse::<u16>() {
        Ok(0) => Err(fault("port 0 cannot be dialled")),
        Ok(_) => Ok(()),
        Err(_) => Err(fault("the port is not a number up to 65535")),
    }
}

fn read_file(path: &Path) -> Vec<String> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_FILE_BYTES => {
            tracing::warn!(path = %path.display(), bytes = metadata.len(), limit = MAX_FILE_BYTES, "seed file is too large");
            return Vec::new();
        }
        Ok(metadata) if !metadata.is_file() => {
            tracing::warn!(path = %path.display(), "seed file is not a regular file");
            return Vec::new();
        }
        Ok(_) => {}
        Err(error) => return unreadable(path, &error),
    }
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return unreadable(path, &error),
    };
    let mut addresses = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if addresses.len() == MAX_FILE_ADDRESSES {
            tracing::warn!(path = %path.display(), limit = MAX_FILE_ADDRESSES, "seed file names too many addresses");
            break;
        }
        match check_address(line) {
            Ok(()) => addresses.push(line.to_owned()),
            Err(problem) => {
                tracing::warn!(path = %path.display(), line = index + 1, %problem, "seed is skipped");
            }
        }
    }
    addresses
}

fn unreadable(path: &Path, error: &io::Error) -> Vec<String> {
    tracing::warn!(path = %path.display(), %error, "seed file cannot be read");
    Vec::new()
}

#[cfg(test)]
mod tests;
