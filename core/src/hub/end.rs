//! How the end of a hub is waited for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::{Condvar, Mutex};

/// Something that happens once and is waited for. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flag(Arc<(Mutex<bool>, Condvar)>);

impl Flag {
    pub(crate) fn set(&self) {
        *self.0.0.lock() = true;
        self.0.1.notify_all();
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.0.0.lock()
    }

    /// Waits at most `timeout`; says whether it happened.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout.min(Duration::from_secs(86_400));
        let mut is_set = self.0.0.lock();
        while !*is_set {
            if self.0.1.wait_until(&mut is_set, until).timed_out() {
                break;
            }
        }
        *is_set
    }
}

#[cfg(test)]
#[cfg(feature = "loom")]
mod models {
    use loom::thread;

    use super::*;
    use crate::sync::model;

    #[test]
    fn flag_is_set_then_everybody_who_waits_for_it_goes_on() {
        model(|| {
            let flag = Flag::default();
            let waiting = flag.clone();
            let other = thread::spawn(move || waiting.wait(Duration::MAX));
            let setting = flag.clone();
            let setter = thread::spawn(move || setting.set());
            assert!(flag.wait(Duration::MAX));
            assert!(other.join().unwrap());
            assert!(flag.is_set());
            setter.join().unwrap();
        });
    }
}
