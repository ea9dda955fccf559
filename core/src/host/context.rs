//! What a Rust child knows of itself and may ask for.

use std::sync::Arc;
use std::time::Duration;

use super::call::{HostAnswer, HostCall, HostFailure, HostRequest, InstanceEvent, StartReason};
use super::cell::Cell;
use super::queue::HostQueue;
use crate::engine::{MessageCommand, Recipient};
use crate::error::Error;
use crate::hub::{Hub, Pending};
use crate::ids::{CallNumber, ChildId, Epoch, HubId, InstanceId, KindName, NodeName};
use crate::payload::Payload;
use crate::spec::Mode;

/// How long it may take to forget an instance whose start failed.
const DISCARD_LIMIT: Duration = Duration::from_secs(5);

/// The `ctx` of a child. Clones are cheap, may be kept, and may be used on any thread.
#[derive(Clone, Debug)]
pub struct Context {
    cell: Arc<Cell>,
    chain: Chain,
}

/// The children that wait for what this context is used for.
#[derive(Clone, Debug)]
pub(crate) enum Chain {
    /// None: a body, begun by this call, runs beside the callbacks.
    Body(CallNumber),
    /// The child itself, in a callback that no child's call led to.
    Callback,
    /// The child itself, handling the message of a call these children wait in.
    Handling(Arc<[ChildId]>),
}

impl Context {
    pub(crate) fn new(cell: Arc<Cell>, chain: Chain) -> Self {
        Self { cell, chain }
    }

    /// The child's id.
    #[must_use]
    pub fn child_id(&self) -> &ChildId {
        &self.cell.start().spec.id
    }

    /// The kind that runs it.
    #[must_use]
    pub fn kind(&self) -> &KindName {
        &self.cell.start().spec.kind
    }

    /// The hub.
    #[must_use]
    pub fn hub_id(&self) -> &HubId {
        &self.cell.start().hub_id
    }

    /// The node that runs this instance.
    #[must_use]
    pub fn node(&self) -> &NodeName {
        &self.cell.start().node
    }

    /// The fencing number as of now (R4): write it beside what this child writes to a database.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.cell.epoch()
    }

    /// The role as last told.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.cell.mode()
    }

    /// The metadata, a JSON object.
    #[must_use]
    pub fn metadata(&self) -> serde_json::Value {
        self.cell.start().spec.metadata_value()
    }

    /// Why this instance was started.
    #[must_use]
    pub fn start_reason(&self) -> StartReason {
        self.cell.start().reason
    }

    /// Whether the body shall return: the child is frozen or stopped.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cell.is_cancelled(self.body())
    }

    /// Waits until the body shall return, at most this long; says whether it shall. The pause of a loop.
    #[must_use]
    pub fn wait_cancelled(&self, timeout: Duration) -> bool {
        self.cell.wait_cancelled(self.body(), timeout)
    }

    /// The right to answer a call later, for a [`super::Child::perform`] that gave no answer.
    #[must_use]
    pub fn answer_later(&self, call: &HostCall) -> Reply {
        let is_start = matches!(call.request, HostRequest::Start(_));
        let started = is_start.then(|| (call.instance, self.child_id().clone()));
        Reply::new(self.cell.queue().clone(), call.number, started)
    }

    /// Says that an outgoing instance whose state was not delivered may end (R5).
    pub fn retention_handled(&self) {
        self.cell.tell(InstanceEvent::RetentionHandled);
    }

    /// Ends this instance: normally, or as a crash with a reason. The restart policy decides what follows.
    pub fn exit(&self, reason: Option<String>) {
        self.cell.tell(InstanceEvent::Exit(reason));
    }

    /// Stops the child: it is no longer wanted anywhere.
    pub fn stop_self(&self) {
        self.cell.tell(InstanceEvent::StopSelf);
    }

    /// The hub this child belongs to; `None` once the program dropped its last handle.
    #[must_use]
    pub fn hub(&self) -> Option<Hub> {
        self.cell.hub()
    }

    /// Calls another child and waits for the reply. The thread's place in the pool is free meanwhile (R18).
    ///
    /// # Errors
    /// As of [`Hub::call`]; `would_deadlock` when the child called waits for this one (R7).
    pub fn call(&self, child: &str, message: Payload, timeout: Duration) -> Result<Payload, Error> {
        let command = self.message(child, message, Recipient::Active, timeout)?;
        self.cell.requests().call(command).wait()
    }

    /// Sends a message to a child; the answer says that it is on its way.
    ///
    /// # Errors
    /// `invalid_argument` for a bad id; the rest by the answer, as of [`Hub::send`].
    pub fn send(&self, child: &str, message: Payload, recipient: Recipient) -> Result<Pending<()>, Error> {
        let timeout = Duration::from_secs(5);
        let command = self.message(child, message, recipient, timeout)?;
        Ok(self.cell.requests().send(command))
    }

    /// Whether both are contexts of one instance.
    #[must_use]
    pub fn is_same_instance(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.cell, &other.cell)
    }

    fn body(&self) -> Option<CallNumber> {
        match self.chain {
            Chain::Body(run) => Some(run),
            Chain::Callback | Chain::Handling(_) => None,
        }
    }

    /// The command that sends a message from this child, for [`Hub::request`]: it tells of the children that wait.
    ///
    /// # Errors
    /// `invalid_argument` for a bad id.
    pub fn message(
        &self,
        child: &str,
        message: Payload,
        recipient: Recipient,
        timeout: Duration,
    ) -> Result<MessageCommand, Error> {
        let own = self.child_id();
        let chain: Arc<[ChildId]> = match &self.chain {
            Chain::Body(_) => Arc::new([]),
            Chain::Callback => Arc::new([own.clone()]),
            Chain::Handling(before) => before.iter().chain([own]).cloned().collect(),
        };
        Ok(MessageCommand { child: ChildId::new(child)?, message, recipient, timeout, chain })
    }
}

/// The right to answer one call, on any thread. Dropped unused, it fails the call.
#[derive(Debug)]
pub struct Reply {
    queue: HostQueue,
    number: CallNumber,
    /// The instance whose start is answered: a failed one is forgotten.
    started: Option<(InstanceId, ChildId)>,
    is_open: bool,
}

impl Reply {
    pub(crate) fn new(queue: HostQueue, number: CallNumber, started: Option<(InstanceId, ChildId)>) -> Self {
        Self { queue, number, started, is_open: true }
    }

    /// Answers.
    pub fn answer(mut self, answer: HostAnswer) {
        self.complete(answer);
    }

    fn complete(&mut self, answer: HostAnswer) {
        self.is_open = false;
        if let (HostAnswer::Failed(_), Some((instance, child))) = (&answer, self.started.take()) {
            // A call nobody waits for, so its number counts for nothing.
            self.queue.push_call(HostCall {
                number: CallNumber(0),
                instance,
                child,
                deadline: crate::hub::now() + DISCARD_LIMIT,
                request: HostRequest::Discard,
            });
        }
        self.queue.complete(self.number, answer);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.is_open {
            self.complete(HostAnswer::Failed(HostFailure::new("the callback's answer was dropped")));
        }
    }
}
