//! ProcessHub's scenarios about members that come, go, fall silent and come back.
//! Source of the numbers: upstream-behaviour.md §9.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests that run in real time, over real sockets"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use process_hub::config::{
    HubConfig, Migration, Profile, Redundancy, RedundancySignal, ReplicationFactor, ReplicationModel,
};
use process_hub::engine::{IfExists, MessageCommand, StartOptions};
use process_hub::error::ErrorKind;
use process_hub::hub::Hub;
use process_hub::ids::{ChildId, NodeName};
use process_hub::observe::HookName;
use process_hub::payload::Payload;
use process_hub::spec::{ChildSpec, Row};
use process_hub_tests::cluster::{
    Cluster, Losses, PATIENCE, Step, ask, ask_all, child_id, eventually, eventually_or, message, node_name, nodes_of,
    options, owner, spec,
};
use serde_json::json;

const THREE: [&str; 3] = ["a", "b", "c"];

fn specs(prefix: &str, count: usize) -> Vec<ChildSpec> {
    (0..count).map(|n| spec(&format!("{prefix}:{n}"))).collect()
}

fn start(hub: &Hub, specs: Vec<ChildSpec>) {
    let result = hub.start_children(specs, options()).wait().unwrap();
    assert_eq!(result.errors, []);
}

/// Waits until each of these hubs sees exactly the others of them, and nothing moves.
fn await_side(cluster: &Cluster, names: &[&str]) {
    let members: Vec<NodeName> = names.iter().map(|name| node_name(name)).collect();
    for name in names {
        let hub = cluster.hub(name);
        eventually_or("each side sees itself alone", || {
            let (seen, is_locked) = (hub.nodes(true), hub.is_locked());
            (seen != members || is_locked).then(|| format!("{name} sees {seen:?}, locked: {is_locked}"))
        });
    }
}

/// Waits until every row on these hubs has one instance, on one of them.
fn await_placed(cluster: &Cluster, names: &[&str]) {
    for name in names {
        eventually_or("every child runs on this side", || {
            let rows = cluster.hub(name).process_registry();
            rows.iter().find_map(|(id, row)| {
                let nodes = nodes_of(row);
                let is_here = nodes.len() == 1 && names.contains(&nodes[0].as_str());
                (!is_here).then(|| format!("{name} has {id} on {nodes:?}"))
            })
        });
    }
}

fn rows_on<'a>(rows: &'a BTreeMap<ChildId, Arc<Row>>, node: &str) -> BTreeMap<&'a ChildId, &'a Arc<Row>> {
    rows.iter().filter(|(_, row)| nodes_of(row) == [node_name(node)]).collect()
}

#[test]
fn scenario_24_children_of_one_start_fare_differently_on_many_nodes_then_each_is_answered() {
    let cluster = Cluster::of(&THREE);
    start(&cluster.hubs[1], vec![spec("known")]);
    let refusing = |n: usize| spec(&format!("bad:{n}")).with_args(Payload::json(&b"\"refuse\""[..]));
    let mut all = specs("child", 300);
    all.extend((0..9).map(refusing));
    all.push(spec("known"));
    all.push(ChildSpec::new("rare", "nobody-offers-this").unwrap());
    let result = cluster.hubs[0].start_children(all, options()).wait().unwrap();
    assert_eq!(result.started.len(), 300);
    let used: BTreeSet<&NodeName> = result.started.iter().map(|child| &child.instances[0].node).collect();
    assert_eq!(used.len(), 3, "every node started some");
    let mut kinds: BTreeMap<ErrorKind, usize> = BTreeMap::new();
    let mut refusers = BTreeSet::new();
    for error in &result.errors {
        *kinds.entry(error.kind).or_default() += 1;
        if error.kind == ErrorKind::StartFailed {
            assert_eq!(error.node.as_ref().unwrap().as_str(), owner(&THREE, error.id.as_str()));
            refusers.insert(error.node.clone());
        }
    }
    let wanted = [(ErrorKind::StartFailed, 9), (ErrorKind::AlreadyStarted, 1), (ErrorKind::UnknownKind, 1)];
    assert_eq!(kinds, BTreeMap::from(wanted));
    assert!(refusers.len() > 1, "the failures are on several nodes: {refusers:?}");
}

#[test]
fn scenario_24_a_node_ends_while_children_start_there_then_they_are_forwarded_and_the_start_succeeds() {
    let mut cluster = Cluster::new().listening(HookName::ForwardedMigration);
    cluster.join_all(&THREE);
    let all = specs("child", 30);
    let (theirs, others): (Vec<&ChildSpec>, Vec<&ChildSpec>) =
        all.iter().partition(|spec| owner(&THREE, spec.id.as_str()) == "c");
    assert!(!theirs.is_empty() && !others.is_empty());
    for child in &theirs {
        cluster.census.close_gate(Step::Start, child.id.as_str());
    }
    let started = cluster.hubs[0].start_children(all.clone(), options());
    cluster.census.await_at_gate(Step::Start, theirs[0].id.as_str(), 1);
    let ended = cluster.take("c");
    ended.halt(Duration::from_secs(10));
    for child in &theirs {
        cluster.census.open_gate(Step::Start, child.id.as_str());
    }
    let result = started.wait().unwrap();
    assert_eq!((result.started.len(), result.errors), (30, vec![]));
    drop(ended);
    cluster.settle();
    let ids: Vec<String> = all.iter().map(|spec| spec.id.to_string()).collect();
    cluster.assert_each_lives_once(&ids);
    let wanted: BTreeMap<String, String> =
        theirs.iter().map(|child| (child.id.to_string(), owner(&["a", "b"], child.id.as_str()))).collect();
    eventually_or("what was forwarded is told where the start was asked for", || {
        let told = cluster.heard("a", HookName::ForwardedMigration);
        let children = told.iter().flat_map(|event| event["children"].as_array().unwrap());
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let told: BTreeMap<String, String> = children.map(|child| (text(&child["id"]), text(&child["node"]))).collect();
        (told != wanted).then(|| format!("{told:?}, not {wanted:?}"))
    });
}

#[test]
fn scenario_25_members_come_and_go_then_only_the_rows_of_what_moved_change() {
    let mut cluster = Cluster::of(&["a", "b"]);
    cluster.start_counters(100);
    let before = cluster.registry();
    cluster.join_all(&["c"]);
    let with_c = cluster.registry();
    let moved = rows_on(&with_c, "c");
    assert!(!moved.is_empty());
    for (id, row) in &with_c {
        assert_eq!(row == &before[id], !moved.contains_key(id), "{id}: {:?}, {row:?}", before[id]);
        assert_eq!(row.spec, before[id].spec);
    }
    cluster.take("c").stop(PATIENCE).unwrap();
    cluster.settle();
    let after = cluster.registry();
    assert!(rows_on(&after, "c").is_empty());
    for (id, row) in &after {
        assert_eq!(row == &with_c[id], !moved.contains_key(id), "{id}: {:?}, {row:?}", with_c[id]);
    }
}

#[test]
fn scenario_35_a_member_is_met_again_and_again_and_leaves_then_it_is_told_once() {
    let mut cluster = Cluster::with(|config| config.with_hubs_discover_interval(Duration::from_millis(100)))
        .listening(HookName::PostClusterJoin)
        .listening(HookName::PostClusterLeave);
    cluster.join_all(&["a", "b"]);
    // Everybody is a seed of the third one, several times, by several names.
    let mut config = cluster.config("c");
    let node = config.node.take().unwrap();
    let seeds: Vec<String> = cluster
        .hubs
        .iter()
        .flat_map(|hub| [hub.address().to_owned(), hub.address().replace("127.0.0.1", "localhost")])
        .collect();
    config.node = Some(node.with_seeds(seeds.iter().chain(&seeds).cloned()));
    let hub = Hub::builder(config).start().unwrap();
    cluster.add(hub);
    cluster.see_each_other();
    let leaver = cluster.take("c");
    leaver.stop(PATIENCE).unwrap();
    drop(leaver);
    cluster.settle();
    for node in ["a", "b"] {
        eventually("it left", || !cluster.heard(node, HookName::PostClusterLeave).is_empty());
        let of_c = |hook| cluster.heard(node, hook).iter().filter(|told| **told == json!({"node": "c"})).count();
        assert_eq!((of_c(HookName::PostClusterJoin), of_c(HookName::PostClusterLeave)), (1, 1), "{node}");
    }
}

#[test]
fn scenario_37_a_node_joins_late_then_it_has_every_spec_and_all_metadata() {
    let mut cluster = Cluster::of(&["a", "b"]);
    let told: Vec<ChildSpec> = (0..200)
        .map(|n| ChildSpec {
            metadata: Some(json!({"tag": format!("t{}", n % 3), "n": n}).to_string().into()),
            shutdown_ms: 1000 + n,
            ..spec(&format!("child:{n}"))
        })
        .collect();
    start(&cluster.hubs[0], told.clone());
    cluster.join_all(&["late"]);
    let rows = cluster.hub("late").process_registry();
    assert_eq!(rows.len(), told.len());
    for spec in &told {
        assert_eq!(*rows[&spec.id].spec, *spec);
    }
    assert_eq!(cluster.hub("late").tag_query("t1").len(), 67);
}

#[test]
fn scenario_37_two_sides_work_apart_and_meet_then_no_row_is_lost_and_each_child_runs_once() {
    let losses = Arc::new(Losses::default());
    let mut cluster = Cluster::new().losing(&losses).listening(HookName::ConflictResolved);
    cluster.join_all(&["a", "b", "c", "d"]);
    start(&cluster.hubs[0], specs("child", 40));
    cluster.settle();
    losses.split(["c", "d"]);
    for side in [["a", "b"], ["c", "d"]] {
        await_side(&cluster, &side);
        await_placed(&cluster, &side);
        let hub = cluster.hub(side[0]);
        assert_eq!(hub.child_count(), 40, "what fell silent is wanted still");
        start(hub, specs(side[0], 10));
    }
    losses.heal();
    cluster.settle();
    assert_eq!(cluster.agreed_registry().len(), 60);
    let ids: Vec<String> = cluster.agreed_registry().into_keys().map(|id| id.to_string()).collect();
    cluster.assert_each_lives_once(&ids);
    eventually_or("what both sides ran is told as resolved", || {
        let resolved: BTreeSet<String> = ["a", "b", "c", "d"]
            .iter()
            .flat_map(|node| cluster.heard(node, HookName::ConflictResolved))
            .map(|told| told["child_id"].as_str().unwrap().to_owned())
            .collect();
        (resolved.len() != 40).then(|| format!("{} of 40 are", resolved.len()))
    });
}

#[test]
fn scenario_38_a_node_is_replaced_before_it_is_missed_then_only_its_own_rows_are_new() {
    let losses = Arc::new(Losses::default());
    let mut cluster = Cluster::new().losing(&losses);
    cluster.join_all(&THREE);
    let ids = cluster.start_counters(90);
    let before = cluster.registry();
    cluster.cut_off("c", &losses);
    cluster.join_all(&["c"]);
    cluster.assert_each_lives_once(&ids);
    let after = cluster.agreed_registry();
    let theirs = rows_on(&before, "c");
    assert!(!theirs.is_empty());
    for (id, row) in &after {
        if theirs.contains_key(id) {
            assert_eq!(nodes_of(row), [node_name("c")]);
            assert!(row.instances[0].epoch > before[id].instances[0].epoch, "{id} has its old row");
        } else {
            assert_eq!(row, &before[id]);
            assert_eq!(cluster.census.starts(id.as_str()), 1);
        }
    }
}

#[test]
fn scenario_38_a_link_is_cut_for_a_moment_then_nothing_is_purged() {
    let losses = Arc::new(Losses::default());
    let mut cluster = Cluster::with(|config| config.with_profile(Profile::wan()))
        .losing(&losses)
        .listening(HookName::PreClusterLeave)
        .listening(HookName::RegistryPidRemoved);
    cluster.join_all(&["a", "b"]);
    let ids = cluster.start_counters(40);
    let before = cluster.registry();
    let there = ids.iter().find(|id| owner(&["a", "b"], id) == "b").unwrap();
    losses.split(["b"]);
    let soon = MessageCommand { timeout: Duration::from_millis(500), ..message(there, "add") };
    let error = cluster.hub("a").call(soon).wait().unwrap_err();
    assert_eq!((error.kind, error.maybe_executed), (ErrorKind::Timeout, true));
    losses.heal();
    assert_eq!(ask_all(cluster.hub("a"), ids.iter().map(|id| (id.as_str(), "add".to_owned()))).len(), 40);
    cluster.settle();
    assert_eq!(cluster.agreed_registry(), before);
    for hook in [HookName::PreClusterLeave, HookName::RegistryPidRemoved] {
        assert!(cluster.heard("a", hook).is_empty() && cluster.heard("b", hook).is_empty(), "{hook}");
    }
    assert!(ids.iter().all(|id| cluster.census.starts(id) == 1));
}

#[test]
fn scenario_39_two_sides_write_one_child_anew_then_every_registry_has_the_later_write() {
    let losses = Arc::new(Losses::default());
    let mut cluster = Cluster::new().losing(&losses);
    cluster.join_all(&["a", "b", "c", "d"]);
    let written = |side: &str| ChildSpec {
        metadata: Some(json!({"side": side, "__process_hub__": "a user's like any other"}).to_string().into()),
        ..spec("both")
    };
    start(&cluster.hubs[0], vec![written("nobody"), spec("left alone")]);
    cluster.settle();
    losses.split(["c", "d"]);
    for side in [["a", "b"], ["c", "d"]] {
        await_side(&cluster, &side);
        await_placed(&cluster, &side);
        let hub = cluster.hub(side[1]);
        hub.stop_child(&child_id("both"), PATIENCE).wait().unwrap();
        start(hub, vec![written(side[0])]);
    }
    losses.heal();
    cluster.settle();
    let rows = cluster.agreed_registry();
    assert_eq!(rows.len(), 2, "silence deletes no row");
    assert_eq!(*rows["both"].spec, written("c"), "the later of the two");
    cluster.assert_each_lives_once(&["both".into(), "left alone".into()]);
}

#[test]
fn scenario_42_a_node_is_drained_then_it_owns_nothing_whoever_comes_and_goes() {
    let mut cluster = Cluster::new().listening(HookName::DrainCompleted);
    cluster.join_all(&THREE);
    let ids = cluster.start_counters(90);
    for id in &ids {
        assert_eq!(ask(&cluster.hubs[0], id, "add"), "1");
    }
    let theirs: BTreeSet<ChildId> = rows_on(&cluster.registry(), "b").into_keys().cloned().collect();
    let report = cluster.hub("b").drain(PATIENCE).wait().unwrap();
    assert_eq!(report.moved.iter().cloned().collect::<BTreeSet<_>>(), theirs);
    assert_eq!((report.moved.len(), report.restarted.len(), report.failed.len()), (theirs.len(), 0, 0));
    eventually_or("the report is told", || {
        let told = cluster.heard("b", HookName::DrainCompleted);
        (told != [json!({"report": &report})]).then(|| format!("{told:?}"))
    });
    let owns_nothing = |cluster: &Cluster| {
        await_side(cluster, &cluster.hubs.iter().map(|hub| hub.node_name().as_str()).collect::<Vec<_>>());
        for hub in &cluster.hubs {
            eventually("nothing is on it", || rows_on(&hub.process_registry(), "b").is_empty());
        }
    };
    owns_nothing(&cluster);
    assert!(cluster.hub("b").is_alive());
    start(cluster.hub("b"), specs("later", 30));
    owns_nothing(&cluster);
    cluster.join("d");
    cluster.hubs.sort_by(|one, other| one.node_name().cmp(other.node_name()));
    owns_nothing(&cluster);
    cluster.take("a").stop(PATIENCE).unwrap();
    owns_nothing(&cluster);
    // Nothing that it is asked again changes that, and whoever is stopped gives nothing to it.
    assert_eq!(cluster.hub("b").drain(PATIENCE).wait().unwrap().failed, []);
    for total in ask_all(cluster.hub("b"), ids.iter().map(|id| (id.as_str(), "total".to_owned()))) {
        assert_eq!(total, "1");
    }
}

#[test]
fn scenario_42_a_child_does_not_come_along_then_the_drain_ends_in_time_and_names_it() {
    let mut cluster = Cluster::migrating_by(Migration::hot_swap().with_handover(true));
    cluster.join_all(&["a", "b"]);
    let ids = cluster.start_counters(40);
    let stuck = ids.iter().find(|id| owner(&["a", "b"], id) == "b").unwrap().clone();
    cluster.census.close_gate(Step::Prepare, &stuck);
    let begin = Instant::now();
    let report = cluster.hub("b").drain(Duration::from_secs(1)).wait().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert_eq!(report.failed.iter().map(|child| child.id.as_str()).collect::<Vec<_>>(), [stuck.as_str()]);
    assert!(report.failed[0].why.contains("in time"), "{report:?}");
    assert_eq!(report.moved.len(), ids.iter().filter(|id| owner(&["a", "b"], id) == "b").count() - 1);
    cluster.census.open_gate(Step::Prepare, &stuck);
    eventually("it comes along after all", || {
        nodes_of(&cluster.hubs[0].child_lookup(&stuck).unwrap()) == [node_name("a")]
    });
    cluster.assert_each_lives_once(&ids);
}

#[test]
fn scenario_42_the_only_node_is_drained_then_it_keeps_its_children_and_says_why() {
    let cluster = Cluster::of(&["a"]);
    start(&cluster.hubs[0], specs("child", 5));
    let report = cluster.hubs[0].drain(PATIENCE).wait().unwrap();
    assert_eq!((report.moved.len(), report.failed.len()), (0, 5));
    assert!(report.failed.iter().all(|child| child.why.contains("nobody else")), "{report:?}");
    assert_eq!(ask(&cluster.hubs[0], "child:0", "add"), "1");
}

#[test]
fn scenario_43_a_whole_cluster_starts_again_then_what_it_lists_runs_exactly_once() {
    let listed = specs("static", 20);
    let ids: Vec<String> = listed.iter().map(|spec| spec.id.to_string()).collect();
    let lists = move |config: HubConfig| HubConfig { child_specs: listed.clone(), ..config };
    for _ in 0..2 {
        let mut cluster = Cluster::with(lists.clone());
        for name in THREE {
            cluster.join(name);
        }
        eventually("they run", || cluster.hubs.iter().all(|hub| hub.child_count() == 20));
        cluster.settle();
        cluster.assert_each_lives_once(&ids);
        assert!(
            ask_all(&cluster.hubs[2], ids.iter().map(|id| (id.as_str(), "add".to_owned()))).iter().all(|it| it == "1")
        );
    }
}

#[test]
fn scenario_43_a_child_is_stopped_while_a_node_is_away_then_it_stays_stopped_when_that_comes_back() {
    let losses = Arc::new(Losses::default());
    let mut cluster = Cluster::new().losing(&losses).listening(HookName::StopUndone);
    cluster.join_all(&THREE);
    let ids = cluster.start_counters(30);
    losses.split(["c"]);
    await_side(&cluster, &["a", "b"]);
    await_side(&cluster, &["c"]);
    await_placed(&cluster, &["a", "b"]);
    let stopped: Vec<ChildId> = ids[..10].iter().map(|id| child_id(id)).collect();
    let result = cluster.hub("a").stop_children(stopped, PATIENCE).wait().unwrap();
    assert_eq!(result.errors, []);
    losses.heal();
    cluster.settle();
    assert_eq!(cluster.agreed_registry().len(), 20);
    cluster.assert_each_lives_once(&ids[10..]);
    // One that comes back as a new process starts nothing that is not its own to start.
    let before = ids[10..].iter().map(|id| cluster.census.starts(id)).sum::<usize>();
    cluster.take("c").stop(PATIENCE).unwrap();
    cluster.end_node("c");
    cluster.settle();
    let given = cluster.agreed_registry();
    cluster.join_all(&["c"]);
    let moved = rows_on(&cluster.agreed_registry(), "c").len();
    cluster.assert_each_lives_once(&ids[10..]);
    let after = ids[10..].iter().map(|id| cluster.census.starts(id)).sum::<usize>();
    assert_eq!(after - before, 2 * moved, "each that was there moved away and back, {} rows", given.len());
    for node in THREE {
        assert!(cluster.heard(node, HookName::StopUndone).is_empty());
    }
}

#[test]
fn scenario_44_a_node_takes_in_10000_rows_then_everybody_answers_meanwhile() {
    let mut cluster = Cluster::of(&["a", "b"]);
    let all = specs("child", 10_000);
    for batch in all.chunks(2_000) {
        start(&cluster.hubs[0], batch.to_vec());
    }
    // Children that stay where they are.
    let staying: Vec<&str> = all
        .iter()
        .map(|spec| spec.id.as_str())
        .filter(|id| owner(&["a", "b"], id) == owner(&["a", "b", "c"], id))
        .take(2)
        .collect();
    cluster.join("c");
    let (mut slowest, mut asked) = (Duration::ZERO, 0);
    while cluster.hubs[2].child_count() < 10_000 || asked < 20 {
        for hub in &cluster.hubs[..2] {
            for id in &staying {
                let begin = Instant::now();
                assert!(!ask(hub, id, "add").is_empty());
                slowest = slowest.max(begin.elapsed());
                asked += 1;
            }
            assert!(hub.child_lookup("child:0").is_some());
        }
    }
    assert!(slowest < Duration::from_secs(1), "the slowest of {asked} answers took {slowest:?}");
    eventually("nothing moves any more", || cluster.hubs.iter().all(|hub| !hub.is_locked()));
    let again = StartOptions { if_exists: IfExists::Return, ..options() };
    assert!(cluster.hubs[2].start_child(spec("child:0"), again).wait().is_ok());
}

#[test]
fn scenario_45_replicas_are_moved_then_one_node_gives_each_child_and_only_what_left_is_stopped() {
    let redundancy = Redundancy::replication()
        .with_factor(ReplicationFactor::Count(2))
        .with_model(ReplicationModel::ActivePassive)
        .with_signal(RedundancySignal::All);
    let mut cluster =
        Cluster::with(move |config| config.with_redundancy(redundancy.clone())).listening(HookName::ChildrenMigrated);
    cluster.join_all(&THREE);
    let ids = cluster.start_counters(150);
    let before = cluster.registry();
    cluster.join_all(&["d"]);
    let after = cluster.registry();
    let mut given: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for giver in THREE {
        for told in cluster.heard(giver, HookName::ChildrenMigrated) {
            let to = told["node"].as_str().unwrap().to_owned();
            for child in told["children"].as_array().unwrap() {
                let moved = given.entry(child["id"].as_str().unwrap().to_owned()).or_default();
                moved.push((giver.to_owned(), to.clone()));
            }
        }
    }
    let mut changed = 0;
    for id in &ids {
        let (old, new) = (nodes_of(&before[id.as_str()]), nodes_of(&after[id.as_str()]));
        let wanted = (old[0] != new[0]).then(|| vec![(old[0].to_string(), new[0].to_string())]);
        assert_eq!(given.get(id), wanted.as_ref(), "{id}: from {old:?} to {new:?}");
        let came = new.iter().filter(|node| !old.contains(node)).count();
        assert_eq!(cluster.census.starts(id), 2 + came, "{id}: from {old:?} to {new:?}, what stays is not started");
        changed += usize::from(wanted.is_some());
    }
    assert!(changed > 10, "{changed} children changed their owner");
    eventually("what left its node is stopped", || cluster.census.live().values().all(|nodes| nodes.len() == 2));
}
