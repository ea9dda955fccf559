//! Any document: an answer and never a panic, and what is accepted reads back.

use proptest::prelude::*;

use super::*;

fn any_number(path: &'static str) -> BoxedStrategy<Value> {
    let found = TABLE.iter().find_map(|entry| match entry {
        Entry::Number(option) if option.path == path => Some(*option),
        Entry::Number(_) | Entry::Flag(_) | Entry::Fraction(_) | Entry::Family(_) | Entry::Described(_) => None,
    });
    let option = found.expect("the option is in the table");
    (option.min..=option.max).prop_map(Value::from).boxed()
}

fn any_migration() -> BoxedStrategy<Value> {
    let cold = (any::<bool>(), any_number("migration.handover_data_wait_ms"))
        .prop_map(|(handover, wait)| json!({"type": "cold_swap", "handover": handover, "handover_data_wait_ms": wait}));
    let hot = (
        any::<bool>(),
        any::<bool>(),
        any_number("migration.handover_data_wait_ms"),
        any_number("migration.retention_ms"),
        any_number("migration.child_migration_timeout_ms"),
    )
        .prop_map(|(handover, confirm, wait, retention, timeout)| {
            json!({
                "type": "hot_swap", "handover": handover, "confirm_handover": confirm,
                "handover_data_wait_ms": wait, "retention_ms": retention,
                "child_migration_timeout_ms": timeout,
            })
        });
    let built_in = prop_oneof![cold, hot];
    let hosted = ("[a-z]{1,20}", built_in.clone())
        .prop_map(|(name, base)| json!({"type": "custom", "name": name, "base": base}));
    prop_oneof![built_in, hosted].boxed()
}

prop_compose! {
    fn any_document()(
        hub_id in "[a-z:]{1,40}",
        migration in any_migration(),
        sync_interval in any_number("synchronization.sync_interval_ms"),
        max_restarts in any_number("restart.max_restarts"),
        window in any_number("restart.window_ms"),
        backoff in (0u64..1000, 1000u64..3_600_000),
        discover in any_number("hubs_discover_interval_ms"),
        host_threads in any_number("host_threads"),
        profile in prop_oneof![Just(json!("fast")), Just(json!("wan")), Just(json!({"suspicion_ms": 900}))],
        name in proptest::option::of("[a-z]{1,20}"),
        weight in 0.001f64..1000.0,
        labels in proptest::collection::btree_map("[a-z]{1,5}", "[a-z0-9]{1,5}", 0..4),
    ) -> Value {
        json!({
            "hub_id": hub_id,
            "node": {"name": name, "weight": weight, "labels": labels, "seeds": ["a:1", "file:s"]},
            "child_specs": [{"id": "c", "kind": "k", "args": [1, {"x": null}], "metadata": {"tag": "t"}}],
            "migration": migration,
            "synchronization": {"type": "pub_sub", "sync_interval_ms": sync_interval},
            "restart": {"max_restarts": max_restarts, "window_ms": window, "backoff_ms": [backoff.0, backoff.1]},
            "hubs_discover_interval_ms": discover,
            "host_threads": host_threads,
            "profile": profile,
        })
    }
}

/// Any JSON, with keys that are options now and then.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        3 => proptest::sample::select(vec![
            "hub_id", "node", "name", "listen", "seeds", "security", "mode", "child_specs", "id", "kind",
            "migration", "type", "base", "restart", "backoff_ms", "profile", "labels", "weight", "require", "args",
        ]).prop_map(str::to_owned),
        1 => ".{0,8}",
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(key.clone(), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn accepted_document_then_writing_and_reading_it_changes_nothing(document in any_document()) {
        let config = HubConfig::from_json(&document);
        prop_assert!(config.is_ok(), "{:?}", config);
        let config = config.expect("checked above");
        prop_assert_eq!(config.validate(), Ok(()));
        prop_assert_eq!(HubConfig::from_json(&config.to_json()), Ok(config));
    }

    #[test]
    fn any_json_then_an_answer_and_never_a_panic(document in any_json()) {
        if let Err(error) = HubConfig::from_json(&document) {
            prop_assert_eq!(error.kind, ErrorKind::InvalidConfig);
        }
    }
}
