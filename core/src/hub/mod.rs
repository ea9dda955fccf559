//! The public handle of a hub, its driver, and the node it runs on.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a driver: it has threads and clocks, and shares state with its callers"
)]

mod builder;
mod clock;
mod documents;
mod driver;
mod end;
mod host_watch;
pub(crate) mod inputs;
mod load;
mod membership;
mod node;
mod observers;
mod outcome;
pub(crate) mod pending;
mod queries;
pub(crate) mod requests;
mod router;
mod statics;
mod stats;
pub(crate) mod turns;
mod view;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use serde_json::Value;

pub use builder::HubBuilder;
pub use clock::{now, wall_ms};
pub use documents::SpecList;
pub use node::Node;
pub use observers::{Interceptor, Observer};
pub use pending::{Answer, Pending};
pub use queries::ChildrenByNode;
pub use stats::{DebugStats, process_counts};

use crate::config::HubConfig;
use crate::engine::{Command, MessageCommand, PlanChange, StartOptions};
use crate::error::{Error, ErrorKind};
use crate::host::call::KindInfo;
use crate::host::child::Kind;
use crate::host::local::LocalHost;
use crate::host::{Doorbell, HostItem, HostTask, Polled};
use crate::ids::{ChildId, HubId, KindName, NodeName, RequestId};
use crate::observe::{HookEvent, HookName};
use crate::payload::Payload;
use crate::spec::{ChildSpec, DrainReport, StartResult, Started, StopResult, Stopped};
pub(crate) use end::Flag;
pub(crate) use observers::Observers;
pub(crate) use requests::Requests;
use view::View;

/// What of the time of a stop is kept for leaving, a quarter at most.
const LEAVE_TIME: Duration = Duration::from_secs(1);
/// How much longer than its timeout a stop may wait for the last things to end.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// The parts of a hub that its driver, its host and its handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: HubId,
    pub(crate) node: Node,
    /// Whether the hub made its node, and so ends it.
    pub(crate) owns_node: bool,
    pub(crate) requests: Arc<Requests>,
    pub(crate) view: View,
    pub(crate) observers: Arc<Observers>,
    pub(crate) metrics: crate::observe::metrics::HubMetrics,
    pub(crate) queue: crate::host::queue::HostQueue,
    /// The threads of Rust children; none when a binding pulls.
    pub(crate) local: Option<LocalHost>,
    /// The hooks a binding wants, as bits.
    pub(crate) host_hooks: std::sync::atomic::AtomicU64,
    /// Whether the program's threads run the children, by [`Hub::poll`].
    pub(crate) is_polled: bool,
    pub(crate) shutdown_timeout: Duration,
    /// What `stop` answers; set when the driver ended.
    pub(crate) report: parking_lot::Mutex<Option<Result<DrainReport, Error>>>,
    pub(crate) ended: Flag,
}

/// Sees the last handle go.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl Drop for Handle {
    /// Never blocks (A14): a hub that was not stopped is stopped in the background.
    fn drop(&mut self) {
        let requests = &self.shared.requests;
        if !requests.is_forked() && requests.ended().is_none() {
            requests.submit_unread(Command::Shutdown(self.shared.shutdown_timeout));
        }
    }
}

/// One hub of this process. Clones share it; any thread may use it.
///
/// Operations that need the cluster answer by a [`Pending`]; the others read what the hub published and neither
/// block nor ask the network. After [`Hub::stop`] every operation answers `closed`, in a forked process `forked`.
/// Dropping the last handle stops the hub in the background.
///
/// # Examples
/// ```no_run
/// use std::time::Duration;
///
/// use process_hub::config::{HubConfig, NodeConfig};
/// use process_hub::engine::{MessageCommand, StartOptions};
/// use process_hub::host::call::HostFailure;
/// use process_hub::host::{Child, Context, kind_fn};
/// use process_hub::hub::Hub;
/// use process_hub::ids::ChildId;
/// use process_hub::payload::Payload;
/// use process_hub::spec::ChildSpec;
///
/// struct Counter(u64);
///
/// impl Child for Counter {
///     fn handle(&mut self, _: &Context, _: Payload) -> Result<Payload, HostFailure> {
///         self.0 += 1;
///         Ok(Payload::json(self.0.to_string()))
///     }
/// }
///
/// let node = NodeConfig::default().with_seeds(["127.0.0.1:7400"]);
/// let hub = Hub::builder(HubConfig::new("orders")?.with_node(node))
///     .kind("counter", kind_fn(false, || Box::new(Counter(0))))
///     .start()?;
/// hub.start_child(ChildSpec::new("c:1", "counter")?, StartOptions::default()).wait()?;
/// let message = MessageCommand::new(ChildId::new("c:1")?, Payload::default());
/// assert_eq!(&hub.call(message).wait()?.data[..], b"1");
/// hub.stop(Duration::from_secs(20))?;
/// # Ok::<(), process_hub::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Hub {
    pub(crate) handle: Arc<Handle>,
}

impl Hub {
    /// Begins a hub.
    pub fn builder(config: HubConfig) -> HubBuilder {
        HubBuilder::new(config)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    fn requests(&self) -> &Requests {
        &self.handle.shared.requests
    }

    /// Sends any command; the answer is waited for. The operations below are this, with typed results.
    pub fn request(&self, command: Command) -> Pending<crate::engine::Outcome> {
        self.requests().submit(command, |outcome| Some(Ok(outcome)))
    }

    /// Sends any command; the answer comes as [`crate::host::queue::HostItem::Completed`] of the host queue, with
    /// the number returned: for hosts that wake their own futures. It may come before this returns.
    ///
    /// # Errors
    /// What can be refused at once: `closed`, `forked`, `hub_failed`, `overloaded`, `no_children`,
    /// `payload_too_large`. No item follows then.
    pub fn request_notify(&self, command: Command) -> Result<RequestId, Error> {
        self.requests().submit_to_queue(command, |_| {})
    }

    /// Like [`Self::request_notify`]; `register` is given the number before the answer can come.
    ///
    /// # Errors
    /// As there; `register` was called then.
    pub fn request_notify_with(&self, command: Command, register: impl FnOnce(RequestId)) -> Result<RequestId, Error> {
        self.requests().submit_to_queue(command, register)
    }

    /// Says that nobody waits for this operation any more. What it began goes on.
    pub fn cancel(&self, id: RequestId) {
        self.requests().cancel(id);
    }

    /// Starts one child. Success means: callable from here, now (R1).
    ///
    /// The answer fails with the child's own error, such as `already_started`, `unknown_kind`, `start_failed`.
    pub fn start_child(&self, spec: ChildSpec, options: StartOptions) -> Pending<Started> {
        self.requests().submit(Command::Start(vec![Arc::new(spec)], options), |outcome| {
            Some(outcome.into_start_result()?.into_one())
        })
    }

    /// Starts children. One that fails refuses none of the others; the answer tells of each.
    pub fn start_children(&self, specs: Vec<ChildSpec>, options: StartOptions) -> Pending<StartResult> {
        let specs = specs.into_iter().map(Arc::new).collect();
        self.requests().submit(Command::Start(specs, options), |o| o.into_start_result().map(Ok))
    }

    /// Stops one child everywhere. The answer comes when its instances have ended.
    pub fn stop_child(&self, child: &ChildId, timeout: Duration) -> Pending<Stopped> {
        self.requests()
            .submit(Command::Stop(vec![child.clone()], timeout), |outcome| Some(outcome.into_stop_result()?.into_one()))
    }

    /// Stops children everywhere; the answer tells of each.
    pub fn stop_children(&self, children: Vec<ChildId>, timeout: Duration) -> Pending<StopResult> {
        self.requests().submit(Command::Stop(children, timeout), |outcome| outcome.into_stop_result().map(Ok))
    }

    /// Sends a message and waits for the reply (R7). `command.chain` is empty outside of children.
    pub fn call(&self, command: MessageCommand) -> Pending<Payload> {
        self.requests().call(command)
    }

    /// Sends a message; the answer says that it is on its way.
    pub fn send(&self, command: MessageCommand) -> Pending<()> {
        self.requests().send(command)
    }

    /// Registers a kind of Rust children, before or after they are wanted.
    ///
    /// The answer fails with `invalid_argument` on a hub whose host pulls the queue itself.
    pub fn register(&self, kind: &str, code: impl Kind + 'static) -> Pending<()> {
        let name = match KindName::new(kind) {
            Ok(name) => name,
            Err(error) => return Pending::refused("register", error),
        };
        let Some(local) = &self.shared().local else {
            let message = "this hub's host pulls its queue: it runs the kinds, use register_kinds";
            let error = Error::new(ErrorKind::InvalidArgument, "register", message);
            return Pending::refused("register", error);
        };
        let info = KindInfo { name: name.clone(), has_state: code.has_state(), has_run: code.has_run() };
        local.register(name, Arc::new(code));
        self.register_kinds(vec![info])
    }

    /// Tells the hub which kinds its host can run, for hosts that pull the queue.
    pub fn register_kinds(&self, kinds: Vec<KindInfo>) -> Pending<()> {
        self.requests().submit(Command::Register(kinds), |outcome| outcome.into_done().map(Ok))
    }

    /// Calls `handler` with each firing of `hook`: on one thread of the observers, higher priority first, then in
    /// the order of registration. The same id for the same hook replaces.
    ///
    /// # Errors
    /// `closed`, `forked`, or `internal` when the thread could not be started.
    pub fn on(
        &self,
        hook: HookName,
        id: &str,
        priority: i32,
        handler: impl Fn(&HookEvent) + Send + Sync + 'static,
    ) -> Result<(), Error> {
        self.requests().check("on")?;
        let handler: Observer = Arc::new(handler);
        self.shared().observers.on(hook, id.into(), priority, handler)?;
        self.subscribe();
        Ok(())
    }

    /// Lets `handler` change specs before their start (`child_data_alter`); where it fails, the spec stays as it is and
    /// the hook `child_failed` tells why.
    ///
    /// # Errors
    /// `closed` or `forked`; `invalid_argument` on a hub whose host pulls the queue itself.
    pub fn intercept(
        &self,
        id: &str,
        priority: i32,
        handler: impl Fn(ChildSpec, &[NodeName]) -> Result<ChildSpec, crate::host::call::HostFailure>
        + Send
        + Sync
        + 'static,
    ) -> Result<(), Error> {
        self.requests().check("intercept")?;
        if self.shared().local.is_none() {
            let message = "this hub's host pulls its queue: it runs the interceptors";
            return Err(Error::new(ErrorKind::InvalidArgument, "intercept", message));
        }
        let handler: Interceptor = Arc::new(handler);
        self.shared().observers.intercept(id.into(), priority, handler);
        self.subscribe();
        Ok(())
    }

    /// Removes a handler; says whether there was one.
    pub fn off(&self, hook: HookName, id: &str) -> bool {
        let found = self.shared().observers.off(hook, id);
        if found {
            self.subscribe();
        }
        found
    }

    /// Which hooks the host queue shall deliver, as a set of [`HookName::bit`]; for hosts that pull it.
    pub fn subscribe_hooks(&self, bits: u64) {
        let host = &self.shared().host_hooks;
        host.store(bits, std::sync::atomic::Ordering::Release);
        self.subscribe();
    }

    fn subscribe(&self) {
        let shared = self.shared();
        if shared.is_polled {
            shared.host_hooks.store(shared.observers.bits(), std::sync::atomic::Ordering::Release);
        }
        let host = shared.host_hooks.load(std::sync::atomic::Ordering::Acquire);
        let bits = host | shared.observers.bits();
        shared.requests.submit_unread(Command::SubscribeHooks(bits));
    }

    /// Gives every local child away and stays a member that owns nothing.
    pub fn drain(&self, timeout: Duration) -> Pending<DrainReport> {
        self.requests().submit(Command::Drain(timeout), |outcome| outcome.into_report().map(Ok))
    }

    /// Drains, leaves and stops (R19), within `timeout` and half a second. A second call answers the same.
    ///
    /// Blocks; do not call it from a callback of a child of this hub.
    ///
    /// # Errors
    /// `timeout` when the children did not end in time: they are abandoned and the hub is closed all the same.
    /// `forked` in a forked process, `hub_failed` when the hub had fenced itself.
    pub fn stop(&self, timeout: Duration) -> Result<DrainReport, Error> {
        let shared = self.shared();
        if shared.requests.is_forked() {
            shared.requests.check("stop")?;
        }
        let until = Instant::now() + timeout.min(Duration::from_secs(86_400));
        let children = timeout - LEAVE_TIME.min(timeout / 4);
        shared.requests.submit_unread(Command::Shutdown(children));
        if shared.is_polled {
            self.poll_until_closed(until);
        }
        if !shared.ended.wait(until.saturating_duration_since(Instant::now())) {
            shared.requests.inputs().halt();
            shared.ended.wait(STOP_GRACE);
        }
        let left = || until.saturating_duration_since(Instant::now()) + STOP_GRACE;
        if let Some(local) = &shared.local {
            local.join(left());
        }
        shared.observers.join(left());
        shared.report.lock().clone().unwrap_or_else(|| {
            let message = format!("the hub did not end within {} ms", timeout.as_millis());
            Err(Error::new(ErrorKind::Timeout, "stop", message))
        })
    }

    /// Does the next thing of a polled hub on the calling thread: runs a callback, tells an observer. Waits for it
    /// at most `timeout`. Any number of threads may poll.
    ///
    /// # Errors
    /// `invalid_argument` when the hub has threads of its own; `forked`.
    pub fn poll(&self, timeout: Duration) -> Result<Polled, Error> {
        self.poll_unless(timeout, &crossbeam_channel::never())
    }

    /// Like [`Self::poll`]; gives up as soon as the other end of `gone` is dropped.
    ///
    /// # Errors
    /// As there.
    pub fn poll_unless(&self, timeout: Duration, gone: &Receiver<Infallible>) -> Result<Polled, Error> {
        let shared = self.shared();
        if shared.requests.is_forked() {
            shared.requests.check("poll")?;
        }
        match &shared.local {
            Some(local) if shared.is_polled => Ok(local.poll(timeout, gone)),
            Some(_) | None => {
                let message = "this hub runs its callbacks on threads of its own";
                Err(Error::new(ErrorKind::InvalidArgument, "poll", message))
            }
        }
    }

    fn poll_until_closed(&self, until: Instant) {
        let shared = self.shared();
        let Some(local) = &shared.local else { return };
        while local.poll(until.saturating_duration_since(Instant::now()), &crossbeam_channel::never()) == Polled::Worked
        {
        }
        while let Some(event) = shared.queue.next_hook(Duration::ZERO) {
            shared.observers.observe(&event);
        }
    }

    /// Whether the program polls this hub.
    #[must_use]
    pub fn is_polled(&self) -> bool {
        self.shared().is_polled
    }

    /// Rings `doorbell` whenever a thread of the host has something to do. Only the first doorbell counts.
    pub fn set_doorbell(&self, doorbell: Doorbell) {
        self.shared().queue.set_doorbell(doorbell);
    }

    /// Runs a task on a thread of the host, behind the calls that wait for one.
    pub fn run_on_host(&self, task: HostTask) {
        self.shared().queue.push(HostItem::Task(task));
    }

    /// Ends the hub without its host, which can run nothing any more: the children are abandoned, the members are
    /// told that the node leaves. Waits at most `timeout`; says whether the hub ended.
    pub fn halt(&self, timeout: Duration) -> bool {
        let shared = self.shared();
        if shared.requests.is_forked() {
            return false;
        }
        shared.requests.inputs().halt();
        shared.ended.wait(timeout)
    }

    /// Where a child is and why, as the document of `where`.
    pub fn where_is(&self, child: &ChildId) -> Pending<Value> {
        self.requests().submit(Command::Where(child.clone()), |outcome| outcome.into_json().map(Ok))
    }

    /// What would move if these nodes joined or left: `{moves: [{id, from, to}]}`. Nothing is done.
    pub fn plan(&self, change: PlanChange) -> Pending<Value> {
        self.requests().submit(Command::Plan(change), |outcome| outcome.into_json().map(Ok))
    }

    /// Answers when every reachable node has what this node had written.
    pub fn sync(&self, timeout: Duration) -> Pending<()> {
        self.requests().submit(Command::Sync(timeout), |outcome| outcome.into_done().map(Ok))
    }

    /// Lets so many members count from now on, after an intended shrink: for all nodes of the hub, with the consent of
    /// a quorum, and under `majority_quorum` only. Members that are not there give up their slots.
    ///
    /// # Errors
    /// `invalid_argument` for 0.
    pub fn reset_cluster_size(&self, size: u32) -> Result<Pending<()>, Error> {
        let command = Command::reset_cluster_size(size.into())?;
        Ok(self.requests().submit(command, |outcome| outcome.into_done().map(Ok)))
    }

    /// Clears `state_lost` of a child (R8).
    pub fn acknowledge_loss(&self, child: &ChildId) -> Pending<()> {
        self.requests().submit(Command::AcknowledgeLoss(child.clone()), |outcome| outcome.into_done().map(Ok))
    }
}
