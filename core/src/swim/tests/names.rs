//! Who may have a name (R13).

use std::time::Duration;

use super::harness::{Cluster, Process, contact, ms};
use crate::swim::{Evidence, SwimEffect};

fn is_name_taken(cluster: &Cluster, process: Process) -> bool {
    cluster.count(|at, effect| at == process && matches!(effect, SwimEffect::NameTaken { .. })) > 0
}

#[test]
fn name_of_a_living_node_is_wanted_then_the_newcomer_is_told() {
    for incarnation in [500, 5000] {
        let mut cluster = Cluster::settled(3, 21);
        let newcomer = cluster.start("node-1", incarnation);
        cluster.dial(newcomer, 0);
        let took = cluster.run_until(ms(2000), |cluster| is_name_taken(cluster, newcomer));
        assert!(took.is_some_and(|took| took <= ms(300)), "{took:?}");
        cluster.nodes[newcomer].is_running = false;
        cluster.run(ms(10_000));
        cluster.assert_complete();
        assert!(!is_name_taken(&cluster, 1));
        assert_eq!(cluster.downs(), [], "nobody ever saw the newcomer");
        let welcomes = cluster.count(|_, effect| *effect == SwimEffect::Welcome);
        assert_eq!(welcomes, 0);
    }
}

#[test]
fn name_of_the_seed_itself_is_wanted_then_the_newcomer_is_told() {
    for (incarnation, is_alone) in [(500, false), (5000, false), (5000, true)] {
        let mut cluster = if is_alone {
            let mut cluster = Cluster::new(22);
            cluster.start("node-0", 1000);
            cluster.run(ms(1000));
            cluster
        } else {
            Cluster::settled(3, 22)
        };
        let newcomer = cluster.start("node-0", incarnation);
        cluster.dial(newcomer, 0);
        let took = cluster.run_until(ms(2000), |cluster| is_name_taken(cluster, newcomer));
        assert!(took.is_some_and(|took| took <= ms(300)), "{took:?}");
        assert!(!is_name_taken(&cluster, 0));
    }
}

#[test]
fn word_that_the_name_is_taken_is_lost_then_the_newcomer_knows_by_the_hello() {
    for incarnation in [500, 5000] {
        let mut cluster = Cluster::settled(1, 29);
        cluster.run(ms(1000));
        let newcomer = cluster.start("node-0", incarnation);
        let said = cluster.packets.len();
        cluster.dial(newcomer, 0);
        assert!(cluster.run_until(ms(100), |cluster| cluster.packets.len() >= said + 2).is_some(), "both say hello");
        cluster.loss_permille = 1000;
        cluster.run(ms(1000));
        let gone: Vec<bool> = [0, newcomer].map(|process| is_name_taken(&cluster, process)).into();
        assert_eq!(gone.iter().filter(|is_gone| **is_gone).count(), 1, "exactly one goes: {gone:?}");
    }
}

#[test]
fn holder_is_reachable_only_through_another_member_then_the_name_is_taken() {
    let mut cluster = Cluster::settled(3, 23);
    cluster.break_link(0, 1, false);
    let newcomer = cluster.start("node-1", 5000);
    cluster.run(ms(21));
    for peer in cluster.peers(newcomer) {
        cluster.break_link(newcomer, peer, false);
    }
    cluster.dial(newcomer, 0);
    let took = cluster.run_until(ms(2000), |cluster| is_name_taken(cluster, newcomer));
    assert!(took.is_some_and(|took| took <= ms(300)), "{took:?}");
    assert!(!is_name_taken(&cluster, 1));
}

#[test]
fn process_restarts_at_once_under_its_name_then_it_replaces_the_old_one() {
    let mut cluster = Cluster::settled(3, 24);
    let old = cluster.nodes[1].contact.node.clone();
    cluster.crash_broken(1);
    let new = cluster.restart(1, 2000);
    cluster.dial(new, 0);
    let took = cluster.run_until(ms(3000), Cluster::is_complete);
    assert!(took.is_some_and(|took| took <= ms(350)), "{took:?}");
    assert_eq!(
        cluster.downs(),
        [(0, old.clone(), Evidence::Replaced), (2, old, Evidence::Replaced)].into_iter().collect::<Vec<_>>(),
    );
    cluster.log.clear();
    cluster.run(Duration::from_secs(30));
    assert_eq!(cluster.log, [], "nothing flaps afterwards");
}

#[test]
fn silent_machine_is_replaced_at_another_address_then_after_the_probe_the_name_moves() {
    let mut cluster = Cluster::settled(4, 25);
    cluster.crash_silent(1);
    let new = cluster.start("node-1", 2000);
    cluster.dial(new, 0);
    let took = cluster.run_until(ms(3000), Cluster::is_complete);
    assert!(took.is_some_and(|took| took >= ms(300) && took <= ms(700)), "{took:?}");
    assert!(cluster.downs().iter().all(|(_, _, why)| *why == Evidence::Replaced));
    cluster.run(Duration::from_secs(30));
    cluster.assert_complete();
    assert_eq!(cluster.downs().len(), 3);
}

#[test]
fn clock_was_set_back_then_the_restart_replaces_the_old_one_all_the_same() {
    for is_known_down in [false, true] {
        let mut cluster = Cluster::settled(3, 26);
        if is_known_down {
            cluster.crash_refused(1);
            cluster.run(ms(5000));
        } else {
            cluster.crash_broken(1);
        }
        let new = cluster.restart(1, 10);
        cluster.dial(new, 2);
        let took = cluster.run_until(ms(3000), Cluster::is_complete);
        assert!(took.is_some_and(|took| took <= ms(400)), "{took:?}");
        cluster.log.clear();
        cluster.run(Duration::from_secs(30));
        assert_eq!(cluster.log, [], "nothing flaps afterwards");
        // And the clock is right again at the next start.
        cluster.crash_broken(new);
        let newest = cluster.restart(new, 3000);
        cluster.dial(newest, 0);
        let took = cluster.run_until(ms(3000), Cluster::is_complete);
        assert!(took.is_some_and(|took| took <= ms(400)), "{took:?}");
    }
}

#[test]
fn replaced_node_comes_back_then_it_is_told_and_nobody_sees_it() {
    let mut cluster = Cluster::settled(4, 27);
    cluster.cut(|process| process == 1);
    cluster.run(ms(6000));
    let new = cluster.start_at(contact("node-1", 2000, "10.0.0.9:7000"));
    cluster.dial(new, 0);
    assert!(cluster.run_until(ms(2000), |cluster| cluster.sees(2, new)).is_some());
    cluster.log.clear();
    cluster.heal();
    let took = cluster.run_until(ms(5000), |cluster| is_name_taken(cluster, 1));
    assert!(took.is_some(), "it fences itself");
    cluster.nodes[1].is_running = false;
    cluster.run(ms(10_000));
    cluster.assert_complete();
    let others = cluster.downs().iter().filter(|down| down.0 != 1).count();
    assert_eq!(others, 0, "{:?}", cluster.downs());
    assert!(!is_name_taken(&cluster, new));
}

#[test]
fn member_declared_down_comes_back_then_it_is_up_under_its_incarnation() {
    let mut cluster = Cluster::settled(3, 28);
    let node = cluster.nodes[1].contact.node.clone();
    for peer in cluster.peers(1) {
        cluster.break_link(1, peer, true);
    }
    cluster.run(ms(25));
    assert!(!cluster.sees(0, 1) && !cluster.sees(2, 1));
    let took = cluster.run_until(ms(5000), Cluster::is_complete);
    assert!(took.is_some(), "its links are made again");
    let ups = cluster.count(|at, effect| at == 0 && matches!(effect, SwimEffect::Up(contact) if contact.node == node));
    assert_eq!(ups, 1);
    assert!(!is_name_taken(&cluster, 1));
}
