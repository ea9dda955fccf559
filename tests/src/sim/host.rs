//! The host of one hub: counting children, whose code is slow, fails and crashes by plan.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use process_hub::host::call::{HostAnswer, HostCall, HostFailure, HostRequest, KindInfo};
use process_hub::ids::{CallNumber, InstanceId, KindName};
use process_hub::payload::Payload;

/// The kinds of the simulated host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Holds a state.
    Counter,
    /// Holds a state and has a body.
    Worker,
    /// Holds nothing that can be handed over.
    Plain,
    /// Like `Counter`, but only some nodes can run it.
    Rare,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Counter, Self::Worker, Self::Plain, Self::Rare];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Worker => "worker",
            Self::Plain => "plain",
            Self::Rare => "rare",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) const fn has_state(self) -> bool {
        !matches!(self, Self::Plain)
    }

    #[allow(clippy::unwrap_used, reason = "the text is ours and short")]
    pub(crate) fn info(self) -> KindInfo {
        KindInfo {
            name: KindName::new(self.name()).unwrap(),
            has_state: self.has_state(),
            has_run: matches!(self, Self::Worker),
        }
    }
}

/// The number of one message, unique in the run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct OpId(pub(crate) u32);

/// What a counting child holds: the messages it handled. Its version is their count.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct State {
    /// Sorted, without repetition.
    pub(crate) ops: Vec<OpId>,
    pad_bytes: usize,
}

impl State {
    /// Notes a message; false when it is there already.
    pub(crate) fn add(&mut self, op: OpId) -> bool {
        match self.ops.binary_search(&op) {
            Ok(_) => false,
            Err(at) => {
                self.ops.insert(at, op);
                true
            }
        }
    }

    /// Takes over what another instance handled.
    pub(crate) fn merge(&mut self, other: &Self) {
        for op in &other.ops {
            self.add(*op);
        }
    }

    fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(8 + self.ops.len() * 4 + self.pad_bytes);
        bytes.put_u32(u32::try_from(self.pad_bytes).unwrap_or(u32::MAX));
        bytes.put_u32(u32::try_from(self.ops.len()).unwrap_or(u32::MAX));
        for op in &self.ops {
            bytes.put_u32(op.0);
        }
        bytes.put_bytes(0, self.pad_bytes);
        bytes.freeze()
    }

    /// Reads what [`Self::encode`] wrote; `None` when bytes are missing or too many.
    #[must_use]
    pub(crate) fn decode(payload: &Payload) -> Option<Self> {
        let mut bytes = payload.data.clone();
        if bytes.len() < 8 {
            return None;
        }
        let pad_bytes = bytes.get_u32() as usize;
        let count = bytes.get_u32() as usize;
        if bytes.len() != count * 4 + pad_bytes {
            return None;
        }
        let ops = (0..count).map(|_| OpId(bytes.get_u32())).collect();
        Some(Self { ops, pad_bytes })
    }
}

/// A message to a counting child.
pub(crate) fn encode_message(op: OpId) -> Payload {
    Payload::bytes(op.0.to_be_bytes().to_vec())
}

/// The message's number.
#[must_use]
pub(crate) fn decode_message(payload: &Payload) -> Option<OpId> {
    let bytes: [u8; 4] = payload.data.as_ref().try_into().ok()?;
    Some(OpId(u32::from_be_bytes(bytes)))
}

/// How the code of a child behaves in one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Behaviour {
    pub(crate) fails: bool,
}

struct Instance {
    kind: Kind,
    state: State,
    run: Option<CallNumber>,
}

/// One hub's host.
#[derive(Default)]
pub(crate) struct Host {
    instances: BTreeMap<InstanceId, Instance>,
}

/// What the host does about a call.
#[derive(Debug)]
pub(crate) enum Done {
    Answer(HostAnswer),
    /// A body runs; it ends on its own.
    Running,
}

fn failed(text: &str) -> Done {
    Done::Answer(HostAnswer::Failed(HostFailure::new(text)))
}

const fn done(payload: Option<Payload>) -> Done {
    Done::Answer(HostAnswer::Done(payload))
}

impl Host {
    /// Carries out one call.
    pub(crate) fn execute(&mut self, call: &HostCall, behaviour: Behaviour) -> Done {
        if let HostRequest::AlterSpec { spec, .. } = &call.request {
            return done(Some(Payload::from_value(&spec.to_json())));
        }
        if let HostRequest::Start(context) = &call.request {
            if behaviour.fails {
                return failed("start fails by plan");
            }
            let Some(kind) = Kind::from_name(context.spec.kind.as_str()) else {
                return failed("no such kind here");
            };
            let pad_bytes = pad_bytes(&context.spec.args);
            let instance = Instance { kind, state: State { ops: Vec::new(), pad_bytes }, run: None };
            self.instances.insert(call.instance, instance);
            return done(None);
        }
        if matches!(call.request, HostRequest::Stop(_) | HostRequest::Discard) {
            self.instances.remove(&call.instance);
            return done(None);
        }
        match self.instances.get_mut(&call.instance) {
            None => failed("the instance is forgotten"),
            Some(instance) => instance.execute(call, behaviour),
        }
    }

    /// Takes the body out of this instance, if it runs.
    pub(crate) fn take_run(&mut self, instance: InstanceId) -> Option<CallNumber> {
        self.instances.get_mut(&instance)?.run.take()
    }

    /// The body of this instance, if it runs.
    pub(crate) fn runs(&self, instance: InstanceId) -> Option<CallNumber> {
        self.instances.get(&instance)?.run
    }

    /// Whether the instance is known.
    pub(crate) fn has(&self, instance: InstanceId) -> bool {
        self.instances.contains_key(&instance)
    }
}

impl Instance {
    fn execute(&mut self, call: &HostCall, behaviour: Behaviour) -> Done {
        match &call.request {
            HostRequest::Run => {
                self.run = Some(call.number);
                Done::Running
            }
            HostRequest::SetRole(..) | HostRequest::CancelRun => done(None),
            _ if behaviour.fails => failed("fails by plan"),
            HostRequest::Handle { message, .. } => match decode_message(message) {
                None => failed("not a message of ours"),
                Some(op) => {
                    self.state.add(op);
                    done(Some(encode_message(op)))
                }
            },
            HostRequest::PrepareState => done(self.kind.has_state().then(|| Payload::bytes(self.state.encode()))),
            HostRequest::AlterState(payload) => self.take_state(payload, |own, other| *own = other),
            HostRequest::ResolveConflict(payload) => self.take_state(payload, |own, other| own.merge(&other)),
            HostRequest::RedundancySignal(_)
            | HostRequest::HandoverStart(_)
            | HostRequest::Start(_)
            | HostRequest::Stop(_)
            | HostRequest::Discard
            | HostRequest::AlterSpec { .. } => done(None),
        }
    }

    fn take_state(&mut self, payload: &Payload, how: impl FnOnce(&mut State, State)) -> Done {
        let Some(state) = State::decode(payload) else {
            return failed("not a state of ours");
        };
        how(&mut self.state, state);
        done(None)
    }
}

/// The size of the padding, from a child's arguments.
fn pad_bytes(args: &Payload) -> usize {
    serde_json::from_slice::<serde_json::Value>(&args.data)
        .ok()
        .and_then(|value| value.get("pad_bytes")?.as_u64())
        .and_then(|bytes| usize::try_from(bytes).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_encoded_then_it_reads_back() {
        let state = State { ops: vec![OpId(1), OpId(9)], pad_bytes: 5 };
        let payload = Payload::bytes(state.encode());
        assert_eq!(State::decode(&payload), Some(state));
        let cut = Payload::bytes(payload.data.slice(0..10));
        assert_eq!(State::decode(&cut), None);
    }
}
