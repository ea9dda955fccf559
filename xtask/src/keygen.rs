//! `keygen FILE`: a new shared key.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use crate::process::{Failure, Outcome, io};

/// Bytes of a shared key (A9).
const KEY_BYTES: usize = 32;

/// Writes 64 hex digits into a new file of mode 0600; an existing file is left alone.
pub(crate) fn run(args: &[String]) -> Outcome {
    let [path] = args else {
        return Err(Failure::usage("keygen needs one file"));
    };
    let mut key = [0_u8; KEY_BYTES];
    let source = "/dev/urandom";
    io(source, File::open(source).and_then(|mut file| file.read_exact(&mut key)))?;
    let mut line: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    line.push('\n');
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    io(path, file.and_then(|mut file| file.write_all(line.as_bytes())))
}
