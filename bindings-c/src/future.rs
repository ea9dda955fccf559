//! Answers that are still to come.

use std::convert::Infallible;
use std::ffi::c_void;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex};
use process_hub::engine::{Command, Outcome};
use process_hub::error::{Error, ErrorKind};
use process_hub::host::{HostTask, Polled, while_blocked};
use process_hub::hub::{Hub, Pending};
use process_hub::ids::RequestId;
use process_hub::payload::Payload;

use crate::boundary::{
    HandlePointer as _, OutPointer as _, UserData, ask, enter, handle, make_handle, ms, ph_drop, refuse,
};
use crate::hub::HubObject;
use crate::table::Handled;
use crate::types::{ph_error, ph_future, ph_future_callback, ph_status, ph_value};
use crate::{current, value};

/// Makes the value of an answer.
pub(crate) type Convert = Box<dyn FnOnce(Outcome) -> Result<Payload, Error> + Send>;

/// The program's callback, and who it is for.
struct Callback {
    function: unsafe extern "C" fn(*mut c_void, *mut ph_future),
    user_data: UserData,
}

enum Answer {
    Pending(Pending<Outcome>, Convert),
    /// There, in the form of the core: whoever reads it first makes the value, not the thread of the engine.
    Arrived(Result<Outcome, Error>, Convert),
    There(Result<Payload, Error>),
    /// Being changed by the thread that holds the lock.
    Taken,
}

impl Answer {
    fn is_there(&self) -> bool {
        matches!(self, Self::Arrived(..) | Self::There(_))
    }
}

struct State {
    answer: Answer,
    callback: Option<Callback>,
    /// Dropped when the answer is there: wakes the waits of a polled hub.
    open: Option<Sender<Infallible>>,
}

/// What a `ph_future` stands for.
pub(crate) struct FutureObject {
    hub: Hub,
    hub_handle: u64,
    handle: AtomicU64,
    request: RequestId,
    state: Mutex<State>,
    answered: Condvar,
    gone: Receiver<Infallible>,
}

impl Handled for FutureObject {
    const TYPE: u64 = 3;
    const NAME: &'static str = "ph_future";
}

impl Wake for FutureObject {
    /// The answer is there. On the thread of the engine, so no code of the program runs here.
    fn wake(self: Arc<Self>) {
        self.look();
    }
}

impl FutureObject {
    /// Begins an operation.
    pub(crate) fn begin(hub: &HubObject, running: Hub, command: Command, convert: Convert) -> Arc<Self> {
        let pending = running.request(command);
        Self::of(hub, running, pending.id(), Answer::Pending(pending, convert))
    }

    /// An answer that is there already.
    pub(crate) fn ready(hub: &HubObject, running: Hub, answer: Payload) -> Arc<Self> {
        Self::of(hub, running, RequestId(0), Answer::There(Ok(answer)))
    }

    fn of(hub: &HubObject, running: Hub, request: RequestId, answer: Answer) -> Arc<Self> {
        let (open, gone) = bounded(0);
        let open = matches!(answer, Answer::Pending(..)).then_some(open);
        let future = Arc::new(Self {
            hub: running,
            hub_handle: hub.handle(),
            handle: AtomicU64::new(0),
            request,
            state: Mutex::new(State { answer, callback: None, open }),
            answered: Condvar::new(),
            gone,
        });
        future.look();
        future
    }

    /// Takes the answer if it is there, and asks to be woken if it is not.
    fn look(self: &Arc<Self>) {
        let mut state = self.state.lock();
        let (mut pending, convert) = match std::mem::replace(&mut state.answer, Answer::Taken) {
            Answer::Pending(pending, convert) => (pending, convert),
            present @ (Answer::Arrived(..) | Answer::There(_) | Answer::Taken) => {
                state.answer = present;
                return;
            }
        };
        let waker = Waker::from(Arc::clone(self));
        match Pin::new(&mut pending).poll(&mut std::task::Context::from_waker(&waker)) {
            Poll::Pending => state.answer = Answer::Pending(pending, convert),
            Poll::Ready(answer) => {
                state.answer = Answer::Arrived(answer, convert);
                state.open = None;
                let callback = state.callback.take();
                drop(state);
                self.answered.notify_all();
                if let Some(callback) = callback {
                    self.call_back(callback);
                }
            }
        }
    }

    /// Has the callback run on a thread of the host.
    fn call_back(self: &Arc<Self>, callback: Callback) {
        let own = self.handle.load(Ordering::Acquire);
        let hub = self.hub_handle;
        let run = move || {
            let _inside = current::enter(hub, None);
            // SAFETY: the program gave this function for this pointer, which `callback` keeps.
            unsafe { (callback.function)(callback.user_data.get(), handle(own)) };
        };
        if self.hub.is_alive() {
            self.hub.run_on_host(HostTask::new(run));
        } else {
            run();
        }
    }

    fn answer(&self) -> Option<Result<Payload, Error>> {
        let mut state = self.state.lock();
        if !state.answer.is_there() {
            return None;
        }
        let answer = match std::mem::replace(&mut state.answer, Answer::Taken) {
            Answer::Arrived(answer, convert) => answer.and_then(convert),
            Answer::There(answer) => answer,
            Answer::Pending(..) | Answer::Taken => return None,
        };
        state.answer = Answer::There(answer.clone());
        Some(answer)
    }

    /// Waits for the answer. A polled hub is polled meanwhile, unless this is a callback.
    pub(crate) fn wait(&self, timeout: Duration) -> Result<Payload, Error> {
        let until = Instant::now() + timeout;
        let polls = self.hub.is_polled() && !current::is_inside_any();
        loop {
            if let Some(answer) = self.answer() {
                return answer;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let message = format!("no answer within {} ms; the operation goes on", timeout.as_millis());
                return Err(Error::new(ErrorKind::Timeout, "future_wait", message));
            }
            if !polls || self.hub.poll_unless(left, &self.gone)? == Polled::Closed {
                while_blocked(|| self.wait_answered(until));
            }
        }
    }

    fn wait_answered(&self, until: Instant) {
        let mut state = self.state.lock();
        while !state.answer.is_there() {
            if self.answered.wait_until(&mut state, until).timed_out() {
                return;
            }
        }
    }
}

/// Gives a future to the program, or lets the operation go on unwatched if it wants none.
pub(crate) fn give(future: Arc<FutureObject>, out: *mut *mut ph_future) -> Result<(), Error> {
    if !out.is_null() {
        let handle: *mut ph_future = make_handle(Arc::clone(&future))?;
        future.handle.store(handle.number(), Ordering::Release);
        out.put(handle);
    }
    Ok(())
}

/// Waits for the answer, at most `timeout_ms`; 0 only looks. May be called again, and by several threads.
///
/// On `PH_OK` the answer is in `*value`, which is the program's and freed by `ph_value_free`; NULL if nobody wants it.
/// On failure `*value` is untouched, and `*err`, unless NULL, is the program's: the operation's own error, or
/// `PH_ERR_TIMEOUT` of the operation "future_wait" when no answer came in time; the operation goes on then. Any thread,
/// also in callbacks; the wait of a polled hub polls it.
#[unsafe(no_mangle)]
pub extern "C" fn ph_future_wait(
    future: *mut ph_future,
    timeout_ms: u64,
    value: *mut ph_value,
    err: *mut *mut ph_error,
) -> ph_status {
    enter("future_wait", err, || {
        let payload = future.object("future_wait")?.wait(ms(timeout_ms))?;
        value::write(value, || payload)
    })
}

/// Whether the answer is there; false if the handle is none. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_future_is_done(future: *mut ph_future) -> bool {
    ask("ph_future_is_done", false, || Ok(future.object("ph_future_is_done")?.state.lock().answer.is_there()))
}

/// Has `callback` called once, when the answer is there, or at once if it is: on a dispatcher thread, in `ph_hub_poll`,
/// or, when the hub has ended, inside this function. A future has one callback: a second one is refused.
///
/// `user_data` is the library's from now on, also on failure: `drop`, unless NULL, is called with it once, after the
/// callback or when it is clear that there will be none. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_future_on_done(
    future: *mut ph_future,
    callback: ph_future_callback,
    user_data: *mut c_void,
    drop: ph_drop,
    err: *mut *mut ph_error,
) -> ph_status {
    const OPERATION: &str = "future_on_done";
    let user_data = UserData::new(user_data, drop);
    enter(OPERATION, err, || {
        let function = callback.ok_or_else(|| refuse(OPERATION, "the callback is NULL"))?;
        let object = future.object(OPERATION)?;
        let callback = Callback { function, user_data };
        let mut state = object.state.lock();
        if state.answer.is_there() {
            std::mem::drop(state);
            object.call_back(callback);
            return Ok(());
        }
        if state.callback.is_some() {
            std::mem::drop(state);
            return Err(refuse(OPERATION, "the future has a callback already"));
        }
        state.callback = Some(callback);
        Ok(())
    })
}

/// Says that nobody waits for the answer any more: waits end with `PH_ERR_CANCELLED`, unless the answer is there. What
/// the operation began goes on. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_future_cancel(future: *mut ph_future, err: *mut *mut ph_error) -> ph_status {
    enter("future_cancel", err, || {
        let future = future.object("future_cancel")?;
        future.hub.cancel(future.request);
        Ok(())
    })
}

/// Frees a future and sets the handle to NULL. The operation goes on; a callback that has not begun is not called any
/// more. NULL, and a handle that is NULL or freed, is no harm. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_future_free(future: *mut *mut ph_future) {
    ask("ph_future_free", (), || {
        if let Some(handle) = future.present() {
            future.put(std::ptr::null_mut());
            let object = handle.release("ph_future_free")?;
            let callback = object.state.lock().callback.take();
            drop(callback);
        }
        Ok(())
    });
}
