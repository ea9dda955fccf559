use crossbeam_channel::{Receiver, unbounded};

use super::*;
use crate::hub::inputs::{self, DriverInput, InputReceiver, MAX_WAITING_FRAME_BYTES};
use crate::ids::{Incarnation, NodeName};

fn router() -> (Router, Receiver<NodeInput>) {
    let (sender, inputs) = unbounded();
    (Router::new(sender), inputs)
}

fn contact(name: &str) -> Contact {
    Contact {
        node: NodeRef { name: NodeName::new(name).unwrap(), incarnation: Incarnation(1) },
        address: format!("{name}:1"),
    }
}

fn hub(id: &str) -> HubId {
    HubId::new(id).unwrap()
}

fn frame(hub_id: &str, bytes: &'static [u8]) -> TransportEvent {
    TransportEvent::Frame {
        from: contact("b").node,
        lane: crate::engine::Lane::Ctl,
        channel: Channel::Hub(hub(hub_id)),
        bytes: Bytes::from_static(bytes),
    }
}

fn told(receiver: &InputReceiver) -> Vec<String> {
    std::iter::from_fn(|| receiver.receiver.try_recv().ok())
        .map(|input| match input {
            DriverInput::Engine(Input::NodeUp(node)) => format!("up {}", node.name),
            DriverInput::Engine(Input::NodeDown(node, _)) => format!("down {}", node.name),
            DriverInput::Frame(from, bytes) => format!("{} bytes of {}", bytes.len(), from.name),
            DriverInput::Fail(error) => error.kind.to_string(),
            DriverInput::Engine(_) | DriverInput::Command(..) | DriverInput::Halt => "?".into(),
        })
        .collect()
}

#[test]
fn hub_is_added_late_then_it_hears_of_every_member_once() {
    let (router, _node) = router();
    router.up(contact("b"));
    router.up(contact("c"));
    router.down(&contact("c").node, Evidence::Left);
    let (sender, receiver) = inputs::channel();
    router.attach(&hub("orders"), sender).unwrap();
    router.up(contact("d"));
    router.down(&contact("b").node, Evidence::Refused);
    assert_eq!(told(&receiver), ["up b", "up d", "down b"]);
    assert_eq!(router.members(), [contact("d")]);
}

/// What a hub sent to a member without a link went nowhere; hearing of it again, it sends its status again.
#[test]
fn member_is_linked_after_it_was_up_then_hubs_hear_of_it_again() {
    let (router, _node) = router();
    let (sender, receiver) = inputs::channel();
    router.attach(&hub("orders"), sender).unwrap();
    router.linked(&contact("b").node);
    router.up(contact("b"));
    assert_eq!(told(&receiver), ["up b"]);
    router.linked(&contact("b").node);
    assert_eq!(told(&receiver), ["up b"]);
}

#[test]
fn frames_come_then_each_goes_to_its_hub_and_those_of_no_hub_are_counted() {
    let (router, _node) = router();
    let (sender, receiver) = inputs::channel();
    router.attach(&hub("orders"), sender).unwrap();
    router.event(frame("orders", b"abc"));
    router.event(frame("nobody", b"abc"));
    assert_eq!(told(&receiver), ["3 bytes of b"]);
    assert_eq!(router.frames_unrouted(), 1);
    router.detach(&hub("orders"));
    router.event(frame("orders", b"abc"));
    assert_eq!(router.frames_unrouted(), 2);
}

#[test]
fn r17_driver_does_not_take_frames_then_those_above_the_bound_are_dropped_and_counted() {
    static LARGE: [u8; 1 << 20] = [0; 1 << 20];
    let (router, _node) = router();
    let (sender, receiver) = inputs::channel();
    let waiting = sender.clone();
    router.attach(&hub("orders"), sender).unwrap();
    let fit = MAX_WAITING_FRAME_BYTES / (LARGE.len() + 64);
    for _ in 0..fit + 3 {
        router.event(frame("orders", &LARGE));
    }
    assert_eq!(receiver.receiver.len(), fit);
    assert_eq!(waiting.waiting().frames_dropped(), 3);
    let taken = receiver.receiver.recv().unwrap();
    receiver.taken(&taken);
    router.event(frame("orders", &LARGE));
    assert_eq!(waiting.waiting().frames_dropped(), 3);
}

#[test]
fn r13_name_is_taken_then_every_hub_is_fenced_and_no_other_may_start() {
    let (router, _node) = router();
    let (sender, receiver) = inputs::channel();
    router.attach(&hub("orders"), sender.clone()).unwrap();
    let taken = Error::new(ErrorKind::NodeNameTaken, "start", "taken");
    router.refuse(&taken);
    assert_eq!(told(&receiver), ["node_name_taken"]);
    assert_eq!(router.attach(&hub("other"), sender), Err(taken));
}

#[test]
fn packets_and_links_come_then_they_go_to_the_nodes_thread() {
    let (router, node) = router();
    router.event(TransportEvent::LinkUp(contact("b")));
    router.event(TransportEvent::Frame {
        from: contact("b").node,
        lane: crate::engine::Lane::Ctl,
        channel: Channel::Swim,
        bytes: Bytes::from_static(b"ping"),
    });
    assert!(matches!(node.try_recv(), Ok(NodeInput::LinkUp(_))));
    assert!(matches!(node.try_recv(), Ok(NodeInput::Packet(..))));
}
