//! Rings for a host that does not wait, once for each time it found nothing.

use crate::sync::atomic::{AtomicBool, Ordering, fence};

/// Whether an event loop wants to be woken: it found the queue empty and was not woken since.
///
/// [`Self::arm`] belongs into [`super::HostQueue::next_batch`], [`Self::is_due`] into the doorbell of the queue.
#[derive(Debug, Default)]
pub struct Bell(AtomicBool);

impl Bell {
    /// The loop found the queue empty, and looks once more.
    pub fn arm(&self) {
        self.0.store(true, Ordering::Relaxed);
        // Pairs with the fence of `is_due`: the loop sees what was queued, or who queued it sees the armed bell.
        fence(Ordering::SeqCst);
    }

    /// Something was queued: says whether to ring, once.
    #[must_use]
    pub fn is_due(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}
