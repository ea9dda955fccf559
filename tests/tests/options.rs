//! Options that are seen on real nodes: changed, they change what is seen. tests/parity.toml names the test of each;
//! those of times and counts are in core/tests/engine_options.rs.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests that run in real time, over real sockets"
)]

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use process_hub::config::{
    HubConfig, Migration, PartitionTolerance, Profile, Redundancy, RedundancySignal, ReplicationFactor,
    ReplicationModel, Security,
};
use process_hub::engine::{IfExists, MessageCommand, Recipient, StartOptions};
use process_hub::error::ErrorKind;
use process_hub::hub::{Hub, Node};
use process_hub::spec::{ChildSpec, Mode};
use process_hub_tests::cluster::{
    COUNTER, Cluster, Losses, PATIENCE, Step, ask, call, child_id, counter_kind, eventually, message, node_name,
    nodes_of, options, owner, spec,
};

/// A file of this test run, which is gone with it.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("process-hub-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn with_node(
    config: HubConfig,
    change: impl FnOnce(process_hub::config::NodeConfig) -> process_hub::config::NodeConfig,
) -> HubConfig {
    HubConfig { node: config.node.map(change), ..config }
}

#[test]
fn hub_id_then_hubs_of_another_id_are_another_cluster() {
    let mut cluster = Cluster::of(&["a"]);
    let mut config = cluster.config("b");
    config.hub_id = process_hub::ids::HubId::new("users").unwrap();
    let other = Hub::builder(config).kind(COUNTER, counter_kind(Arc::clone(&cluster.census))).start().unwrap();
    // It is on a node that the others know: one that joins later meets its hub of the same id there, and only that.
    let seed = other.address().to_owned();
    let mut config = cluster.config("c");
    config = with_node(config, |node| node.with_seeds([seed]));
    let third = Hub::builder(config).kind(COUNTER, counter_kind(Arc::clone(&cluster.census))).start().unwrap();
    cluster.add(third);
    cluster.settle();
    assert_eq!(cluster.hubs[0].nodes(false), [node_name("c")]);
    assert!(other.nodes(false).is_empty());
    cluster.hubs[0].start_child(spec("cart"), options()).wait().unwrap();
    assert!(other.child_lookup("cart").is_none());
    other.stop(PATIENCE).unwrap();
}

#[test]
fn node_is_left_out_then_the_hub_runs_on_the_one_it_is_given_or_not_at_all() {
    let config = Cluster::new().config("a");
    let without = HubConfig { node: None, ..config.clone() };
    let error = Hub::builder(without.clone()).start().unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
    let node = Node::start(config.node.as_ref().unwrap(), &Profile::fast(), Duration::from_secs(1)).unwrap();
    let hub = Hub::builder(without).node(&node).start().unwrap();
    assert_eq!((hub.node_name().as_str(), hub.address()), ("a", node.address()));
    hub.stop(PATIENCE).unwrap();
    assert_eq!(node.hub_count(), 0, "a node that was given outlives its hub");
    let own = Hub::builder(config).node(&node).start().unwrap();
    assert_eq!(own.address(), node.address());
    assert!(node.stop(PATIENCE));
    assert!(!own.is_alive());
}

#[test]
fn node_name_then_the_members_know_it_by_that_and_without_one_each_has_its_own() {
    let mut cluster = Cluster::of(&["ünïcode ✓", "b"]);
    assert_eq!(cluster.hubs[1].nodes(false), [node_name("ünïcode ✓")]);
    for _ in 0..2 {
        let mut config = cluster.config("any");
        config = with_node(config, |mut node| {
            node.name = None;
            node
        });
        let hub = Hub::builder(config).kind(COUNTER, counter_kind(Arc::clone(&cluster.census))).start().unwrap();
        cluster.add(hub);
    }
    cluster.see_each_other();
    assert_eq!(cluster.hubs[0].nodes(true).len(), 4, "the names differ");
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn node_listen_and_advertise_then_it_listens_there_and_tells_that() {
    let mut cluster = Cluster::new();
    let (port, told) = (free_port(), free_port());
    let config = with_node(cluster.config("a"), |node| node.with_listen(&format!("127.0.0.1:{port}")));
    cluster.add(Hub::builder(config.clone()).start().unwrap());
    assert_eq!(cluster.hubs[0].address(), format!("127.0.0.1:{port}"));
    let taken = with_node(config, |node| node.with_name(node_name("other")));
    assert!(Hub::builder(taken).start().is_err(), "the port is taken");

    let name = format!("localhost:{told}");
    let advertised = name.clone();
    let config = with_node(cluster.config("b"), |node| {
        node.with_listen(&format!("127.0.0.1:{told}")).with_advertise(advertised)
    });
    cluster.add(Hub::builder(config).start().unwrap());
    assert_eq!(cluster.hubs[1].address(), name);
    // Who knows the first one only dials what that was told.
    let seed = cluster.hubs[0].address().to_owned();
    let config = with_node(cluster.config("c"), |node| node.with_seeds([seed]));
    let node = Node::start(config.node.as_ref().unwrap(), &Profile::fast(), Duration::from_secs(1)).unwrap();
    let hub = Hub::builder(HubConfig { node: None, ..config }).node(&node).start().unwrap();
    cluster.add(hub);
    cluster.see_each_other();
    let of_b = node.members().into_iter().find(|member| member.node.name.as_str() == "b").unwrap();
    assert_eq!(of_b.address, name);
}

#[test]
fn node_seeds_then_it_joins_those_and_without_any_it_is_alone() {
    let mut cluster = Cluster::of(&["a"]);
    let alone = with_node(cluster.config("alone"), |node| node.with_seeds(Vec::<String>::new()));
    let alone = Hub::builder(alone).start().unwrap();
    cluster.join_all(&["b"]);
    assert_eq!(cluster.hubs[0].nodes(false), [node_name("b")]);
    assert!(alone.nodes(false).is_empty());
    alone.stop(PATIENCE).unwrap();
}

#[test]
fn hubs_discover_interval_ms_then_so_soon_a_new_seed_is_tried() {
    let mut cluster = Cluster::of(&["a"]);
    let file = TempFile::new("seeds", "");
    let seed = format!("file:{}", file.0.display());
    let make = |name: &str, interval: Duration| {
        let config = with_node(cluster.config(name), |node| node.with_seeds([seed.clone()]));
        Hub::builder(config.with_hubs_discover_interval(interval)).start().unwrap()
    };
    let (soon, late) = (make("soon", Duration::from_millis(100)), make("late", Duration::from_secs(3600)));
    std::fs::write(&file.0, format!("{}\n", cluster.hubs[0].address())).unwrap();
    eventually("it found the seed", || soon.nodes(false) == [node_name("a")]);
    assert!(late.nodes(false).is_empty());
    late.stop(PATIENCE).unwrap();
    cluster.add(soon);
    cluster.see_each_other();
}

#[test]
fn node_security_then_only_nodes_that_prove_themselves_alike_meet() {
    let keys = [TempFile::new("key-1", &"1f".repeat(32)), TempFile::new("key-2", &"2e".repeat(32))];
    let by = |n: usize| Security::Key { key_file: keys[n].0.clone() };
    let mut cluster = Cluster::new();
    let make = |cluster: &Cluster, name: &str, security: Security| {
        let config = with_node(cluster.config(name), |node| node.with_security(security));
        Hub::builder(config).kind(COUNTER, counter_kind(Arc::clone(&cluster.census))).start()
    };
    let first = make(&cluster, "a", by(0)).unwrap();
    cluster.add(first);
    // Before the one that may: what these could do, they have done when it has met everybody.
    let strangers = [make(&cluster, "wrong key", by(1)), make(&cluster, "no key", Security::InsecurePlaintext)];
    let second = make(&cluster, "b", by(0)).unwrap();
    cluster.add(second);
    cluster.see_each_other();
    for stranger in strangers {
        match stranger {
            Ok(hub) => {
                assert!(hub.nodes(false).is_empty());
                hub.stop(PATIENCE).unwrap();
            }
            Err(error) => assert_eq!(error.kind, ErrorKind::AuthenticationFailed),
        }
    }
    cluster.see_each_other();
}

#[test]
fn node_labels_then_children_that_require_them_run_there_alone() {
    let in_eu = |config: HubConfig| {
        let is_eu = config.node.as_ref().unwrap().name.as_ref().unwrap().as_str() == "b";
        with_node(config, |node| if is_eu { node.with_label("zone", "eu-1") } else { node })
    };
    let mut cluster = Cluster::with(in_eu);
    cluster.join_all(&["a", "b", "c"]);
    let eu = |n: usize| ChildSpec { require: [("zone".into(), "eu-1".into())].into(), ..spec(&format!("eu:{n}")) };
    let result = cluster.hubs[0].start_children((0..20).map(eu).collect(), options()).wait().unwrap();
    assert!(result.started.iter().all(|child| child.instances[0].node.as_str() == "b"), "{result:?}");
    let ids = result.started.into_iter().map(|child| child.id).collect();
    cluster.hubs[0].stop_children(ids, PATIENCE).wait().unwrap();
}

#[test]
fn node_weight_then_its_share_of_the_children_is_larger() {
    let share = |weight: f64| {
        let weighted = move |config: HubConfig| {
            let is_heavy = config.node.as_ref().unwrap().name.as_ref().unwrap().as_str() == "heavy";
            with_node(config, |node| if is_heavy { node.with_weight(weight) } else { node })
        };
        let mut cluster = Cluster::with(weighted);
        cluster.join("light");
        cluster.join("heavy");
        cluster.see_each_other();
        let specs = (0..500).map(|n| spec(&format!("child:{n}"))).collect();
        let result = cluster.hubs[0].start_children(specs, options()).wait().unwrap();
        result.started.iter().filter(|child| child.instances[0].node.as_str() == "heavy").count()
    };
    let (even, most) = (share(1.0), share(4.0));
    assert!((200..300).contains(&even), "{even} of 500 with equal weights");
    assert!((360..440).contains(&most), "{most} of 500 with four times the weight");
}

fn replicated(redundancy: Redundancy, names: &[&str]) -> Cluster {
    let mut cluster = Cluster::with(move |config| config.with_redundancy(redundancy.clone()));
    cluster.join_all(names);
    cluster.hubs[0].start_child(spec("cart"), options()).wait().unwrap();
    cluster.settle();
    cluster
}

#[test]
fn redundancy_type_and_replication_factor_then_so_many_instances() {
    let names = ["a", "b", "c"];
    let by = |factor| Redundancy::replication().with_factor(factor);
    let all = [
        (Redundancy::Singularity, 1),
        (by(ReplicationFactor::Count(1)), 1),
        (by(ReplicationFactor::Count(2)), 2),
        (by(ReplicationFactor::Count(7)), 3),
        (by(ReplicationFactor::ClusterSize), 3),
    ];
    for (redundancy, count) in all {
        let cluster = replicated(redundancy.clone(), &names);
        assert_eq!(cluster.hubs[1].child_lookup("cart").unwrap().instances.len(), count, "{redundancy:?}");
        assert_eq!(cluster.census.starts("cart"), count);
    }
}

#[test]
fn replication_model_then_all_instances_are_active_or_one() {
    for (model, passive) in [(ReplicationModel::ActiveActive, 0), (ReplicationModel::ActivePassive, 2)] {
        let redundancy = Redundancy::replication().with_factor(ReplicationFactor::ClusterSize).with_model(model);
        let cluster = replicated(redundancy, &["a", "b", "c"]);
        let row = cluster.hubs[2].child_lookup("cart").unwrap();
        assert_eq!(row.instances.iter().filter(|one| one.mode == Mode::Passive).count(), passive, "{row:?}");
        let here = row.instances.iter().find(|one| one.node == *cluster.hubs[2].node_name()).unwrap();
        let answered_here = ask(&cluster.hubs[2], "cart", "node") == cluster.hubs[2].node_name().as_str();
        assert_eq!(answered_here, here.mode == Mode::Active, "{row:?}");
    }
}

#[test]
fn redundancy_signal_then_instances_are_told_these_roles_and_no_others() {
    let all = [
        (RedundancySignal::None, false, false),
        (RedundancySignal::Active, true, false),
        (RedundancySignal::Passive, false, true),
        (RedundancySignal::All, true, true),
    ];
    for (signal, tells_active, tells_passive) in all {
        let redundancy = Redundancy::replication().with_model(ReplicationModel::ActivePassive).with_signal(signal);
        let cluster = replicated(redundancy, &["a", "b"]);
        for (node, (mode, is_told)) in nodes_of(&cluster.hubs[0].child_lookup("cart").unwrap())
            .iter()
            .zip([(Mode::Active, tells_active), (Mode::Passive, tells_passive)])
        {
            // A role is told before the next message is handled.
            let there = MessageCommand { recipient: Recipient::Node(node.clone()), ..message("cart", "total") };
            cluster.hubs[0].call(there).wait().unwrap();
            let wanted = if is_told { vec![mode] } else { vec![] };
            assert_eq!(cluster.census.signals("cart", node), wanted, "{signal:?} on {node}");
        }
    }
}

#[test]
fn migration_type_then_the_new_instance_starts_before_the_old_one_stops_or_after() {
    for (migration, is_hot) in [(Migration::hot_swap(), true), (Migration::cold_swap(), false)] {
        let mut cluster = Cluster::migrating_by(migration.with_handover(true));
        cluster.join_all(&["a"]);
        let id = (0..).map(|n| format!("child:{n}")).find(|id| owner(&["a", "b"], id) == "b").unwrap();
        cluster.hubs[0].start_child(spec(&id), options()).wait().unwrap();
        cluster.census.close_gate(Step::Start, &id);
        cluster.join("b");
        cluster.census.await_at_gate(Step::Start, &id, 1);
        let live = cluster.census.live()[id.as_str()].clone();
        let wanted = if is_hot { vec![node_name("a"), node_name("b")] } else { vec![node_name("b")] };
        assert_eq!(live, wanted);
        cluster.census.open_gate(Step::Start, &id);
        cluster.settle();
        assert_eq!(ask(&cluster.hubs[0], &id, "node"), "b");
    }
}

#[test]
fn host_threads_then_so_many_children_work_at_a_time() {
    for (threads, is_answered) in [(1, false), (2, true)] {
        let mut cluster = Cluster::with(move |config| HubConfig { host_threads: threads, ..config });
        cluster.join_all(&["a"]);
        let ids = cluster.start_counters(2);
        cluster.census.close_gate(Step::Handle, &ids[0]);
        let blocked = cluster.hubs[0].call(message(&ids[0], "wait"));
        cluster.census.await_at_gate(Step::Handle, &ids[0], 1);
        let soon = MessageCommand { timeout: Duration::from_millis(300), ..message(&ids[1], "add") };
        let answer = cluster.hubs[0].call(soon).wait();
        assert_eq!(answer.is_ok(), is_answered, "{threads}: {answer:?}");
        cluster.census.open_gate(Step::Handle, &ids[0]);
        blocked.wait().unwrap();
    }
}

#[test]
fn shutdown_timeout_ms_then_a_hub_that_is_let_go_waits_so_long_for_its_children() {
    let gone_after = |timeout: Duration| {
        let mut cluster = Cluster::with(move |config| HubConfig { shutdown_timeout: timeout, ..config });
        cluster.join_all(&["a", "b"]);
        let id = (0..).map(|n| format!("child:{n}")).find(|id| owner(&["a", "b"], id) == "b").unwrap();
        let patient = ChildSpec { shutdown_ms: 60_000, ..spec(&id) };
        cluster.hubs[0].start_child(patient, options()).wait().unwrap();
        cluster.settle();
        cluster.census.close_gate(Step::Stop, &id);
        let begin = Instant::now();
        drop(cluster.take("b"));
        eventually("it has left", || cluster.hubs[0].nodes(false).is_empty());
        let took = begin.elapsed();
        cluster.census.open_gate(Step::Stop, &id);
        eventually("the child runs here", || call(&cluster.hubs[0], &id, "node").is_ok_and(|node| node == "a"));
        took
    };
    let (short, long) = (gone_after(Duration::from_millis(300)), gone_after(Duration::from_secs(3)));
    assert!(short < Duration::from_secs(2) && long >= Duration::from_secs(2), "{short:?}, {long:?}");
}

#[test]
fn profile_then_a_silent_member_is_noticed_sooner_or_later() {
    let silenced = |profile: Profile| {
        let losses = Arc::new(Losses::default());
        let mut cluster = Cluster::with(move |config| config.with_profile(profile.clone())).losing(&losses);
        cluster.join_all(&["a", "b"]);
        (cluster, losses)
    };
    let ((fast, cut), (wan, slowly_cut)) = (silenced(Profile::fast()), silenced(Profile::wan()));
    slowly_cut.split(["b"]);
    cut.split(["b"]);
    eventually("it is missed", || fast.hubs[0].nodes(false).is_empty());
    assert_eq!(wan.hubs[0].nodes(false), [node_name("b")], "it is not missed yet, though cut off for longer");
    for (cluster, losses) in [(&fast, &cut), (&wan, &slowly_cut)] {
        losses.heal();
        cluster.see_each_other();
    }
    assert!(fast.hubs[0].stop_child(&child_id("nobody"), PATIENCE).wait().is_err());
}

fn tolerating(tolerance: PartitionTolerance) -> Cluster {
    Cluster::with(move |config| config.with_partition_tolerance(tolerance.clone()))
}

#[test]
fn quorum_size_then_so_many_members_are_needed() {
    for (quorum_size, is_enough) in [(2, true), (3, false)] {
        let confirmed =
            PartitionTolerance::StaticQuorum { quorum_size, startup_confirm: true, lease: Duration::from_millis(600) };
        let mut cluster = tolerating(confirmed);
        cluster.join("a");
        cluster.join("b");
        cluster.see_each_other();
        eventually("it is decided", || cluster.hubs.iter().all(|hub| hub.is_partitioned() != is_enough));
        let answer = cluster.hubs[0].start_child(spec("cart"), options()).wait();
        assert_eq!(
            answer.map(|_| ()).map_err(|error| error.kind),
            is_enough.then_some(()).ok_or(ErrorKind::Partitioned)
        );
    }
}

#[test]
fn initial_cluster_size_then_so_many_begin_together() {
    for (size, begins) in [(1, true), (2, false)] {
        let mut cluster = tolerating(PartitionTolerance::majority_quorum(size));
        cluster.join("a");
        let soon = StartOptions { timeout: if begins { PATIENCE } else { Duration::from_millis(400) }, ..options() };
        let answer = cluster.hubs[0].start_child(spec("cart"), soon).wait();
        assert_eq!(answer.map(|_| ()).map_err(|error| error.kind), begins.then_some(()).ok_or(ErrorKind::Timeout));
        if !begins {
            cluster.join("b");
            cluster.see_each_other();
            cluster.hubs[1].start_child(spec("late"), options()).wait().unwrap();
        }
    }
}

#[test]
fn track_max_size_then_a_cluster_that_was_larger_needs_more_or_not() {
    for (track_max_size, is_partitioned) in [(true, true), (false, false)] {
        let majority = PartitionTolerance::MajorityQuorum {
            initial_cluster_size: 3,
            track_max_size,
            lease: Duration::from_millis(600),
        };
        let mut cluster = tolerating(majority);
        for name in ["a", "b", "c"] {
            cluster.join(name);
        }
        cluster.hubs[0].start_child(spec("cart"), options()).wait().unwrap();
        cluster.join_all(&["d", "e"]);
        for name in ["e", "d", "c"] {
            cluster.take(name).stop(PATIENCE).unwrap();
        }
        cluster.see_each_other();
        let is_refused = || {
            let answer =
                cluster.hubs[0].start_child(spec("late"), StartOptions { if_exists: IfExists::Return, ..options() });
            answer.wait().map_err(|error| assert_eq!(error.kind, ErrorKind::Partitioned)).is_err()
        };
        eventually("it is decided", || is_refused() == is_partitioned);
        assert_eq!(cluster.hubs[0].is_partitioned(), is_partitioned);
    }
}

#[test]
fn lease_ms_then_a_node_that_is_cut_off_stops_its_children_so_soon() {
    let stopped_after = |lease: Duration| {
        let losses = Arc::new(Losses::default());
        let mut cluster = tolerating(PartitionTolerance::majority_quorum(3).with_lease(lease)).losing(&losses);
        for name in ["a", "b", "c"] {
            cluster.join(name);
        }
        cluster.see_each_other();
        cluster.start_counters(30);
        let begin = Instant::now();
        losses.split(["c"]);
        eventually("nothing runs there any more", || {
            cluster.hub("c").is_partitioned()
                && cluster.census.live().values().flatten().all(|node| node.as_str() != "c")
        });
        let took = begin.elapsed();
        losses.heal();
        eventually("it is back", || cluster.hubs.iter().all(|hub| !hub.is_partitioned()));
        cluster.settle();
        took
    };
    let (short, long) = (stopped_after(Duration::from_millis(400)), stopped_after(Duration::from_millis(3000)));
    assert!(short < Duration::from_millis(2000) && long > Duration::from_millis(2000), "{short:?}, {long:?}");
}

#[test]
fn threshold_time_ms_then_a_lost_member_counts_so_long() {
    for (threshold_time, is_partitioned) in [(Duration::from_secs(3600), true), (Duration::from_millis(1000), false)] {
        let losses = Arc::new(Losses::default());
        let dynamic =
            PartitionTolerance::DynamicQuorum { quorum_size: 70, threshold_time, lease: Duration::from_millis(600) };
        let mut cluster = tolerating(dynamic).losing(&losses);
        for name in ["a", "b", "c", "d", "e"] {
            cluster.join(name);
        }
        cluster.see_each_other();
        cluster.hubs[0].start_child(spec("cart"), options()).wait().unwrap();
        cluster.settle();
        // One of five is 20 %; a second one at once would be 40 %.
        cluster.cut_off("e", &losses);
        cluster.see_each_other();
        // The time itself is what is tried.
        std::thread::sleep(Duration::from_millis(2500));
        // A lease may end for a moment on a busy machine; it comes back.
        eventually("one of five may be lost", || cluster.hubs.iter().all(|hub| !hub.is_partitioned()));
        cluster.cut_off("d", &losses);
        cluster.see_each_other();
        let is_decided = || {
            let answer =
                cluster.hubs[0].start_child(spec("late"), StartOptions { if_exists: IfExists::Return, ..options() });
            answer.wait().is_err() == is_partitioned
        };
        eventually("it is decided", is_decided);
        assert_eq!(cluster.hubs[0].is_partitioned(), is_partitioned);
    }
}
