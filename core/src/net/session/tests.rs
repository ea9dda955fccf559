use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Claim, Full, Half, Inbox, Meeting, Outbox, Violation};
use crate::net::Channel;

fn frame(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

fn push(outbox: &mut Outbox, number: u64) {
    outbox.push(Channel::Swim, frame(number)).unwrap();
}

fn written(outbox: &mut Outbox) -> Vec<u64> {
    std::iter::from_fn(|| outbox.next_to_write()).map(|frame| frame.seq).collect()
}

#[test]
fn full_outbox_refuses_and_keeps_what_it_has() {
    let mut outbox = Outbox::new(200, 1000);
    push(&mut outbox, 1);
    push(&mut outbox, 2);
    assert_eq!(outbox.push(Channel::Swim, frame(3)), Err(Full));
    assert_eq!(written(&mut outbox), [1, 2]);
    outbox.acknowledge(1).unwrap();
    push(&mut outbox, 3);
    assert_eq!(written(&mut outbox), [3]);
}

#[test]
fn window_used_up_then_acknowledgement_opens_it() {
    let mut outbox = Outbox::new(10_000, 150);
    for number in 1..=5 {
        push(&mut outbox, number);
    }
    assert_eq!(written(&mut outbox), [1, 2]);
    outbox.acknowledge(1).unwrap();
    assert_eq!(written(&mut outbox), [3]);
}

#[test]
fn frame_larger_than_the_window_still_goes_alone() {
    let mut outbox = Outbox::new(10_000, 10);
    push(&mut outbox, 1);
    push(&mut outbox, 2);
    assert_eq!(written(&mut outbox), [1]);
    outbox.acknowledge(1).unwrap();
    assert_eq!(written(&mut outbox), [2]);
}

#[test]
fn acknowledging_what_was_never_sent_is_a_violation() {
    let mut outbox = Outbox::new(10_000, 1000);
    push(&mut outbox, 1);
    assert_eq!(outbox.acknowledge(1), Err(Violation::AcknowledgedUnsent { acknowledged: 1, sent: 0 }));
}

#[test]
fn gap_is_a_violation_and_duplicate_is_not_new() {
    let mut inbox = Inbox::default();
    assert_eq!(inbox.accept(1), Ok(true));
    assert_eq!(inbox.accept(1), Ok(false));
    assert_eq!(inbox.accept(3), Err(Violation::Gap { expected: 2, actual: 3 }));
    assert_eq!(inbox.received(), 1);
}

#[test]
fn half_thrown_away_is_noticed_by_the_other_end() {
    let (mut a, mut b) = (Half::new(1), Half::new(2));
    assert_eq!(a.meet(b.claim()), Meeting::Match);
    a.bind(b.claim());
    assert_eq!(b.meet(a.claim()), Meeting::Match, "the answer was lost: b is still unbound");
    b.bind(a.claim());
    assert_eq!(a.meet(b.claim()), Meeting::Match);
    let fresh = Half::new(3);
    assert_eq!(b.meet(fresh.claim()), Meeting::ResetOurs);
    assert_eq!(fresh.meet(b.claim()), Meeting::ResetTheirs);
    assert_eq!(fresh.meet(Claim { half: 9, bound_to: 0 }), Meeting::Match);
}

/// One end of the modelled link.
struct End {
    outbox: Outbox,
    inbox: Inbox,
    half: Half,
    pushed: u64,
    delivered: Vec<u64>,
}

impl End {
    fn new(id: u64) -> Self {
        Self {
            outbox: Outbox::new(1 << 20, 300),
            inbox: Inbox::default(),
            half: Half::new(id),
            pushed: 0,
            delivered: Vec::new(),
        }
    }

    fn attach(&mut self, theirs: Claim, received: u64) {
        assert_eq!(self.half.meet(theirs), Meeting::Match);
        self.half.bind(theirs);
        self.outbox.resume(received).unwrap();
    }
}

/// A model of two ends and the wires of the present connection.
struct Model {
    ends: [End; 2],
    /// `wires[i]` carries (seq, number, acknowledged) from end `i`; `None` when that end has no connection.
    wires: [Option<VecDeque<(u64, u64, u64)>>; 2],
}

impl Model {
    fn new() -> Self {
        Self { ends: [End::new(1), End::new(2)], wires: [None, None] }
    }

    fn write(&mut self, from: usize) {
        let acknowledged = self.ends[from].inbox.received();
        if let Some(wire) = &mut self.wires[from] {
            match self.ends[from].outbox.next_to_write() {
                Some(frame) => {
                    let number = u64::from_be_bytes(frame.bytes.as_ref().try_into().unwrap());
                    wire.push_back((frame.seq, number, acknowledged));
                }
                None => wire.push_back((0, 0, acknowledged)),
            }
        }
    }

    fn read(&mut self, to: usize) {
        if self.wires[to].is_none() {
            return;
        }
        let Some((seq, number, acknowledged)) = self.wires[1 - to].as_mut().and_then(VecDeque::pop_front) else {
            return;
        };
        let end = &mut self.ends[to];
        end.outbox.acknowledge(acknowledged).unwrap();
        if seq != 0 && end.inbox.accept(seq).unwrap() {
            end.delivered.push(number);
        }
    }

    /// Connects; `heard` is false when the acceptor's answer is lost with the connection.
    fn connect(&mut self, dialer: usize, heard: bool) {
        self.wires = [None, None];
        let acceptor = 1 - dialer;
        let (claim, received) = (self.ends[dialer].half.claim(), self.ends[dialer].inbox.received());
        self.ends[acceptor].attach(claim, received);
        let (claim, received) = (self.ends[acceptor].half.claim(), self.ends[acceptor].inbox.received());
        if heard {
            self.ends[dialer].attach(claim, received);
            self.wires = [Some(VecDeque::new()), Some(VecDeque::new())];
        }
    }

    fn check(&self) {
        for to in 0..2 {
            let expected: Vec<u64> = (1..=self.ends[to].delivered.len() as u64).collect();
            assert_eq!(self.ends[to].delivered, expected);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    Write(usize),
    Read(usize),
    Cut,
    Connect(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2usize).prop_map(Step::Push),
        4 => (0..2usize).prop_map(Step::Write),
        4 => (0..2usize).prop_map(Step::Read),
        1 => Just(Step::Cut),
        2 => (0..2usize, any::<bool>()).prop_map(|(dialer, heard)| Step::Connect(dialer, heard)),
    ]
}

proptest! {
    #[test]
    fn connection_lost_at_any_point_then_every_frame_comes_once_and_in_order(
        steps in prop::collection::vec(step(), 0..400)
    ) {
        let mut model = Model::new();
        for step in steps {
            match step {
                Step::Push(end) => {
                    model.ends[end].pushed += 1;
                    let number = model.ends[end].pushed;
                    push(&mut model.ends[end].outbox, number);
                }
                Step::Write(end) => model.write(end),
                Step::Read(end) => model.read(end),
                Step::Cut => model.wires = [None, None],
                Step::Connect(dialer, heard) => model.connect(dialer, heard),
            }
            model.check();
        }
        model.connect(0, true);
        let most = model.ends.iter().map(|end| end.pushed).max().unwrap_or(0);
        for _ in 0..=(2 * most + 4) {
            for end in 0..2 {
                model.write(end);
            }
            for end in 0..2 {
                model.read(end);
            }
        }
        model.check();
        for end in 0..2 {
            prop_assert_eq!(model.ends[1 - end].delivered.len() as u64, model.ends[end].pushed);
        }
    }
}
