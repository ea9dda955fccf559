use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::thread;

use super::*;
use crate::hub::inputs;

const PATIENCE: Duration = Duration::from_secs(20);

fn open() -> (Pending<()>, Sink) {
    let (inputs, _) = inputs::channel();
    Pending::open(RequestId(1), "sync", PATIENCE, |outcome| outcome.into_done().map(Ok), inputs.turns())
}

#[test]
fn answer_comes_while_a_thread_waits_then_it_wakes() {
    let (pending, sink) = open();
    let thread = thread::spawn(move || pending.wait());
    sink.answer(Ok(Outcome::Done));
    assert_eq!(thread.join().unwrap(), Ok(()));
}

#[test]
fn no_answer_comes_in_time_then_it_can_be_waited_for_again() {
    let (mut pending, sink) = open();
    assert!(pending.wait_timeout(Duration::from_millis(1)).is_none());
    sink.answer(Ok(Outcome::Done));
    assert_eq!(pending.wait_timeout(PATIENCE), Some(Ok(())));
    assert!(pending.wait_timeout(Duration::ZERO).is_none());
}

#[test]
fn sink_is_dropped_unanswered_then_the_answer_is_closed() {
    let (pending, sink) = open();
    drop(sink);
    let error = pending.wait().unwrap_err();
    assert_eq!((error.kind, error.operation.as_str()), (ErrorKind::Closed, "sync"));
}

#[test]
fn answer_has_another_shape_then_it_is_internal() {
    let (pending, sink) = open();
    sink.answer(Ok(Outcome::Reply(crate::payload::Payload::default())));
    assert_eq!(pending.wait().unwrap_err().kind, ErrorKind::Internal);
}

#[test]
fn future_is_polled_then_its_waker_is_called_once_with_the_answer() {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Arc::clone(&count).into();
    let mut context = Context::from_waker(&waker);
    let (mut pending, sink) = open();
    assert!(Pin::new(&mut pending).poll(&mut context).is_pending());
    assert!(Pin::new(&mut pending).poll(&mut context).is_pending());
    sink.answer(Ok(Outcome::Done));
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    let polled = Pin::new(&mut pending).poll(&mut context);
    assert_eq!(polled, Poll::Ready(Ok(())));
}

#[test]
fn pending_is_dropped_then_its_answer_goes_nowhere() {
    let (pending, sink) = open();
    drop(pending);
    sink.answer(Ok(Outcome::Done));
}
