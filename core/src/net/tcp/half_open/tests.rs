use super::*;

fn of(total: usize, per_source: usize) -> Arc<HalfOpen> {
    Arc::new(HalfOpen::new(HalfOpenLimits { total, per_source, per_loopback_source: total }))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn one_source_has_its_share_then_it_is_refused_and_others_are_not() {
    let half_open = of(10, 2);
    let first = half_open.admit(ip("192.0.2.1")).unwrap();
    let _second = half_open.admit(ip("192.0.2.1")).unwrap();
    assert_eq!(half_open.admit(ip("192.0.2.1")).unwrap_err(), TooMany::FromSource(2));
    let _other = half_open.admit(ip("192.0.2.2")).unwrap();
    assert_eq!(half_open.count(), 3);
    drop(first);
    let _again = half_open.admit(ip("192.0.2.1")).unwrap();
    assert_eq!(half_open.count(), 3);
}

#[test]
fn all_places_are_taken_then_a_new_source_is_refused() {
    let half_open = of(2, 2);
    let _places = [half_open.admit(ip("192.0.2.1")).unwrap(), half_open.admit(ip("192.0.2.2")).unwrap()];
    assert_eq!(half_open.admit(ip("192.0.2.3")).unwrap_err(), TooMany::InAll(2));
}

#[test]
fn addresses_of_one_ipv6_network_and_mapped_ipv4_ones_are_one_source() {
    for (one, same, another) in [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1"),
        ("192.0.2.1", "::ffff:192.0.2.1", "::ffff:192.0.2.2"),
    ] {
        let half_open = of(10, 1);
        let _place = half_open.admit(ip(one)).unwrap();
        assert_eq!(half_open.admit(ip(same)).unwrap_err(), TooMany::FromSource(1), "{same}");
        let _other = half_open.admit(ip(another)).unwrap();
    }
}

#[test]
fn nodes_of_this_machine_share_a_source_then_only_the_total_holds() {
    for loopback in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        let half_open = of(3, 1);
        let _places: Vec<Place> = (0..3).map(|_| half_open.admit(ip(loopback)).unwrap()).collect();
        assert_eq!(half_open.admit(ip(loopback)).unwrap_err(), TooMany::InAll(3));
    }
}

#[test]
fn places_are_given_back_then_no_source_is_remembered() {
    let half_open = of(10, 2);
    let places: Vec<Place> = (1..=9).map(|last| half_open.admit(ip(&format!("192.0.2.{last}"))).unwrap()).collect();
    drop(places);
    assert_eq!(half_open.count(), 0);
    assert!(half_open.counts.lock().is_empty());
}
