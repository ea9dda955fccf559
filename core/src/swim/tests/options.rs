//! The timers of a profile: changed, they change what is seen.

use std::time::Duration;

use super::harness::{Cluster, ms};
use crate::config::Profile;

fn lan(change: impl FnOnce(&mut Profile)) -> Profile {
    let mut profile = Profile::lan();
    change(&mut profile);
    profile
}

/// How long it takes until somebody is sure that a silent member is gone.
fn noticed_after(profile: Profile) -> Duration {
    let mut cluster = Cluster::settled_with(3, 7, profile);
    cluster.crash_silent(2);
    cluster.run_until(ms(60_000), |cluster| !cluster.downs().is_empty()).expect("it is noticed")
}

#[test]
fn suspicion_ms_then_a_suspect_has_so_long_to_refute() {
    let (short, long) =
        (noticed_after(lan(|it| it.suspicion = ms(700))), noticed_after(lan(|it| it.suspicion = ms(5000))));
    assert!(long >= short + ms(4000) && long <= short + ms(10_000), "{short:?}, {long:?}");
}

#[test]
fn verify_ms_then_the_last_check_waits_so_long() {
    let (short, long) = (noticed_after(lan(|it| it.verify = ms(100))), noticed_after(lan(|it| it.verify = ms(4100))));
    assert!(long >= short + ms(3900) && long <= short + ms(4500), "{short:?}, {long:?}");
}

/// When node 0 sent packets, and to whom, in 20 seconds of which it spends none with news.
fn packets(profile: Profile, prepare: impl FnOnce(&mut Cluster)) -> Vec<(u64, String)> {
    let mut cluster = Cluster::settled_with(3, 9, profile);
    prepare(&mut cluster);
    cluster.run(ms(5000));
    cluster.trace = Some(Vec::new());
    cluster.run(ms(20_000));
    let trace = cluster.trace.take().unwrap_or_default();
    let of_zero = trace.iter().filter_map(|line| {
        let mut words = line.split(' ');
        let (at, process) = (words.next()?.parse().ok()?, words.next()?);
        let to = line.split("Packet { to: ").nth(1)?.split(',').next()?;
        (process == "0").then(|| (at, to.to_owned()))
    });
    of_zero.collect()
}

#[test]
fn probe_period_ms_then_one_member_is_probed_in_each() {
    let often = packets(lan(|it| it.probe_period = ms(300)), |_| ()).len();
    let seldom = packets(lan(|it| it.probe_period = ms(1200)), |_| ()).len();
    assert!(often > 2 * seldom && seldom > 10, "{often}, {seldom}");
}

#[test]
fn probe_timeout_ms_then_others_are_asked_after_so_long() {
    for timeout in [60, 130, 250] {
        // The two hear nothing of each other but through the third.
        let sent = packets(lan(|it| it.probe_timeout = ms(timeout)), |cluster| cluster.block(0, 1));
        let asked_after = |wait: u64| {
            let is_relayed =
                |at: u64| sent.iter().any(|(later, to)| *later == at + wait * 1000 && to.contains("node-2"));
            sent.iter().filter(|(at, to)| to.contains("node-1") && is_relayed(*at)).count()
        };
        assert!(asked_after(timeout) > 5, "{timeout}: {sent:?}");
        for other in [60, 130, 250].into_iter().filter(|other| *other != timeout) {
            assert_eq!(asked_after(other), 0, "{other} with {timeout}");
        }
    }
}

#[test]
fn gossip_ms_then_so_often_news_are_sent_on() {
    let sent_after_a_death = |gossip: Duration| {
        let mut cluster = Cluster::settled_with(10, 5, lan(|it| it.gossip = gossip));
        cluster.run(ms(5000));
        cluster.crash_refused(9);
        cluster.trace = Some(Vec::new());
        cluster.run(ms(1000));
        cluster.trace.take().unwrap_or_default().iter().filter(|line| line.contains("Packet {")).count()
    };
    let (often, seldom) = (sent_after_a_death(ms(50)), sent_after_a_death(ms(3000)));
    assert!(often > seldom + 20, "{often} packets, {seldom} packets");
}
