//! An answer against those who wait for it.

use std::task::Wake;

use loom::thread;

use super::*;
use crate::hub::inputs;
use crate::sync::{Parker, model, set_time};
use crate::time::Timestamp;

const PATIENCE: Duration = Duration::from_secs(1);

fn open() -> (Pending<()>, Sink) {
    let (inputs, _) = inputs::channel();
    Pending::open(RequestId(1), "sync", PATIENCE, |outcome| outcome.into_done().map(Ok), inputs.turns())
}

/// Wakes a thread that polls.
struct Polling(Parker);

impl Wake for Polling {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn poll_to_the_end(pending: &mut Pending<()>) -> Result<(), Error> {
    let polling = Arc::new(Polling(Parker::new()));
    let waker = Arc::clone(&polling).into();
    loop {
        match Pin::new(&mut *pending).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => polling.0.park_until(Timestamp::NEVER),
        }
    }
}

#[test]
fn answer_comes_then_a_thread_that_waits_wakes() {
    model(|| {
        let (pending, sink) = open();
        let answering = thread::spawn(move || sink.answer(Ok(Outcome::Done)));
        assert_eq!(pending.wait(), Ok(()));
        answering.join().unwrap();
    });
}

#[test]
fn answer_comes_then_a_task_that_polls_is_woken() {
    model(|| {
        let (mut pending, sink) = open();
        let answering = thread::spawn(move || sink.answer(Ok(Outcome::Done)));
        assert_eq!(poll_to_the_end(&mut pending), Ok(()));
        answering.join().unwrap();
    });
}

#[test]
fn future_goes_to_another_task_then_that_one_is_woken() {
    model(|| {
        let (mut pending, sink) = open();
        let answering = thread::spawn(move || sink.answer(Ok(Outcome::Done)));
        let first = Pin::new(&mut pending).poll(&mut Context::from_waker(Waker::noop()));
        match first {
            Poll::Ready(result) => assert_eq!(result, Ok(())),
            Poll::Pending => assert_eq!(poll_to_the_end(&mut pending), Ok(())),
        }
        answering.join().unwrap();
    });
}

#[test]
fn sink_is_dropped_then_a_thread_that_waits_hears_that_the_hub_closed() {
    model(|| {
        let (pending, sink) = open();
        let dropping = thread::spawn(move || drop(sink));
        assert_eq!(pending.wait().unwrap_err().kind, ErrorKind::Closed);
        dropping.join().unwrap();
    });
}

#[test]
fn time_is_over_as_the_answer_comes_then_it_is_read_once_now_or_later() {
    model(|| {
        let (mut pending, sink) = open();
        let answering = thread::spawn(move || sink.answer(Ok(Outcome::Done)));
        let clock = thread::spawn(|| set_time(Timestamp::default() + PATIENCE));
        let in_time = pending.wait_timeout(PATIENCE);
        answering.join().unwrap();
        clock.join().unwrap();
        let later = pending.wait_timeout(PATIENCE);
        assert_eq!([in_time, later].into_iter().flatten().collect::<Vec<_>>(), [Ok(())]);
    });
}
