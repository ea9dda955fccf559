//! Tests of the configuration's reader, writer and table.

mod properties;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::defaults::{Entry, TABLE};
use super::*;
use crate::error::ErrorKind;

fn paths(document: &Value) -> Vec<String> {
    let problems = HubConfig::check_json(document).expect_err("the document is refused");
    problems.into_iter().map(|problem| problem.path).collect()
}

fn problem_at(document: &Value, path: &str) -> String {
    let problems = HubConfig::check_json(document).expect_err("the document is refused");
    let found: Vec<_> = problems.iter().filter(|p| p.path == path).collect();
    assert_eq!(found.len(), 1, "one problem at {path} among {problems:?}");
    found[0].what.clone()
}

/// A document with `value` at the dotted `path`, valid but for that.
fn document_with(path: &str, value: Value) -> Value {
    let mut document = json!({"hub_id": "orders"});
    if path.starts_with("migration.") {
        document["migration"] = json!({"type": "hot_swap"});
    } else if path.starts_with("synchronization.") {
        document["synchronization"] = json!({"type": "gossip"});
    } else if let Some(option) = path.strip_prefix("partition_tolerance.") {
        document["partition_tolerance"] = match option {
            "startup_confirm" => json!({"type": "static_quorum", "quorum_size": 2}),
            "threshold_time_ms" => json!({"type": "dynamic_quorum", "quorum_size": 60}),
            _ => json!({"type": "majority_quorum", "initial_cluster_size": 3}),
        };
    } else if path.starts_with("distribution.") {
        document["distribution"] = json!({"type": "load_balanced"});
    }
    let pointer = format!("/{}", path.replace('.', "/"));
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer has a slash");
    if !parent.is_empty() && document.pointer(parent).is_none() {
        document[&parent[1..]] = json!({});
    }
    document.pointer_mut(parent).expect("the parent was made")[key] = value;
    document
}

#[test]
fn three_mistakes_then_one_error_lists_all_three_with_paths() {
    let document = json!({
        "hub_id": "orders",
        "migration": {"type": "hot_swap", "retention": 5000},
        "node": {"listen": "0.0.0.0:7400"},
        "host_threads": "eight",
    });
    let error = HubConfig::from_json(&document).expect_err("three mistakes");
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
    assert_eq!(error.kind.number(), 1002);
    for part in [
        "has 3 problems",
        "migration.retention: is not an option; did you mean `retention_ms`?",
        "node.listen: 0.0.0.0 is no loopback address",
        "host_threads: must be a whole number (1 to 1024), not \"eight\"",
    ] {
        assert!(error.message.contains(part), "{part:?} in {:?}", error.message);
    }
}

#[test]
fn only_a_hub_id_then_every_default_of_new() {
    let read = HubConfig::from_json(&json!({"hub_id": "orders"})).expect("valid");
    assert_eq!(read, HubConfig::new("orders").expect("valid id"));
    assert_eq!(read.validate(), Ok(()));
}

#[test]
fn defaults_of_the_contract_then_equal_to_new() {
    // The values api.md §1 promises, written out here once more on purpose.
    let contract = json!({
        "hub_id": "orders",
        "child_specs": [],
        "redundancy": {"type": "singularity"},
        "migration": {"type": "cold_swap", "handover": false, "handover_data_wait_ms": 3000},
        "synchronization": {"type": "pub_sub", "sync_interval_ms": 15000},
        "partition_tolerance": {"type": "divergence"},
        "distribution": {"type": "consistent_hashing"},
        "restart": {"max_restarts": 10, "window_ms": 60000, "backoff_ms": [10, 30000]},
        "hubs_discover_interval_ms": 10000,
        "deadlock_recovery_timeout_ms": 60000,
        "migration_base_timeout_ms": 15000,
        "shutdown_timeout_ms": 60000,
        "host_threads": 8,
        "profile": "lan",
    });
    let read = HubConfig::from_json(&contract).expect("valid");
    assert_eq!(read, HubConfig::new("orders").expect("valid id"));
    let replicated = json!({"hub_id": "orders", "redundancy": {
        "type": "replication", "replication_factor": 2, "replication_model": "active_active", "redundancy_signal": "none",
    }});
    let replicated = HubConfig::from_json(&replicated).expect("valid");
    assert_eq!(replicated.redundancy, Redundancy::replication());
    let read = HubConfig::from_json(&json!({"hub_id": "orders", "redundancy": {"type": "replication"}}));
    assert_eq!(read.expect("valid"), replicated);
    let gossip = json!({"hub_id": "orders", "synchronization": {
        "type": "gossip", "sync_interval_ms": 15000, "recipients": 3, "restricted_init": true,
    }});
    assert_eq!(HubConfig::from_json(&gossip).expect("valid").synchronization, Synchronization::gossip());
    let hot = HubConfig::from_json(&json!({"hub_id": "orders", "migration": {"type": "hot_swap"}}));
    assert_eq!(
        hot.expect("valid").migration,
        Migration::HotSwap {
            retention: Duration::from_millis(5000),
            handover: false,
            confirm_handover: false,
            handover_data_wait: Duration::from_millis(3000),
            child_migration_timeout: Duration::from_millis(10000),
        }
    );
}

#[test]
fn quorum_then_read_as_the_contract_says() {
    let read = |document: Value| {
        let config = HubConfig::from_json(&json!({"hub_id": "o", "partition_tolerance": document})).expect("valid");
        assert_eq!(HubConfig::from_json(&config.to_json()), Ok(config.clone()));
        config.partition_tolerance
    };
    let lease = Duration::from_millis(1500);
    assert_eq!(
        read(json!({"type": "static_quorum", "quorum_size": 7})),
        PartitionTolerance::StaticQuorum { quorum_size: 7, startup_confirm: false, lease }
    );
    let threshold_time = Duration::from_secs(30);
    assert_eq!(
        read(json!({"type": "dynamic_quorum", "quorum_size": 80})),
        PartitionTolerance::DynamicQuorum { quorum_size: 80, threshold_time, lease }
    );
    assert_eq!(
        read(json!({"type": "majority_quorum", "initial_cluster_size": 3, "lease_ms": 900})),
        PartitionTolerance::majority_quorum(3).with_lease(Duration::from_millis(900))
    );
}

#[test]
fn quorum_without_its_size_or_a_name_of_the_node_then_refused() {
    let at = |document: Value| paths(&json!({"hub_id": "o", "partition_tolerance": document}));
    assert_eq!(at(json!({"type": "static_quorum"})), ["partition_tolerance.quorum_size"]);
    assert_eq!(at(json!({"type": "dynamic_quorum", "quorum_size": 101})), ["partition_tolerance.quorum_size"]);
    assert_eq!(at(json!({"type": "majority_quorum"})), ["partition_tolerance.initial_cluster_size"]);
    let other = json!({"type": "majority_quorum", "initial_cluster_size": 3, "startup_confirm": true});
    assert_eq!(at(other), ["partition_tolerance.startup_confirm"]);
    let quorum = json!({"type": "majority_quorum", "initial_cluster_size": 3});
    let unnamed = json!({"hub_id": "o", "node": {}, "partition_tolerance": quorum});
    assert!(problem_at(&unnamed, "node.name").contains("members are counted by name"));
}

#[test]
fn timers_of_the_table_then_equal_to_the_lan_profile() {
    let config = json!({"hub_id": "orders", "profile": {}});
    let config = HubConfig::from_json(&config).expect("valid");
    assert_eq!(config.profile, Profile::lan());
    for profile in [Profile::fast(), Profile::lan(), Profile::wan()] {
        let config = HubConfig::new("orders").expect("valid id");
        assert_eq!(config.with_profile(profile).validate(), Ok(()));
    }
}

#[test]
fn number_out_of_range_then_refused_at_its_path_in_json_and_rust_alike() {
    for entry in TABLE {
        let Entry::Number(option) = entry else {
            continue;
        };
        let mut wrong = vec![json!(option.max + 1), json!(-1), json!(1.5), json!("1"), json!(true), json!([])];
        if option.min > 0 {
            wrong.push(json!(option.min - 1));
        }
        for value in wrong {
            let document = document_with(option.path, value.clone());
            let found = paths(&document);
            assert_eq!(found, [option.path], "{value} is refused");
        }
        let refused: BTreeSet<u64> = [option.min, option.default, option.max]
            .into_iter()
            .filter(|value| option.refusal(*value).is_some())
            .collect();
        assert_eq!(refused, BTreeSet::new(), "{}", option.path);
    }
}

#[test]
fn number_at_its_bounds_then_accepted() {
    for entry in TABLE {
        let Entry::Number(option) = entry else {
            continue;
        };
        for value in [option.min, option.max] {
            let mut document = document_with(option.path, json!(value));
            if option.path == "profile.probe_period_ms" {
                document["profile"]["probe_timeout_ms"] = json!(value - 1);
            }
            if option.path == "profile.probe_timeout_ms" {
                document["profile"]["probe_period_ms"] = json!((value + 1).clamp(10, 60_000));
                document["profile"]["probe_timeout_ms"] = json!(value.min(59_999));
            }
            let read = HubConfig::from_json(&document);
            assert!(read.is_ok(), "{} = {value}: {read:?}", option.path);
        }
    }
}

#[test]
fn flag_that_is_no_boolean_then_refused_at_its_path() {
    for entry in TABLE {
        let Entry::Flag(option) = entry else {
            continue;
        };
        for value in [json!(1), json!("true"), json!([])] {
            assert_eq!(paths(&document_with(option.path, value)), [option.path]);
        }
    }
}

#[test]
fn fraction_out_of_range_then_refused_at_its_path_in_json_and_rust_alike() {
    for entry in TABLE {
        let Entry::Fraction(option) = entry else {
            continue;
        };
        for value in [json!(-0.1), json!(1.001), json!("0.5"), json!(true), json!([])] {
            assert_eq!(paths(&document_with(option.path, value)), [option.path]);
        }
        for value in [json!(0), json!(0.25), json!(1)] {
            assert_eq!(HubConfig::from_json(&document_with(option.path, value)).map(|_| ()), Ok(()));
        }
    }
    for factor in [-0.1, 1.5, f64::NAN] {
        let distribution = Distribution::load_balanced().with_history(3, factor);
        let config = HubConfig::new("orders").expect("valid id").with_distribution(distribution);
        assert!(config.validate().is_err(), "{factor}");
    }
}

#[test]
fn strategy_of_a_later_version_then_named_as_not_available() {
    for entry in TABLE {
        let Entry::Family(family) = entry else {
            continue;
        };
        for name in family.later {
            // Its options are known to the contract, so they are no unknown keys either.
            let document = json!({"hub_id": "orders", (family.key): {"type": name, "quorum_size": 3}});
            let what = problem_at(&document, &format!("{}.type", family.key));
            assert!(what.contains("not available in this version"), "{what}");
            assert_eq!(paths(&document).len(), 1);
        }
        let document = json!({"hub_id": "orders", (family.key): {"type": "nonsense"}});
        let what = problem_at(&document, &format!("{}.type", family.key));
        assert!(what.starts_with("must be one of"), "{what}");
        let document = json!({"hub_id": "orders", (family.key): {}});
        let what = problem_at(&document, &format!("{}.type", family.key));
        assert!(what.starts_with("is required"), "{what}");
    }
}

#[test]
fn migration_the_host_orders_then_a_name_and_a_built_in_base() {
    let read = |migration: Value| HubConfig::from_json(&json!({"hub_id": "o", "migration": migration}));
    let cold = read(json!({"type": "custom", "name": "mine"})).expect("the base has a default");
    assert_eq!(cold.migration, Migration::hosted("mine", Migration::cold_swap()));
    let hot = read(json!({"type": "custom", "name": "mine", "base": {"type": "hot_swap", "handover": true}}));
    assert!(hot.expect("valid").migration.hands_over(), "the base's options hold");

    let problem = |migration: Value, path: &str| problem_at(&json!({"hub_id": "o", "migration": migration}), path);
    assert_eq!(problem(json!({"type": "custom"}), "migration.name"), "is required");
    assert_eq!(problem(json!({"type": "custom", "name": ""}), "migration.name"), "must have 1 to 255 bytes");
    let nested = json!({"type": "custom", "name": "a", "base": {"type": "custom", "name": "b"}});
    assert_eq!(problem(nested, "migration.base.type"), "must be a built-in");
    let base = json!({"type": "custom", "name": "a", "base": {"type": "cold_swap", "retention_ms": 1, "handover": 1}});
    assert_eq!(
        paths(&json!({"hub_id": "o", "migration": base})),
        ["migration.base.handover", "migration.base.retention_ms"]
    );
    let beside = json!({"type": "custom", "name": "a", "handover": true});
    assert_eq!(problem(beside, "migration.handover"), "is not an option");
    let nested = Migration::hosted("a", Migration::hosted("b", Migration::cold_swap()));
    assert!(HubConfig::new("o").expect("valid id").with_migration(nested).validate().is_err());
}

#[test]
fn dns_seed_and_mtls_then_named_as_not_available() {
    let document = json!({"hub_id": "orders", "node": {
        "seeds": ["127.0.0.1:7400", "dns:orders:7400", "file:/run/seeds"],
        "security": {"mode": "mtls", "ca_file": "ca.pem"},
    }});
    assert_eq!(paths(&document), ["node.security.mode", "node.seeds[1]"]);
    for path in ["node.security.mode", "node.seeds[1]"] {
        assert!(problem_at(&document, path).contains("not available in this version"));
    }
}

#[test]
fn misspelt_keys_then_the_meant_one_is_named() {
    for (document, path, meant) in [
        (json!({"hub_id": "o", "redundency": {}}), "redundency", "redundancy"),
        (json!({"hub_id": "o", "hostThreads": 2}), "hostThreads", "host_threads"),
        (json!({"hub_id": "o", "shutdown_timeout": 2}), "shutdown_timeout", "shutdown_timeout_ms"),
        (json!({"hub_id": "o", "node": {"listn": "x"}}), "node.listn", "listen"),
    ] {
        let what = problem_at(&document, path);
        assert!(what.contains(&format!("did you mean `{meant}`?")), "{what}");
    }
    let what = problem_at(&json!({"hub_id": "o", "colour": "red"}), "colour");
    assert_eq!(what, "is not an option");
}

#[test]
fn option_of_the_other_migration_then_told_whose_it_is() {
    let document = json!({"hub_id": "o", "migration": {"type": "cold_swap", "retention_ms": 5}});
    let what = problem_at(&document, "migration.retention_ms");
    assert_eq!(what, "is an option of hot_swap, not of cold_swap");
}

#[test]
fn bad_static_children_then_every_problem_has_its_index() {
    let document = json!({"hub_id": "o", "child_specs": [
        {"id": "a", "kind": "cart"},
        {"kind": "cart", "shutdwn_ms": 3},
        {"id": "a", "kind": "cart"},
        "cart",
        {"id": "b", "kind": "cart", "restart": "sometimes"},
        {"id": "", "kind": 3, "metadata": [], "require": {"zone": 1}},
    ]});
    assert_eq!(
        paths(&document),
        [
            "child_specs[1].id",
            "child_specs[1].shutdwn_ms",
            "child_specs[2].id",
            "child_specs[3]",
            "child_specs[4]",
            "child_specs[5].id",
            "child_specs[5].kind",
            "child_specs[5].metadata",
            "child_specs[5].require.zone",
        ]
    );
}

#[test]
fn addresses_then_only_loopback_without_plaintext() {
    let listen =
        |listen: &str, mode: &str| json!({"hub_id": "o", "node": {"listen": listen, "security": {"mode": mode}}});
    for good in ["127.0.0.1:0", "127.9.0.1:7400", "[::1]:0", "localhost:7400"] {
        assert!(HubConfig::from_json(&listen(good, "key")).is_ok(), "{good}");
    }
    for bad in [
        "0.0.0.0:0",
        "[::]:0",
        "10.0.0.1:7400",
        "example.org:7400",
        "localhost",
        ":7400",
        "127.0.0.1:65536",
        "::1:7400",
        "[::1",
        "127.0.0.1: 1",
    ] {
        assert_eq!(paths(&listen(bad, "key")), ["node.listen"], "{bad}");
    }
    assert!(HubConfig::from_json(&listen("0.0.0.0:7400", "insecure_plaintext")).is_ok());
}

#[test]
fn weight_that_is_no_share_then_refused() {
    for bad in [json!(0), json!(-1), json!(1000.5), json!("1"), json!(1e300)] {
        assert_eq!(paths(&document_with("node.weight", bad)), ["node.weight"]);
    }
    let nan = NodeConfig::default().with_weight(f64::NAN);
    let config = HubConfig::new("o").expect("valid id").with_node(nan);
    assert!(config.validate().is_err());
}

#[test]
fn document_that_is_no_object_then_refused_as_a_whole() {
    for document in [json!(null), json!([]), json!("orders"), json!(3)] {
        assert!(paths(&document).contains(&"$".to_owned()), "{document}");
    }
    assert_eq!(paths(&json!({})), ["hub_id"]);
    assert_eq!(paths(&json!({"hub_id": ""})), ["hub_id"]);
    assert_eq!(paths(&json!({"hub_id": "x".repeat(256)})), ["hub_id"]);
}

#[test]
fn thousands_of_unknown_keys_then_the_message_stays_bounded() {
    let mut document = json!({"hub_id": "o"});
    for index in 0..5_000 {
        document[format!("unknown_{index}_{}", "x".repeat(500))] = json!(1);
    }
    let error = HubConfig::from_json(&document).expect_err("unknown keys");
    assert!(error.message.contains("has 5000 problems"));
    assert!(error.message.ends_with("and 4936 more"), "{}", error.message);
    assert!(error.message.len() < 64 * 1024);
}

#[test]
fn table_then_it_names_every_key_of_the_document() {
    let config = HubConfig::new("o")
        .expect("valid id")
        .with_node(NodeConfig::default().with_security(Security::Key { key_file: "key".into() }));
    let documented: BTreeSet<String> = options().into_iter().map(|option| option.path).collect();
    let hosted = Migration::hosted("mine", Migration::hot_swap());
    let migrations = [Migration::cold_swap(), Migration::hot_swap(), hosted];
    let quorums = [
        PartitionTolerance::static_quorum(2),
        PartitionTolerance::dynamic_quorum(60),
        PartitionTolerance::majority_quorum(3),
    ];
    let configs = migrations.map(|migration| config.clone().with_migration(migration)).into_iter();
    for config in configs.chain(quorums.map(|quorum| config.clone().with_partition_tolerance(quorum))) {
        for path in leaf_paths("", &config.to_json()) {
            assert!(documented.contains(&path), "{path} is in the table");
        }
    }
}

fn leaf_paths(path: &str, value: &Value) -> Vec<String> {
    match value.as_object() {
        Some(object) if !["node.labels", "migration.base"].contains(&path) => object
            .iter()
            .flat_map(|(key, value)| {
                let separator = if path.is_empty() { "" } else { "." };
                leaf_paths(&format!("{path}{separator}{key}"), value)
            })
            .collect(),
        Some(_) | None => vec![path.to_owned()],
    }
}
