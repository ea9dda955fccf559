//! What the child process of a fork closes (R19).
//!
//! A socket that stays open in a forked process keeps the port, and peers do not notice the end of its parent. The
//! child may take no lock and run no destructor, so the sockets' numbers are in a fixed table of atomics, which outlives
//! every node.

use std::ops::Deref;
use std::os::fd::{AsFd, RawFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Sockets beyond this are not noted, and stay open in a forked process.
const PLACES: usize = 4096;

/// Zero, or a socket: its number, counted from one, and the lower half of its inode.
static TABLE: [AtomicU64; PLACES] = [const { AtomicU64::new(0) }; PLACES];
/// Where to look for a free place first.
static NEXT: AtomicUsize = AtomicUsize::new(0);

fn entry(number: RawFd, inode: u64) -> Option<u64> {
    let number = u64::try_from(number).ok()? + 1;
    Some(number << 32 | inode & u64::from(u32::MAX))
}

/// Closes what this process has inherited from the one it was forked from. For the handler of a fork, in the child:
/// takes no lock and no memory. `inode` tells the inode of a descriptor, if there is one of this number; `close` closes
/// it. What meanwhile is another file is left alone.
pub fn close_inherited(inode: impl Fn(RawFd) -> Option<u64>, close: impl Fn(RawFd)) {
    for place in &TABLE {
        let noted = place.swap(0, Ordering::AcqRel);
        let Some(number) = (noted >> 32).checked_sub(1).and_then(|number| RawFd::try_from(number).ok()) else {
            continue;
        };
        if inode(number).and_then(|inode| entry(number, inode)) == Some(noted) {
            close(number);
        }
    }
}

/// A socket that a forked process closes. It is out of the table before it is closed: fields are dropped in order.
#[derive(Debug)]
pub(super) struct Noted<T> {
    _place: Place,
    socket: T,
}

#[derive(Debug)]
struct Place(Option<usize>);

impl<T: AsFd> Noted<T> {
    pub(super) fn new(socket: T) -> Self {
        Self { _place: Place::take(&socket), socket }
    }
}

impl Place {
    fn take(socket: &impl AsFd) -> Self {
        let number = std::os::fd::AsRawFd::as_raw_fd(&socket.as_fd());
        let inode = rustix::fs::fstat(socket).ok().map(|stat| stat.st_ino);
        let Some(noted) = inode.and_then(|inode| entry(number, inode)) else {
            return Self(None);
        };
        let from = NEXT.fetch_add(1, Ordering::Relaxed);
        let free = (from..from + PLACES)
            .map(|at| at % PLACES)
            .find(|at| TABLE[*at].compare_exchange(0, noted, Ordering::AcqRel, Ordering::Relaxed).is_ok());
        Self(free)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(at) = self.0 {
            TABLE[at].store(0, Ordering::Release);
        }
    }
}

impl<T> Deref for Noted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.socket
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    use super::*;

    // One test: the table is the process's, and `close_inherited` empties it.
    #[test]
    fn sockets_then_noted_while_they_are_open_and_told_once() {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let inode =
            |number: RawFd| std::fs::metadata(format!("/proc/self/fd/{number}")).ok().map(|file| inode_of(&file));
        let (open, other) = (Noted::new(listen()), Noted::new(listen()));
        let ended = Noted::new(listen());
        let ended_number = ended.as_raw_fd();
        drop(ended);
        let closed = RefCell::new(Vec::new());
        let close = |number: RawFd| closed.borrow_mut().push(number);
        // The number of one is another file by now.
        close_inherited(|number| if number == other.as_raw_fd() { Some(1) } else { inode(number) }, close);
        assert!(closed.borrow().contains(&open.as_raw_fd()));
        assert!(!closed.borrow().contains(&other.as_raw_fd()) && !closed.borrow().contains(&ended_number));
        closed.borrow_mut().clear();
        close_inherited(inode, close);
        assert!(!closed.borrow().contains(&open.as_raw_fd()), "it is out of the table");
    }

    fn inode_of(file: &std::fs::Metadata) -> u64 {
        std::os::unix::fs::MetadataExt::ino(file)
    }
}
