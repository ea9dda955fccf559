//! The shared key of mode `key`: its file, and proofs made with it (A9).
//!
//! The file has one key per line, 64 hexadecimal digits; blank lines and lines that begin with `#` are skipped. The
//! first key proves, all are accepted, so a key is changed in three rounds: add the new one last everywhere, put it
//! first everywhere, remove the old one everywhere.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use crate::config::Security;
use crate::error::{Error, ErrorKind};

/// Length of a key and of a proof, in bytes.
pub(crate) const KEY_BYTES: usize = 32;
/// Longest key file, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;
const OPERATION: &str = "read_key_file";

/// The keys of a node. Never printed.
#[derive(Clone)]
pub(crate) struct Keys {
    keys: Vec<hmac::Key>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} keys)", self.keys.len())
    }
}

impl Keys {
    /// The keys that `security` asks for; none for `insecure_plaintext`.
    pub(crate) fn load(security: &Security) -> Result<Option<Self>, Error> {
        match security {
            Security::UserKey => {
                let path = user_key_path(env::var_os("XDG_STATE_HOME"), env::var_os("HOME"))?;
                create_if_missing(&path)?;
                read_file(&path).map(Some)
            }
            Security::Key { key_file } => read_file(key_file).map(Some),
            Security::InsecurePlaintext => Ok(None),
        }
    }

    /// A proof by the first key.
    #[cfg(test)]
    pub(crate) fn prove(&self, text: &[u8]) -> [u8; KEY_BYTES] {
        self.prove_with(0, text)
    }

    /// A proof by the key with this index, as [`Keys::verify`] gave it.
    pub(crate) fn prove_with(&self, index: usize, text: &[u8]) -> [u8; KEY_BYTES] {
        let mut proof = [0; KEY_BYTES];
        if let Some(key) = self.keys.get(index) {
            proof.copy_from_slice(hmac::sign(key, text).as_ref());
        }
        proof
    }

    /// Which key made this proof.
    pub(crate) fn verify(&self, text: &[u8], proof: &[u8]) -> Option<usize> {
        self.keys.iter().position(|key| hmac::verify(key, text, proof).is_ok())
    }

    /// Reads the lines of a key file.
    fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some(key) = parse_hex(line) else {
                return Err(fault(
                    path,
                    &format!(
                        "line {} is not {} hexadecimal digits, it has {} characters",
                        index + 1,
                        2 * KEY_BYTES,
                        line.chars().count()
                    ),
                ));
            };
            keys.push(hmac::Key::new(hmac::HMAC_SHA256, &key));
        }
        if keys.is_empty() {
            return Err(fault(path, "there is no key in it"));
        }
        Ok(Self { keys })
    }

    #[cfg(test)]
    pub(crate) fn of(keys: &[[u8; KEY_BYTES]]) -> Self {
        Self { keys: keys.iter().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key)).collect() }
    }
}

fn fault(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::InvalidConfig, OPERATION, format!("key file {}: {what}", path.display()))
}

fn io_fault(path: &Path, doing: &str, error: &io::Error) -> Error {
    fault(path, &format!("cannot {doing}: {error}"))
}

fn parse_hex(line: &str) -> Option<[u8; KEY_BYTES]> {
    let digits = line.as_bytes();
    if digits.len() != 2 * KEY_BYTES {
        return None;
    }
    let mut key = [0; KEY_BYTES];
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(key)
}

/// `$XDG_STATE_HOME/process-hub/key`, or the same below `~/.local/state`.
fn user_key_path(state_home: Option<OsString>, home: Option<OsString>) -> Result<PathBuf, Error> {
    // A relative XDG_STATE_HOME is to be ignored (XDG Base Directory Specification 0.8).
    let state_home = state_home.map(PathBuf::from).filter(|path| path.is_absolute());
    let home = home.map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = match (state_home, home) {
        (Some(state_home), _) => state_home,
        (None, Some(home)) => home.join(".local/state"),
        (None, None) => {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                OPERATION,
                "neither HOME nor XDG_STATE_HOME is set, so there is no place for the user's key; \
                 name a file in security.key_file (mode \"key\")",
            ));
        }
    };
    Ok(folder.join("process-hub").join("key"))
}

/// Makes the key file unless it is there. Of several processes at once one wins, and all end with its key: the file
/// appears under its name only when it is complete.
fn create_if_missing(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_fault(path, "look at it", &error)),
    }
    let Some(folder) = path.parent() else {
        return Err(fault(path, "it has no folder"));
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| io_fault(path, "make its folder", &error))?;
    let mut key = [0; KEY_BYTES];
    let mut suffix = [0; 8];
    let random = SystemRandom::new();
    if random.fill(&mut key).is_err() || random.fill(&mut suffix).is_err() {
        return Err(fault(path, "the system gave no random numbers"));
    }
    let temporary = folder.join(format!(".key-{}", hex(&suffix)));
    let made = write_new(&temporary, &format!("{}\n", hex(&key))).and_then(|()| fs::hard_link(&temporary, path));
    let _ = fs::remove_file(&temporary);
    match made {
        Ok(()) => {
            tracing::info!(path = %path.display(), "made a key for this user");
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io_fault(path, "make it", &error)),
    }
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_file(path: &Path) -> Result<Keys, Error> {
    // Opened without waiting: a FIFO must not hang the start.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0))
        .open(path)
        .map_err(|error| io_fault(path, "open it", &error))?;
    check_owner(path, &file)?;
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(|error| io_fault(path, "read it", &error))?;
    Keys::parse(path, &text)
}

fn check_owner(path: &Path, file: &File) -> Result<(), Error> {
    let metadata = file.metadata().map_err(|error| io_fault(path, "look at it", &error))?;
    if !metadata.is_file() {
        return Err(fault(path, "it is not a regular file"));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(fault(path, &format!("it has {} bytes, at most {MAX_FILE_BYTES} are read", metadata.len())));
    }
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return Err(fault(path, &format!("it belongs to uid {}, this process runs as uid {user}", metadata.uid())));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(fault(path, &format!("its mode is {mode:04o}, others may use it; it must be 0600")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
