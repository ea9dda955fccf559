//! What only the TCP transport has: authentication, strangers at the port, lanes, reconnects.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects; the rest fails it")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::wire::{self, GREETING_HEAD_BYTES, Greeting, MAGIC, VERSION};
use super::{Limits, TcpSetup, TcpTransport};
use crate::config::Security;
use crate::engine::Lane;
use crate::error::{Error, ErrorKind};
use crate::net::conformance::{Fixture, Node, PATIENCE, Tcp, down, eventually, hub, link, node, recorder, up};
use crate::net::{Transport, TransportEvent};

mod peer_by_hand;

fn start(
    listen: &str,
    advertise: Option<&str>,
    security: Security,
    change: impl FnOnce(&mut Limits),
) -> Result<Node, Error> {
    let (sink, events) = recorder();
    let mut limits = Limits::new(security.clone());
    change(&mut limits);
    let setup = TcpSetup {
        node: node("a", 1),
        listen: listen.to_owned(),
        advertise: advertise.map(str::to_owned),
        security,
        sink: sink.clone(),
    };
    let transport = Arc::new(TcpTransport::start_with(setup, limits)?);
    Ok(Node::new(sink, events, transport, Box::new(|_| {})))
}

fn dial_failure(of: &Node) -> Error {
    match of.next() {
        TransportEvent::DialFailed { error, .. } => error,
        other => panic!("{other:?}"),
    }
}

/// The next event that is not a failed dial: one may be under way when the node at the address changes.
fn of_links(at: &Node) -> TransportEvent {
    loop {
        let event = at.next();
        if !matches!(event, TransportEvent::DialFailed { .. }) {
            return event;
        }
    }
}

fn stranger(at: &Node) -> TcpStream {
    let stream = TcpStream::connect(at.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn stranger_from(source: &str, at: &Node) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&at.address().parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.into()
}

/// Reads until the other end closes.
fn read_to_end(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

#[test]
fn wrong_key_then_both_ends_say_authentication_failed() {
    let tcp = Tcp::new();
    let a = tcp.start_with_key("a", 1, None, "1");
    let b = tcp.start_with_key("b", 2, None, "2");
    a.transport.connect(&b.address());
    let error = dial_failure(&a);
    assert_eq!(error.kind, ErrorKind::AuthenticationFailed);
    assert!(error.message.contains(&b.address()), "{error}");
    eventually("the acceptor counts it", || b.transport.stats().authentication_failed == 1);
    assert_eq!(a.transport.stats().authentication_failed, 1);
    assert!(a.transport.links().is_empty() && b.transport.links().is_empty());
    assert!(b.told().is_empty());
}

#[test]
fn key_is_being_changed_then_old_and_new_nodes_link() {
    let tcp = Tcp::new();
    for (dialer, acceptor) in [("1", "12"), ("12", "1"), ("12", "21"), ("21", "12"), ("21", "2")] {
        let a = tcp.start_with_key("a", 1, None, dialer);
        let b = tcp.start_with_key("b", 2, None, acceptor);
        link(&a, &b);
    }
}

#[test]
fn key_meets_plaintext_then_authentication_failed() {
    let tcp = Tcp::new();
    let a = start("127.0.0.1:0", None, Security::InsecurePlaintext, |_| {}).unwrap();
    let b = tcp.start("b", 2, None);
    a.transport.connect(&b.address());
    assert_eq!(dial_failure(&a).kind, ErrorKind::AuthenticationFailed);
    b.transport.connect(&a.address());
    assert_eq!(dial_failure(&b).kind, ErrorKind::AuthenticationFailed);
}

#[test]
fn address_off_this_machine_without_tls_is_refused_at_the_start() {
    let tcp = Tcp::new();
    for (listen, advertise) in [("0.0.0.0:0", None), ("[::]:0", None), ("127.0.0.1:0", Some("10.0.0.7:7400"))] {
        let Err(error) = start(listen, advertise, tcp.security("1"), |_| {}) else {
            panic!("{listen} is to be refused");
        };
        assert_eq!(error.kind, ErrorKind::InvalidConfig);
        assert!(error.message.contains("TLS, which is not there yet"), "{error}");
        assert!(error.message.contains("insecure_plaintext"), "{error}");
    }
}

#[test]
fn insecure_plaintext_may_listen_anywhere_when_it_says_where_it_is() {
    let security = || Security::InsecurePlaintext;
    let Err(error) = start("0.0.0.0:0", None, security(), |_| {}) else {
        panic!("nobody can dial 0.0.0.0");
    };
    assert!(error.message.contains("node.advertise"), "{error}");
    let a = start("0.0.0.0:0", Some("elsewhere:7400"), security(), |_| {}).unwrap();
    assert_eq!(a.address(), "elsewhere:7400");
}

#[test]
fn dialing_another_machine_with_a_key_fails_with_the_reason() {
    let a = Tcp::new().start("a", 1, None);
    a.transport.connect("192.0.2.1:7400");
    let error = dial_failure(&a);
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
    assert!(error.message.contains("TLS"), "{error}");
}

#[test]
fn listen_address_in_use_is_refused_at_the_start() {
    let tcp = Tcp::new();
    let a = tcp.start("a", 1, None);
    let Err(error) = start(&a.address(), None, tcp.security("1"), |_| {}) else {
        panic!("the port is taken");
    };
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
    assert!(error.message.contains(&a.address()), "{error}");
}

#[test]
fn garbage_and_other_programs_at_the_port_are_closed_and_counted_and_nothing_else_changes() {
    let tcp = Tcp::new();
    let (a, b) = (tcp.start("a", 1, None), tcp.start("b", 2, None));
    link(&a, &b);
    let mut long = MAGIC.to_vec();
    long.extend([0, 1, 0, 1, 0xff, 0xff]);
    long.extend([0; 100]);
    let mut short_body = MAGIC.to_vec();
    short_body.extend([0, 1, 0, 1, 0, 3, 0, 1, 9]);
    let programs: [&[u8]; 4] = [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", &[0xff; 4096], &long, &short_body];
    for (index, bytes) in programs.iter().enumerate() {
        let mut stream = stranger(&a);
        stream.write_all(bytes).unwrap();
        assert!(read_to_end(stream).is_empty(), "a stranger is told nothing");
        eventually("it is counted", || a.transport.stats().malformed == index as u64 + 1);
    }
    b.send(&a.node(), Lane::Ctl, "still there");
    assert_eq!(a.next_frame().2, "still there");
    assert!(a.told().is_empty() && b.told().is_empty());
}

#[test]
fn dialing_another_program_fails() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let a = Tcp::new().start("a", 1, None);
    a.transport.connect(&address);
    let error = dial_failure(&a);
    assert_eq!(error.kind, ErrorKind::Unreachable);
    server.join().unwrap();
}

#[test]
fn unknown_version_then_the_dialer_learns_what_is_spoken() {
    let a = Tcp::new().start("a", 1, None);
    let mut stream = stranger(&a);
    let mut greeting = MAGIC.to_vec();
    greeting.extend([0, 7, 0, 9, 0, 0]);
    stream.write_all(&greeting).unwrap();
    let answer = read_to_end(stream);
    let head = answer.first_chunk::<GREETING_HEAD_BYTES>().unwrap();
    assert_eq!(wire::GreetingHead::decode(head).unwrap().highest_version, VERSION);
}

#[test]
fn silent_stranger_is_closed_when_its_time_is_over() {
    let tcp = Tcp::new();
    let a = start("127.0.0.1:0", None, tcp.security("1"), |limits| {
        limits.handshake_timeout = Duration::from_millis(50);
    })
    .unwrap();
    assert!(read_to_end(stranger(&a)).is_empty());
    eventually("it is counted", || a.transport.stats().handshake_timeouts == 1);
    assert_eq!(a.transport.stats().half_open, 0);
}

#[test]
fn too_many_silent_strangers_then_further_ones_are_closed_at_once() {
    let a = Tcp::new().start("a", 1, None);
    let silent: Vec<TcpStream> = (0..64).map(|_| stranger(&a)).collect();
    eventually("all are half open", || a.transport.stats().half_open == 64);
    assert!(read_to_end(stranger(&a)).is_empty());
    eventually("it is counted", || a.transport.stats().half_open_refused == 1);
    drop(silent);
    eventually("none is half open", || a.transport.stats().half_open == 0);
}

#[test]
fn silent_strangers_of_one_address_are_too_many_then_those_of_another_are_still_heard() {
    let tcp = Tcp::new();
    let a = start("127.0.0.1:0", None, tcp.security("1"), |limits| limits.half_open.per_loopback_source = 8).unwrap();
    let _silent: Vec<TcpStream> = (0..8).map(|_| stranger(&a)).collect();
    eventually("all are half open", || a.transport.stats().half_open == 8);
    assert!(read_to_end(stranger(&a)).is_empty());
    eventually("it is counted", || a.transport.stats().half_open_refused == 1);
    let _other = stranger_from("127.0.0.2", &a);
    eventually("it is half open too", || a.transport.stats().half_open == 9);
    assert_eq!(a.transport.stats().half_open_refused, 1);
}

#[test]
fn stranger_that_knows_the_protocol_but_not_the_key_changes_nothing() {
    let a = Tcp::new().start("a", 1, None);
    let mut stream = stranger(&a);
    let greeting = Greeting {
        lane: Lane::Ctl,
        has_key: true,
        nonce: [7; wire::NONCE_BYTES],
        node: node("b", 2),
        address: "127.0.0.1:1".to_owned(),
    };
    stream.write_all(&greeting.encode()).unwrap();
    let body = [9; wire::PROOF_BYTES + wire::OFFER_BYTES];
    stream.write_all(&wire::encode_message(wire::MESSAGE_PROOF, &body)).unwrap();
    // A goodbye that must not be looked at.
    stream.write_all(&[0, 0, 0, 1, 4]).unwrap();
    read_to_end(stream);
    eventually("it is counted", || a.transport.stats().authentication_failed == 1);
    assert!(a.transport.links().is_empty() && a.told().is_empty());
}

#[test]
fn proven_peer_that_breaks_the_protocol_is_cut_and_nobody_else() {
    let tcp = Tcp::new();
    let (a, c) = (tcp.start("a", 1, None), tcp.start("c", 3, None));
    link(&a, &c);
    let breaches: [&[u8]; 6] = [
        &[0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0, 0],
        &[0, 0, 0, 1, 99],
        &[0, 0, 0, 2, 4, 0],
        // Acknowledges a frame that was never sent.
        &[0, 0, 0, 9, 3, 0, 0, 0, 0, 0, 0, 0, 5],
        // A data frame without a hub.
        &[0, 0, 0, 18, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    for (index, bytes) in breaches.iter().enumerate() {
        let name = format!("b{index}");
        let mut peer = peer_by_hand::dial(&a, &name, [b'1'; 64]);
        assert!(matches!(a.next(), TransportEvent::LinkUp(contact) if contact.node.name.as_str() == name));
        peer.write_all(bytes).unwrap();
        read_to_end(peer);
        eventually("it is counted", || a.transport.stats().malformed == index as u64 + 1);
        assert_eq!(a.next(), down(&node(&name, 9), true));
    }
    a.send(&c.node(), Lane::Ctl, "x");
    assert_eq!(c.next_frame().2, "x");
    assert!(c.told().is_empty());
}

#[test]
fn bulk_lane_is_stuck_then_the_control_lane_goes_on() {
    let tcp = Tcp::new();
    let (a, b) = (tcp.start("a", 1, None), tcp.start("b", 2, None));
    link(&a, &b);
    b.sink.block(Some(Lane::Bulk));
    for _ in 0..32 {
        a.send(&b.node(), Lane::Bulk, vec![7; 256 << 10]);
    }
    for number in 0..100u8 {
        a.send(&b.node(), Lane::Ctl, vec![number]);
        b.send(&a.node(), Lane::Ctl, vec![number]);
        assert_eq!(b.next_frame().2.as_ref(), [number]);
        assert_eq!(a.next_frame().2.as_ref(), [number]);
    }
    b.sink.block(None);
    for _ in 0..32 {
        assert_eq!(b.next_frame().2.len(), 256 << 10);
    }
    eventually("everything is acknowledged", || a.transport.stats().queued_bytes == 0);
}

#[test]
fn next_incarnation_listens_before_the_reconnect_then_the_old_one_is_refused_and_the_new_one_up() {
    let tcp = Tcp::new();
    let a = tcp.start("a", 1, None);
    let mut b = tcp.start("b", 2, None);
    link(&a, &b);
    let address = b.address();
    for incarnation in 3..10 {
        let old = b.node();
        // The port is free when the dropped one's thread has closed it; `a` may dial before or after the next
        // one listens.
        drop(b);
        b = loop {
            match tcp.try_start("b", incarnation, Some(&address), "1") {
                Ok(started) => break started,
                Err(error) => assert!(error.message.contains("in use"), "{error}"),
            }
        };
        assert_eq!(of_links(&a), down(&old, true));
        a.transport.connect(&address);
        assert_eq!(of_links(&a), up(&b));
        assert_eq!(b.next(), up(&a));
        a.send(&b.node(), Lane::Ctl, "x");
        assert_eq!(b.next_frame().2, "x");
    }
}

#[test]
fn dropped_without_close_then_its_threads_end() {
    let tcp = Tcp::new();
    let (sink, _events) = recorder();
    let transport = TcpTransport::start(TcpSetup {
        node: node("a", 1),
        listen: "127.0.0.1:0".to_owned(),
        advertise: None,
        security: tcp.security("1"),
        sink,
    })
    .unwrap();
    let shared = transport.shared.clone();
    assert_eq!(shared.stats().threads, 2);
    drop(transport);
    eventually("the threads end", || shared.stats().threads == 0);
}

#[test]
fn peer_does_not_answer_then_close_ends_in_time() {
    let tcp = Tcp::new();
    let a = tcp.start("a", 1, None);
    let _peer = peer_by_hand::dial(&a, "b", [b'1'; 64]);
    assert!(matches!(a.next(), TransportEvent::LinkUp(_)));
    a.send(&node("b", 9), Lane::Bulk, "nobody takes it");
    let (done, is_done) = crossbeam_channel::bounded(1);
    let transport = a.transport.clone();
    std::thread::spawn(move || {
        transport.close(Duration::from_millis(50));
        done.send(()).unwrap();
    });
    is_done.recv_timeout(PATIENCE).unwrap();
    assert_eq!(a.transport.stats().threads, 0);
    assert!(a.transport.send(&node("b", 9), Lane::Ctl, &hub("orders"), "x".into()).is_err());
}

#[test]
fn sink_closes_the_transport_from_an_event_then_nothing_hangs() {
    struct Closer(parking_lot::Mutex<Option<Arc<TcpTransport>>>, crossbeam_channel::Sender<()>);
    impl crate::net::TransportSink for Closer {
        fn event(&self, _event: TransportEvent) {
            if let Some(transport) = self.0.lock().take() {
                transport.close(Duration::from_millis(100));
                self.1.send(()).unwrap();
            }
        }
    }
    let tcp = Tcp::new();
    let (done, is_done) = crossbeam_channel::bounded(1);
    let sink = Arc::new(Closer(parking_lot::Mutex::new(None), done));
    let transport = Arc::new(
        TcpTransport::start(TcpSetup {
            node: node("b", 2),
            listen: "127.0.0.1:0".to_owned(),
            advertise: None,
            security: tcp.security("1"),
            sink: sink.clone(),
        })
        .unwrap(),
    );
    let address = transport.address().to_owned();
    let shared = transport.shared.clone();
    *sink.0.lock() = Some(transport);
    let a = tcp.start("a", 1, None);
    a.transport.connect(&address);
    is_done.recv_timeout(PATIENCE).unwrap();
    eventually("the threads end", || shared.stats().threads == 0);
}

#[test]
fn connections_broken_then_the_session_goes_on_and_nobody_is_told() {
    let tcp = Tcp::new();
    let (a, b) = (tcp.start("a", 1, None), tcp.start("b", 2, None));
    link(&a, &b);
    for round in 1..=10u8 {
        (a.break_connections)(&b.node());
        eventually("both ends go on with the session", || {
            let resumed = |at: &Node| at.transport.stats().sessions_resumed >= u64::from(round);
            resumed(&a) && resumed(&b)
        });
        a.send(&b.node(), Lane::Ctl, vec![round]);
        b.send(&a.node(), Lane::Ctl, vec![round]);
        assert_eq!(b.next_frame().2.as_ref(), [round]);
        assert_eq!(a.next_frame().2.as_ref(), [round]);
    }
    assert_eq!(a.transport.stats().sessions_reset, 0);
    assert!(a.told().is_empty() && b.told().is_empty());
}

#[test]
fn connection_breaks_before_the_goodbye_then_the_other_end_is_told_of_the_end_or_of_a_reset() {
    let tcp = Tcp::new();
    let (a, b) = (tcp.start("a", 1, None), tcp.start("b", 2, None));
    link(&a, &b);
    (a.break_connections)(&b.node());
    a.transport.disconnect(&b.node());
    assert_eq!(a.next(), down(&b.node(), false));
    let told = b.next();
    if told == down(&a.node(), false) {
        // `a` had dialed again before it heard of the disconnect, so its goodbye passed.
        link(&b, &a);
    } else {
        assert_eq!(told, TransportEvent::SessionReset { node: a.node() });
        assert_eq!(a.next(), up(&b));
    }
    a.send(&b.node(), Lane::Ctl, "x");
    assert_eq!(b.next_frame().2, "x");
}
