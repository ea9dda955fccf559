//! The real kind of each.

pub(crate) use std::sync::atomic;
use std::thread::{self, Thread};
pub(crate) use std::thread_local;

pub(crate) use crossbeam_channel::{Receiver, Sender, unbounded};
pub(crate) use parking_lot::{Condvar, Mutex};

use crate::hub::now;
use crate::time::Timestamp;

/// A lock that is always free: something else says who has the value. The models check that.
pub(crate) type Sole<T> = Mutex<T>;

/// Where one thread sleeps, and any other wakes it. A wake-up that comes first is kept.
#[derive(Debug)]
pub(crate) struct Parker(Thread);

impl Parker {
    /// Of the calling thread.
    pub(crate) fn new() -> Self {
        Self(thread::current())
    }

    /// Sleeps until it is woken or the time has come; may wake without a reason. For the thread that made it.
    pub(crate) fn park_until(&self, deadline: Timestamp) {
        match deadline {
            Timestamp::NEVER => thread::park(),
            deadline => thread::park_timeout(deadline.since(now())),
        }
    }

    pub(crate) fn unpark(&self) {
        self.0.unpark();
    }
}
