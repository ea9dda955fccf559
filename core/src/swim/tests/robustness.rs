//! Hostile bytes, exact deadlines, and sameness.

use std::cell::RefCell;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, proptest};

use super::harness::{Cluster, contact, ms};
use crate::config::Profile;
use crate::ids::Contact;
use crate::swim::identity::{Condition, Id, Record};
use crate::swim::wire::{Hello, MAX_MESSAGE_BYTES, Message};
use crate::swim::{Evidence, Swim, SwimEffect, SwimInput, SwimSetup};
use crate::time::Timestamp;

fn linked_pair() -> (Swim, Vec<Bytes>) {
    let cluster = {
        let mut cluster = Cluster::settled(3, 31);
        cluster.loss_permille = 300;
        cluster.run(ms(10_000));
        cluster
    };
    let packets = cluster.packets;
    let swim = cluster.nodes.into_iter().next().expect("node 0").swim;
    (swim, packets)
}

/// A node and one peer of it that sends anything.
struct Target {
    swim: Swim,
    now: Timestamp,
    peer: Contact,
}

impl Target {
    fn input(&mut self, input: SwimInput) {
        self.now += ms(1);
        self.swim.handle(self.now, input, &mut Vec::new());
        self.swim.handle(self.now, SwimInput::Tick, &mut Vec::new());
    }

    fn feed(&mut self, bytes: Vec<u8>) {
        let from = self.peer.node.clone();
        let bytes = Bytes::from(bytes);
        self.input(SwimInput::Packet { from, bytes });
    }

    /// The peer starts again, so that nothing it said before keeps it out.
    fn renew_peer(&mut self) {
        let node = self.peer.node.clone();
        let refused = true;
        self.input(SwimInput::LinkDown { node, refused });
        self.peer.node.incarnation.0 += 1;
        self.input(SwimInput::LinkUp(self.peer.clone()));
        self.feed(hello(&self.peer).to_vec());
        assert!(self.swim.is_linked(&self.peer.node));
    }
}

fn hello(contact: &Contact) -> Bytes {
    let hello = Hello {
        me: Record { id: Id::new(contact), refutation: 0, condition: Condition::Alive },
        is_established: false,
        has_heard_you: false,
    };
    Message::Hello(hello).encode().expect("small")
}

#[test]
fn arbitrary_and_damaged_packets_come_then_nothing_panics() {
    let (swim, packets) = linked_pair();
    let target =
        RefCell::new(Target { swim, now: Timestamp(60_000_000), peer: contact("node-1", 1001, "10.0.0.1:7000") });
    let config = ProptestConfig { failure_persistence: None, cases: 3000, ..ProptestConfig::default() };
    proptest!(config, |(
        noise in vec(any::<u8>(), 0..200),
        choice in any::<proptest::sample::Index>(),
        edits in vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<proptest::sample::Index>(),
    )| {
        let mut target = target.borrow_mut();
        target.renew_peer();
        target.feed(noise.clone());
        target.feed([&[1], noise.as_slice()].concat());
        let mut packet = choice.get(&packets).to_vec();
        for (at, value) in edits {
            let at = at.index(packet.len());
            packet[at] = value;
        }
        target.feed(packet.clone());
        packet.truncate(cut.index(packet.len() + 1));
        target.feed(packet);
    });
}

#[test]
fn packet_comes_from_a_node_without_a_link_then_it_is_counted_and_ignored() {
    let (mut swim, packets) = linked_pair();
    let mut effects = Vec::new();
    let stranger = contact("stranger", 1, "").node;
    let now = Timestamp(20_000_000);
    swim.handle(now, SwimInput::Tick, &mut effects);
    effects.clear();
    let before = swim.rejected_packets_count();
    for bytes in packets.iter().take(50).cloned() {
        let from = stranger.clone();
        swim.handle(now, SwimInput::Packet { from, bytes }, &mut effects);
    }
    assert_eq!(swim.rejected_packets_count(), before + 50);
    assert_eq!(effects, []);
}

#[test]
fn member_speaks_for_another_then_foca_never_hears_it() {
    let (mut swim, packets) = linked_pair();
    let me = contact("node-0", 1000, "").node;
    let now = Timestamp(20_000_000);
    let mut effects = Vec::new();
    swim.handle(now, SwimInput::Tick, &mut effects);
    let foreign: Vec<Bytes> = packets
        .into_iter()
        .filter(|bytes| match Message::decode(bytes) {
            Some(Message::Foca(data)) => crate::swim::wire::FocaPacket::decode(data)
                .is_some_and(|packet| packet.header.dst.node == me && packet.header.src.node.name.as_str() == "node-2"),
            _ => false,
        })
        .collect();
    assert!(!foreign.is_empty());
    let before = swim.rejected_packets_count();
    for bytes in &foreign {
        let from = contact("node-1", 1001, "").node;
        let bytes = bytes.clone();
        swim.handle(now, SwimInput::Packet { from, bytes }, &mut effects);
    }
    assert_eq!(swim.rejected_packets_count(), before + foreign.len() as u64);
}

#[test]
fn tick_comes_before_the_deadline_then_it_does_nothing() {
    let (mut swim, _) = linked_pair();
    let mut effects = Vec::new();
    let mut now = Timestamp(14_000_000);
    swim.handle(now, SwimInput::Tick, &mut effects);
    for _ in 0..500 {
        let deadline = swim.next_deadline();
        assert!(deadline > now, "what was due is done");
        effects.clear();
        now = Timestamp(deadline.0 - 1);
        swim.handle(now, SwimInput::Tick, &mut effects);
        assert_eq!(effects, []);
        assert_eq!(swim.next_deadline(), deadline);
        now = deadline;
        swim.handle(now, SwimInput::Tick, &mut effects);
    }
}

fn trace(seed: u64) -> Vec<String> {
    let mut cluster = Cluster::new(seed);
    cluster.trace = Some(Vec::new());
    cluster.loss_permille = 50;
    for index in 0..6 {
        cluster.start(&format!("node-{index}"), 1000);
        cluster.dial(index, 0);
    }
    cluster.run(ms(5000));
    cluster.crash_refused(1);
    cluster.crash_silent(2);
    cluster.run(ms(5000));
    let new = cluster.restart(1, 2000);
    cluster.dial(new, 3);
    cluster.run(ms(5000));
    cluster.trace.take().unwrap_or_default()
}

#[test]
fn same_seed_runs_twice_then_every_effect_is_the_same() {
    let first = trace(32);
    assert!(first.len() > 1000);
    assert_eq!(first, trace(32));
    assert_ne!(first, trace(33));
}

#[test]
fn member_that_left_is_gossiped_alive_then_it_stays_gone() {
    let mut cluster = Cluster::settled(3, 34);
    let left = cluster.nodes[2].contact.clone();
    cluster.input(2, SwimInput::Leave);
    cluster.run(ms(2000));
    cluster.log.clear();
    let records = vec![Record { id: Id { bump: 7, ..Id::new(&left) }, refutation: 9, condition: Condition::Alive }];
    let stale = Message::State { records, wants_reply: false };
    let from = cluster.nodes[1].contact.node.clone();
    let bytes = stale.encode().expect("small");
    cluster.input(0, SwimInput::Packet { from, bytes });
    cluster.run(ms(5000));
    assert_eq!(cluster.log, []);
}

#[test]
fn member_that_is_down_is_gossiped_alive_then_it_stays_down() {
    let mut cluster = Cluster::settled(3, 35);
    let dead = cluster.nodes[2].contact.clone();
    cluster.crash_refused(2);
    cluster.run(ms(2000));
    cluster.log.clear();
    for refutation in [0, 9] {
        let records = vec![Record { id: Id::new(&dead), refutation, condition: Condition::Alive }];
        let stale = Message::State { records, wants_reply: false };
        let from = cluster.nodes[1].contact.node.clone();
        let bytes = stale.encode().expect("small");
        cluster.input(0, SwimInput::Packet { from, bytes });
    }
    cluster.run(ms(5000));
    assert_eq!(cluster.log, []);
}

#[test]
fn thousands_of_dead_names_are_told_then_memory_and_packets_stay_bounded() {
    let mut cluster = Cluster::settled(3, 36);
    let from = cluster.nodes[1].contact.node.clone();
    for batch in 0..40_u64 {
        let records = (0..200_u64)
            .map(|index| Record {
                id: Id::new(&contact(&format!("pod-{batch}-{index}"), 1, "10.1.1.1:7000")),
                refutation: 0,
                condition: Condition::Down { evidence: Evidence::Suspected, age_secs: 60 },
            })
            .collect();
        let message = Message::State { records, wants_reply: true };
        let bytes = message.encode().expect("below the limit");
        let from = from.clone();
        cluster.input(0, SwimInput::Packet { from, bytes });
    }
    let swim = &cluster.nodes[0].swim;
    assert!(swim.departed.len() <= 1024);
    assert!(swim.foca.iter_membership_state().len() <= 1024 + 2);
    assert!(cluster.packets.iter().all(|bytes| bytes.len() <= MAX_MESSAGE_BYTES));
    cluster.run(ms(5000));
    cluster.assert_complete();
}

#[test]
fn day_passes_after_a_death_then_it_is_forgotten() {
    let setup = SwimSetup { contact: contact("a", 1, "10.0.0.1:1"), profile: Profile::wan(), seed: 1 };
    let mut swim = Swim::new(Timestamp(0), setup);
    let mut effects = Vec::new();
    let peer = contact("b", 1, "10.0.0.2:1");
    swim.handle(Timestamp(1), SwimInput::LinkUp(peer.clone()), &mut effects);
    let bytes = hello(&peer);
    let from = peer.node.clone();
    swim.handle(Timestamp(2), SwimInput::Packet { from, bytes }, &mut effects);
    let welcome = Message::Welcome { rank: 0, view_hash: 0 };
    let bytes = welcome.encode().expect("small");
    let from = peer.node.clone();
    swim.handle(Timestamp(2), SwimInput::Packet { from, bytes }, &mut effects);
    let node = peer.node.clone();
    let refused = true;
    swim.handle(Timestamp(3), SwimInput::LinkDown { node, refused }, &mut effects);
    assert!(effects.contains(&SwimEffect::Down(peer.node, Evidence::Refused)));
    assert_eq!(swim.departed.len(), 1);
    let day = Timestamp(24 * 60 * 60 * 1_000_000);
    while swim.next_deadline() < day {
        let at = swim.next_deadline();
        swim.handle(at, SwimInput::Tick, &mut effects);
        effects.clear();
    }
    assert_eq!(swim.departed.len(), 1, "still remembered");
    for _ in 0..3 {
        let at = swim.next_deadline();
        swim.handle(at, SwimInput::Tick, &mut effects);
    }
    assert_eq!(swim.departed.len(), 0);
    assert_eq!(swim.foca.iter_membership_state().len(), 0);
}

#[test]
fn later_incarnation_that_does_not_live_is_gossiped_then_the_living_member_keeps_its_name() {
    for condition in [Condition::Alive, Condition::Down { evidence: Evidence::Suspected, age_secs: 1 }] {
        let mut cluster = Cluster::settled(3, 37);
        let records =
            vec![Record { id: Id::new(&contact("node-1", 5000, "10.0.0.77:7000")), refutation: 0, condition }];
        let stale = Message::State { records, wants_reply: false };
        let from = cluster.nodes[2].contact.node.clone();
        let bytes = stale.encode().expect("small");
        cluster.input(0, SwimInput::Packet { from, bytes });
        cluster.run(ms(5000));
        assert_eq!(cluster.log, []);
        assert!(cluster.nodes[1].swim.foca.identity().rank > 5000);
    }
}

#[test]
fn name_of_a_member_that_left_is_heard_down_again_then_only_the_first_one_left() {
    let mut cluster = Cluster::settled(3, 38);
    cluster.input(2, SwimInput::Leave);
    cluster.run(ms(2000));
    let later = contact("node-2", 5000, "10.0.0.2:7000");
    let records = vec![Record {
        id: Id::new(&later),
        refutation: 0,
        condition: Condition::Down { evidence: Evidence::Suspected, age_secs: 1 },
    }];
    let message = Message::State { records, wants_reply: true };
    let from = cluster.nodes[1].contact.node.clone();
    let bytes = message.encode().expect("small");
    cluster.input(0, SwimInput::Packet { from, bytes });
    cluster.run(ms(5000));
    assert_eq!(cluster.nodes[1].swim.final_evidence(&later.node), None);
}
