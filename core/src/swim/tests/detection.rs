//! Joins, deaths, partitions and leaves.

use std::time::Duration;

use super::harness::{Cluster, ms};
use crate::config::Profile;
use crate::swim::{Evidence, SwimEffect, SwimInput};

#[test]
fn three_nodes_join_through_one_seed_then_all_know_all() {
    let mut cluster = Cluster::new(1);
    for index in 0..3 {
        cluster.start(&format!("node-{index}"), 1000 + index);
    }
    cluster.dial(1, 0);
    cluster.dial(2, 0);
    let took = cluster.run_until(ms(1000), Cluster::is_complete);
    assert!(took.is_some_and(|took| took < ms(200)), "{took:?}");
    cluster.run(ms(2000));
    assert_eq!(cluster.peers(0), [1, 2]);
    assert_eq!(cluster.peers(1), [0, 2], "the mesh is complete");
    let welcomes = cluster.count(|_, effect| *effect == SwimEffect::Welcome);
    assert_eq!(welcomes, 3);
    assert_eq!(cluster.downs(), []);
}

/// The other members hear of a newcomer with the next gossip, up to 100 ms later; it knows them at once.
#[test]
fn newcomer_with_the_largest_name_joins_then_it_is_linked_before_gossip_comes() {
    let mut cluster = Cluster::settled(2, 5);
    let newcomer = cluster.start("node-9", 1000);
    cluster.dial(newcomer, 0);
    let took = cluster.run_until(ms(1000), Cluster::is_complete);
    assert!(took.is_some_and(|took| took < ms(20)), "{took:?}");
}

#[test]
fn fifty_nodes_start_at_once_then_all_know_all() {
    let mut cluster = Cluster::new(2);
    for index in 0..50 {
        cluster.start(&format!("node-{index}"), 1000);
        if index > 0 {
            cluster.dial(index as usize, 0);
        }
    }
    let took = cluster.run_until(ms(5000), Cluster::is_complete);
    assert!(took.is_some_and(|took| took < ms(2000)), "{took:?}");
    assert_eq!(cluster.downs(), []);
}

#[test]
fn two_nodes_are_cut_and_heal_then_both_see_each_other_again() {
    let mut cluster = Cluster::settled(2, 3);
    cluster.cut(|process| process == 1);
    let split = cluster.run_until(ms(10_000), |cluster| cluster.downs().len() == 2);
    assert!(split.is_some(), "both notice");
    cluster.run(ms(20_000));
    cluster.heal();
    let healed = cluster.run_until(ms(10_000), Cluster::is_complete);
    assert!(healed.is_some_and(|took| took < ms(2000)), "{healed:?}");
}

#[test]
fn two_nodes_lose_their_link_and_heal_then_both_see_each_other_again() {
    let mut cluster = Cluster::settled(2, 4);
    cluster.cut(|process| process == 1);
    cluster.break_link(0, 1, false);
    let split = cluster.run_until(ms(10_000), |cluster| cluster.downs().len() == 2);
    assert!(split.is_some(), "both notice");
    cluster.run(ms(20_000));
    cluster.heal();
    let healed = cluster.run_until(ms(10_000), Cluster::is_complete);
    assert!(healed.is_some_and(|took| took < ms(2000)), "{healed:?}");
}

#[test]
fn ten_nodes_are_cut_in_half_and_heal_then_nobody_buries_its_own_side() {
    let mut cluster = Cluster::settled(10, 5);
    cluster.cut(|process| process >= 5);
    let split = cluster.run_until(ms(20_000), |cluster| cluster.downs().len() == 50);
    assert!(split.is_some_and(|took| took < ms(6000)), "{split:?}");
    cluster.run(ms(10_000));
    cluster.log.clear();
    cluster.heal();
    let healed = cluster.run_until(ms(20_000), Cluster::is_complete);
    assert!(healed.is_some_and(|took| took < ms(4000)), "{healed:?}");
    cluster.run(ms(10_000));
    cluster.assert_complete();
    assert_eq!(cluster.downs(), [], "healing flaps nobody");
}

#[test]
fn link_breaks_for_a_moment_then_nobody_goes_down() {
    let mut cluster = Cluster::settled(3, 6);
    cluster.break_link(0, 1, false);
    cluster.run(ms(10_000));
    assert_eq!(cluster.downs(), []);
    assert_eq!(cluster.peers(0), [1, 2], "the link is back");
}

#[test]
fn two_members_reach_each_other_only_through_a_third_then_nobody_goes_down() {
    for is_reset in [false, true] {
        let mut cluster = Cluster::settled(4, 15);
        cluster.block(0, 1);
        if is_reset {
            cluster.break_link(0, 1, false);
        }
        cluster.run(Duration::from_secs(120));
        assert_eq!(cluster.downs(), []);
    }
}

#[test]
fn one_end_of_a_link_begins_anew_then_both_speak_again() {
    for (process, peer) in [(0, 1), (1, 0)] {
        let mut cluster = Cluster::settled(2, 16);
        cluster.renew_link_at(process, peer);
        cluster.run(ms(10_000));
        assert_eq!(cluster.downs(), []);
        for (a, b) in [(0, 1), (1, 0)] {
            let node = cluster.nodes[b].contact.node.clone();
            assert!(cluster.nodes[a].swim.is_linked(&node));
        }
    }
}

#[test]
fn process_dies_and_reconnects_are_refused_then_it_is_known_at_once() {
    for count in [2, 3, 10] {
        let mut cluster = Cluster::settled(count, 7);
        cluster.crash_refused(1);
        let took = cluster.run_until(ms(5000), Cluster::is_complete);
        assert!(took.is_some_and(|took| took <= ms(25)), "{took:?}");
        let downs = cluster.downs();
        assert_eq!(downs.len(), count - 1);
        assert!(downs.iter().all(|(_, _, why)| *why == Evidence::Refused));
        cluster.run(ms(30_000));
        assert_eq!(cluster.downs().len(), count - 1, "no flaps afterwards");
    }
}

fn silent_crash(count: usize, seeds: std::ops::Range<u64>) -> Duration {
    let mut slowest = Duration::ZERO;
    for seed in seeds {
        let mut cluster = Cluster::settled(count, seed);
        cluster.run(ms(37 * (seed % 20)));
        let victim = seed as usize % count;
        let node = cluster.nodes[victim].contact.node.clone();
        cluster.crash_silent(victim);
        let took = cluster.run_until(ms(30_000), Cluster::is_complete);
        slowest = slowest.max(took.expect("everybody notices in the end"));
        let downs = cluster.downs();
        assert_eq!(downs.len(), count - 1);
        assert!(downs.iter().all(|(_, down, why)| *down == node && *why == Evidence::Suspected));
    }
    slowest
}

#[test]
fn machine_falls_silent_then_every_node_knows_within_worst_detection() {
    let worst = Profile::lan().worst_detection();
    for (count, seeds) in [(2, 0..20), (3, 0..40), (10, 0..20), (50, 0..4)] {
        let slowest = silent_crash(count, seeds);
        assert!(slowest <= worst, "{count} nodes: {slowest:?} > {worst:?}");
    }
}

#[test]
fn a_fifth_of_all_packets_is_lost_for_ten_minutes_then_nobody_goes_down() {
    let mut cluster = Cluster::settled(10, 8);
    cluster.loss_permille = 200;
    cluster.run(Duration::from_secs(600));
    assert_eq!(cluster.downs(), []);
}

#[test]
fn nodes_stall_for_half_a_second_then_nobody_goes_down() {
    let mut cluster = Cluster::settled(10, 9);
    for round in 0..150_u64 {
        let stall = 200 + 40 * (round % 11);
        cluster.stall(round as usize % 10, ms(stall));
        cluster.run(ms(2000));
    }
    assert_eq!(cluster.downs(), []);
}

#[test]
fn node_stalls_longer_than_its_suspicions_last_then_it_blames_nobody() {
    let mut cluster = Cluster::settled(3, 10);
    cluster.stall(0, ms(10_000));
    cluster.run(ms(10_200));
    assert!(cluster.nodes[0].swim.health() > 0, "it noticed its stall");
    cluster.run(ms(10_000));
    cluster.assert_complete();
    let node_0_blames = cluster.downs().iter().filter(|down| down.0 == 0).count();
    assert_eq!(node_0_blames, 0);
    assert_eq!(cluster.nodes[0].swim.health(), 0, "it is well again");
}

#[test]
fn node_leaves_then_everybody_knows_that_it_left_for_ever() {
    let mut cluster = Cluster::settled(5, 11);
    let contact = cluster.nodes[2].contact.clone();
    cluster.input(2, SwimInput::Leave);
    let took = cluster.run_until(ms(2000), |cluster| !cluster.nodes[2].is_running);
    assert!(took.is_some_and(|took| took < ms(10)), "{took:?}");
    for peer in cluster.peers(2) {
        cluster.break_link(2, peer, true);
    }
    cluster.run(Duration::from_secs(60));
    let downs = cluster.downs();
    assert_eq!(downs.len(), 4, "{downs:?}");
    assert!(downs.iter().all(|(_, node, why)| *node == contact.node && *why == Evidence::Left));
    assert!(cluster.is_complete());
}

#[test]
fn node_leaves_during_a_cut_then_the_other_side_learns_it_on_heal() {
    let mut cluster = Cluster::settled(4, 12);
    cluster.cut(|process| process == 3);
    let node = cluster.nodes[2].contact.node.clone();
    cluster.input(2, SwimInput::Leave);
    let took = cluster.run_until(ms(2000), |cluster| !cluster.nodes[2].is_running);
    assert!(took.is_some_and(|took| took <= ms(1000)), "it gives up on node 3: {took:?}");
    cluster.run(ms(300));
    cluster.heal();
    cluster.run(ms(10_000));
    cluster.assert_complete();
    let told = cluster.downs().into_iter().find(|(process, down, _)| *process == 3 && *down == node);
    assert_eq!(told.map(|told| told.2), Some(Evidence::Left));
}

#[test]
fn lonely_node_leaves_then_it_is_gone_at_once() {
    let mut cluster = Cluster::new(13);
    cluster.start("alone", 1);
    cluster.run(ms(5000));
    cluster.input(0, SwimInput::Leave);
    assert_eq!(cluster.log.last().map(|entry| &entry.2), Some(&SwimEffect::Left));
    let deadline = cluster.nodes[0].swim.next_deadline();
    assert_eq!(deadline, crate::time::Timestamp::NEVER);
}

#[test]
fn three_nodes_are_idle_for_a_minute_then_each_sends_at_most_thirty_kilobytes() {
    let mut cluster = Cluster::settled(3, 14);
    let before: Vec<usize> = cluster.nodes.iter().map(|node| node.sent_bytes).collect();
    cluster.run(Duration::from_secs(60));
    for (node, before) in cluster.nodes.iter().zip(before) {
        let bytes = node.sent_bytes - before;
        assert!(bytes <= 30_000, "{bytes} bytes");
    }
}

#[test]
fn nothing_is_to_be_told_then_gossip_rests() {
    let mut cluster = Cluster::settled(3, 15);
    cluster.run(Duration::from_secs(10));
    let before: Vec<usize> = cluster.nodes.iter().map(|node| node.ticks).collect();
    cluster.run(Duration::from_secs(60));
    for (node, before) in cluster.nodes.iter().zip(before) {
        let ticks = node.ticks - before;
        // Two for each of 200 probes, one a second for the hash of the view, and the announcements. Gossip would have 600.
        assert!((400..700).contains(&ticks), "{ticks} ticks");
    }
}

#[test]
fn gossip_rested_then_news_is_told_at_once() {
    let mut cluster = Cluster::settled(3, 16);
    cluster.run(Duration::from_secs(10));
    let newcomer = cluster.start("node-3", 1003);
    cluster.dial(newcomer, 0);
    let told = cluster.run_until(Duration::from_secs(5), |cluster| cluster.is_complete());
    assert!(told.is_some_and(|time| time < Duration::from_millis(500)), "{told:?}");
}
