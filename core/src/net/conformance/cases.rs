use super::*;

pub(super) fn connect_then_both_ends_are_linked_once(fixture: &impl Fixture) {
    let (a, b) = (fixture.start("a", 1, None), fixture.start("b", 2, None));
    link(&a, &b);
    a.transport.connect(&b.address());
    b.transport.connect(&a.address());
    a.send(&b.node(), Lane::Ctl, "x");
    b.send(&a.node(), Lane::Ctl, "y");
    assert_eq!(b.next_frame(), (Lane::Ctl, hub("orders"), "x".into()));
    assert_eq!(a.next_frame(), (Lane::Ctl, hub("orders"), "y".into()));
    assert_eq!(a.transport.links().len(), 1);
    assert_eq!(a.transport.links()[0].node, b.node());
    assert_eq!(a.transport.stats().links, 1);
    assert!(a.told().is_empty() && b.told().is_empty());
}

pub(super) fn connect_where_nothing_listens_then_the_dial_fails(fixture: &impl Fixture) {
    let a = fixture.start("a", 1, None);
    let gone = fixture.start("b", 2, None);
    let wanted = gone.address();
    gone.transport.close(PATIENCE);
    a.transport.connect(&wanted);
    match a.next() {
        TransportEvent::DialFailed { address, error } => {
            assert_eq!(address, wanted);
            assert_eq!(error.kind, ErrorKind::Unreachable);
            assert!(error.message.contains(&wanted), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

pub(super) fn connect_to_oneself_then_nothing_happens(fixture: &impl Fixture) {
    let (a, b) = (fixture.start("a", 1, None), fixture.start("b", 2, None));
    a.transport.connect(&a.address());
    link(&a, &b);
    assert!(a.told().is_empty());
}

pub(super) fn frames_of_several_hubs_arrive_in_order_on_each_lane(fixture: &impl Fixture) {
    let (a, b) = (fixture.start("a", 1, None), fixture.start("b", 2, None));
    link(&a, &b);
    let hubs = [hub("orders"), hub("carts"), hub("é")];
    for number in 0u64..3000 {
        let lane = if number % 2 == 0 { Lane::Ctl } else { Lane::Bulk };
        let channel = &hubs[usize::try_from(number % 3).unwrap()];
        let bytes = Bytes::copy_from_slice(&number.to_be_bytes());
        a.transport.send(&b.node(), lane, channel, bytes).unwrap();
    }
    let mut expected = [0u64, 1];
    for _ in 0..3000 {
        let (lane, channel, bytes) = b.next_frame();
        let number = u64::from_be_bytes(bytes.as_ref().try_into().unwrap());
        let place = usize::from(lane == Lane::Bulk);
        assert_eq!(number, expected[place]);
        assert_eq!(channel, hubs[usize::try_from(number % 3).unwrap()]);
        expected[place] += 2;
    }
}

pub(super) fn largest_frames_pass_and_larger_ones_are_refused(fixture: &impl Fixture) {
    let (a, b) = (fixture.start("a", 1, None), fixture.start("b", 2, None));
    link(&a, &b);
    for (lane, limit_bytes) in
        [(Lane::Ctl, crate::wire::MAX_CTL_FRAME_BYTES), (Lane::Bulk, crate::wire::MAX_BULK_FRAME_BYTES)]
    {
        let largest: Bytes = (0..limit_bytes).map(|index| index as u8).collect();
        for _ in 0..20 {
            a.send(&b.node(), lane, largest.clone());
        }
        a.send(&b.node(), lane, Bytes::new());
        for _ in 0..20 {
            assert!(b.next_frame() == (lane, hub("orders"), largest.clone()));
        }
        assert_eq!(b.next_frame().2, Bytes::new());
        let refused = a.transport.send(&b.node(), lane, &hub("orders"), vec![0; limit_bytes + 1].into());
        assert_eq!(refused, Err(SendError::TooLarge { limit_bytes, actual_bytes: limit_bytes + 1 }));
    }
}

pub(super) fn membership_frames_arrive_beside_the_others(fixture: &impl Fixture) {
    let (a, b) = (fixture.start("a", 1, None), fixture.start("b", 2, None));
    link(&a, &b);
    for _ in 0..3 {
        let sent = a.transport.send(&b.node(), Lane::Bulk, &Channel::Swim, "probe".into());
        assert_eq!(sent, Ok(()));
        assert_eq!(b.next_frame(), (Lane::Ctl, Channel::Swim, "probe".into()));
        a.send(&b.node(), Lane::Ctl, "x");
        assert_eq!(b.next_frame().2, "x");
    }
}

pub(super) fn connections_broken_again_and_again_then_each_frame_comes_once_and_in_order(fixture: &impl Fixture) {
    let (a, b) = (fixture.start("a", 1, None), fixture.start("b", 2, None));
    link(&a, &b);
    let check = |at: &Node, from: &NodeRef, rounds: u64| {
        let mut expected = [0u64, 0];
        for _ in 0..rounds * 2 {
            match at.next() {
                TransportEvent::Frame { from: sender, lane, bytes, .. } => {
                    assert_eq!(&sender, from);
                    let place = usize::from(lane == Lane::Bulk);
                    let number = u64::from_be_bytes(bytes[..8].try_into().unwrap());
                    assert_eq!(number, expected[place]);
                    expected[place] += 1;
                }
                other => panic!("the session is to go on silently: {other:?}"),
            }
        }
    };
    let rounds = 4000u64;
    std::thread::scope(|scope| {
        let receivers = [scope.spawn(|| check(&b, &a.node(), rounds)), scope.spawn(|| check(&a, &b.node(), rounds))];
        for number in 0..rounds {
            for (from, to) in [(&a, &b), (&b, &a)] {
                let mut bytes = number.to_be_bytes().to_vec();
                from.send(&to.node(), Lane::Ctl, bytes.clone());
                bytes.resize(2000, 0);
                from.send(&to.node(), Lane::Bulk, bytes);
            }
            match number % 400 {
                100 => (a.break_connections)(&b.node()),
                200 => (b.break_connections)(&a.node()),
                300 => {
                    (a.break_connections)(&b.node());
                    (b.break_connections)(&a.node());
                }
                _ => {}
            }
        }
        for receiver in receivers {
            receiver.join().unwrap();
        }
    });
    eventually("everything is acknowledged", || {
        a.transport.stats().queued_bytes + b.transport.stats().queued_bytes == 0
    });
    assert!(a.told().is_empty() && b.told().is_empty());
}

pub(super) fn queue_full_then_the_session_is_reset_at_both_ends(fixture: &impl Fixture) {
    let (a, b) = (fixture.start("a", 1, None), fixture.start("b", 2, None));
    let c = fixture.start("c", 3, None);
    link(&a, &b);
    link(&a, &c);
    b.sink.block(Some(Lane::Ctl));
    let refused = loop {
        let bytes = vec![0; 60_000].into();
        if let Err(refused) = a.transport.send(&b.node(), Lane::Ctl, &hub("orders"), bytes) {
            break refused;
        }
    };
    assert!(matches!(refused, SendError::Overflow { .. }), "{refused}");
    assert_eq!(a.next(), TransportEvent::SessionReset { node: b.node() });
    a.send(&c.node(), Lane::Ctl, "nobody else waits");
    assert_eq!(c.next_frame().2, "nobody else waits");
    b.sink.block(None);
    assert_eq!(b.next_of_links(), TransportEvent::SessionReset { node: a.node() });
    // Until the manager has heard of it, the queue stays full.
    eventually("the new session takes frames", || {
        let sent = a.transport.send(&b.node(), Lane::Ctl, &hub("orders"), "again".into());
        sent.is_ok()
    });
    assert_eq!(b.next_frame().2, "again");
    b.send(&a.node(), Lane::Ctl, "back");
    assert_eq!(a.next_frame().2, "back");
}

pub(super) fn both_dial_at_once_then_there_is_one_link(fixture: &impl Fixture) {
    for round in 1..=20 {
        let a = fixture.start("a", 2 * round, None);
        let b = fixture.start("b", 2 * round + 1, None);
        let (to_a, to_b) = (a.address(), b.address());
        std::thread::scope(|scope| {
            scope.spawn(|| a.transport.connect(&to_b));
            scope.spawn(|| b.transport.connect(&to_a));
        });
        for (from, to) in [(&a, &b), (&b, &a)] {
            assert_eq!(from.next(), up(to));
        }
        for number in 0..50u8 {
            a.send(&b.node(), Lane::Ctl, vec![number]);
            b.send(&a.node(), Lane::Ctl, vec![number]);
        }
        for at in [&a, &b] {
            for number in 0..50u8 {
                assert_eq!(at.next_frame().2.as_ref(), [number]);
            }
            assert_eq!(at.transport.links().len(), 1);
            assert_eq!(at.transport.stats().sessions_reset, 0);
        }
    }
}

pub(super) fn killed_node_is_refused_and_its_next_incarnation_is_another_link(fixture: &impl Fixture) {
    let (a, b) = (fixture.start("a", 1, None), fixture.start("b", 2, None));
    link(&a, &b);
    let (old, address) = (b.node(), b.address());
    drop(b);
    assert_eq!(a.next(), down(&old, true));
    assert!(a.transport.links().is_empty());
    let b = fixture.start("b", 3, Some(&address));
    link(&a, &b);
    assert_eq!(a.transport.send(&old, Lane::Ctl, &hub("orders"), "x".into()), Err(SendError::NotLinked));
    a.send(&b.node(), Lane::Ctl, "x");
    assert_eq!(b.next_frame().2, "x");
}

pub(super) fn close_delivers_what_was_queued_and_says_goodbye(fixture: &impl Fixture) {
    let (a, b) = (fixture.start("a", 1, None), fixture.start("b", 2, None));
    link(&a, &b);
    for number in 0..200u8 {
        a.send(&b.node(), Lane::Bulk, vec![number; 50_000]);
        a.send(&b.node(), Lane::Ctl, vec![number; 500]);
    }
    let started = Instant::now();
    a.transport.close(PATIENCE);
    assert!(started.elapsed() < PATIENCE);
    for _ in 0..400 {
        b.next_frame();
    }
    assert_eq!(b.next(), down(&a.node(), false));
    assert!(b.transport.links().is_empty());
    assert_eq!(a.transport.stats().threads, 0);
    let told = a.told();
    assert!(told.is_empty(), "{told:?}");
    a.transport.close(PATIENCE);
}

pub(super) fn disconnect_ends_the_link_and_a_new_one_can_follow(fixture: &impl Fixture) {
    let (a, b) = (fixture.start("a", 1, None), fixture.start("b", 2, None));
    link(&a, &b);
    a.transport.disconnect(&b.node());
    assert_eq!(a.next(), down(&b.node(), false));
    assert_eq!(b.next(), down(&a.node(), false));
    link(&b, &a);
    a.send(&b.node(), Lane::Ctl, "x");
    assert_eq!(b.next_frame().2, "x");
}

pub(super) fn sending_without_a_link_or_after_close_is_refused(fixture: &impl Fixture) {
    let (a, b) = (fixture.start("a", 1, None), fixture.start("b", 2, None));
    let send = || a.transport.send(&b.node(), Lane::Ctl, &hub("orders"), "x".into());
    assert_eq!(send(), Err(SendError::NotLinked));
    a.transport.close(PATIENCE);
    assert_eq!(send(), Err(SendError::Closed));
}
