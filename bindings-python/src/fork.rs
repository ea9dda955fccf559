//! What happens to a hub in a process that was forked from the one that started it (P-08).

use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use process_hub::error::{Error, ErrorKind};
use process_hub::net::tcp::close_inherited;
use pyo3::prelude::*;

static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Which process a hub was started in: rises in the child process of every fork.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Generation(u64);

impl Generation {
    /// The present process.
    pub(crate) fn present() -> Self {
        Self(GENERATION.load(Ordering::Relaxed))
    }

    /// Whether the present process is a fork of the one this was taken in.
    pub(crate) fn is_past(self) -> bool {
        self != Self::present()
    }

    /// Refuses in a forked process.
    pub(crate) fn check(self, operation: &str) -> Result<(), Error> {
        if self.is_past() {
            return Err(Error::new(
                ErrorKind::Forked,
                operation,
                "this process was forked after the hub started, and a hub belongs to one process; start the hub \
                 after the fork, or use the `spawn` or `forkserver` start method of multiprocessing",
            ));
        }
        Ok(())
    }
}

/// Run by `os.register_at_fork` in the child process: touches no lock and no runtime object.
#[pyfunction]
pub(crate) fn mark_forked() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    close_inherited(inode_of, |number| {
        // SAFETY: a socket of a hub of the parent; nobody uses or closes it here, since every use is refused and no hub
        // of the parent is dropped.
        unsafe { rustix::io::close(number) };
    });
    crate::logs::start_afresh();
}

/// The inode of a descriptor, if there is one of this number.
fn inode_of(number: RawFd) -> Option<u64> {
    // SAFETY: borrowed for this call; a number that is no descriptor is answered with an error.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::fs::fstat(descriptor).ok().map(|stat| stat.st_ino)
}

/// A number that differs in every forked process.
#[pyfunction]
pub(crate) fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}
