//! The placement rule against its golden vectors and against a second implementation.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use process_hub::ids::{Incarnation, KindName, NodeName, NodeRef};
use process_hub::spec::ChildSpec;
use process_hub::strategy::{Candidate, ConsistentHashing, Distribution, Placements};
use process_hub_tests::reference_placement::{ReferenceNode, place};
use proptest::prelude::*;
use serde_json::{Value, json};

#[test]
fn golden_vectors_then_placement_and_reference_agree_with_them() {
    let document = read_vectors();
    for key in ["source", "reason"] {
        assert!(document[key].as_str().is_some_and(|it| !it.is_empty()), "{key}");
    }
    let mut placed_count = 0;
    for case in document["vectors"].as_array().expect("vectors") {
        let name = case["case"].as_str().expect("case");
        let Case { nodes, children, factor } = read_case(case);
        let expected: Vec<Vec<&str>> =
            children.iter().map(|child| texts(&case["expected"][child.id.as_str()])).collect();
        assert_eq!(names(&real(&nodes, &children, factor)), expected, "{name}");
        assert_eq!(names(&reference(&nodes, &children, factor)), expected, "{name}");
        placed_count += expected.len();
    }
    assert!(placed_count > 100, "the file has only {placed_count}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_cluster_then_placement_agrees_with_the_reference(
        (nodes, children) in (cluster(), prop::collection::vec(child(), 1..20)),
        factor in 0usize..8,
    ) {
        prop_assert_eq!(
            real(&nodes, &children, factor),
            reference(&nodes, &children, factor)
        );
    }
}

/// Writes `expected` of each case anew. Only for new cases: see `reason` in the file.
#[test]
#[ignore = "writes tests/vectors/placement.json"]
fn write_expectations() {
    let mut document = read_vectors();
    for case in document["vectors"].as_array_mut().expect("vectors") {
        let Case { nodes, children, factor } = read_case(case);
        for (child, chosen) in children.iter().zip(names(&real(&nodes, &children, factor))) {
            case["expected"][child.id.as_str()] = json!(chosen);
        }
    }
    let text = lay_out(&document, 0) + "\n";
    std::fs::write(vectors_path(), text).expect("write the vectors");
}

/// JSON with one line per node and per placement.
fn lay_out(value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth + 1);
    let (open, items, close) = match value {
        Value::Array(items) if depth < 4 => {
            let items = items.iter().map(|it| format!("{indent}{}", lay_out(it, depth + 1)));
            ("[", items.collect::<Vec<_>>(), "]")
        }
        Value::Object(items) if depth < 4 => {
            let items = items.iter().map(|(key, it)| format!("{indent}{}: {}", json!(key), lay_out(it, depth + 1)));
            ("{", items.collect(), "}")
        }
        Value::Array(_) | Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return value.to_string();
        }
    };
    if items.is_empty() {
        return format!("{open}{close}");
    }
    format!("{open}\n{}\n{}{close}", items.join(",\n"), "  ".repeat(depth))
}

struct Case {
    nodes: Vec<ReferenceNode>,
    children: Vec<ChildSpec>,
    factor: usize,
}

fn vectors_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors/placement.json")
}

fn read_vectors() -> Value {
    let text = std::fs::read_to_string(vectors_path()).expect("read the vectors");
    serde_json::from_str(&text).expect("the vectors are JSON")
}

fn texts(value: &Value) -> Vec<&str> {
    let list = value.as_array().expect("a list");
    list.iter().map(|it| it.as_str().expect("a text")).collect()
}

fn labels(value: &Value) -> BTreeMap<String, String> {
    let object = value.as_object().expect("an object");
    let text = |it: &Value| it.as_str().expect("a text").to_owned();
    object.iter().map(|(key, it)| (key.clone(), text(it))).collect()
}

fn read_case(case: &Value) -> Case {
    let nodes = case["nodes"].as_array().expect("nodes").iter().map(|it| {
        node(
            it["name"].as_str().expect("name"),
            1,
            u32::try_from(it["weight"].as_u64().expect("weight")).expect("a small weight"),
            labels(&it["labels"]),
            &texts(&it["kinds"]),
        )
    });
    let kind = case["kind"].as_str().expect("kind");
    let children = case["expected"].as_object().expect("expected").keys();
    Case {
        nodes: nodes.collect(),
        children: children
            .map(|id| {
                let mut spec = ChildSpec::new(id, kind).expect("a valid spec");
                spec.require = labels(&case["require"]);
                spec
            })
            .collect(),
        factor: usize::try_from(case["factor"].as_u64().expect("factor")).expect("a small factor"),
    }
}

fn node(name: &str, incarnation: u64, weight: u32, labels: BTreeMap<String, String>, kinds: &[&str]) -> ReferenceNode {
    ReferenceNode {
        node: NodeRef { name: NodeName::new(name).expect("a valid name"), incarnation: Incarnation(incarnation) },
        weight,
        labels,
        kinds: kinds.iter().map(|kind| KindName::new(*kind).expect("a valid kind")).collect::<BTreeSet<_>>(),
    }
}

fn real<'a>(nodes: &'a [ReferenceNode], children: &[ChildSpec], factor: usize) -> Vec<Vec<&'a NodeRef>> {
    let candidates: Vec<_> = nodes
        .iter()
        .map(|it| Candidate { node: &it.node, weight: it.weight, labels: &it.labels, kinds: &it.kinds })
        .collect();
    let children: Vec<_> = children.iter().collect();
    let mut placements = Placements::new();
    ConsistentHashing.place(&candidates, &children, factor, &mut placements);
    placements.check(&candidates, &children, factor).expect("the built-in answers well");
    let node = |&index: &u32| &nodes[index as usize].node;
    placements.iter().map(|chosen| chosen.iter().map(node).collect()).collect()
}

fn reference<'a>(nodes: &'a [ReferenceNode], children: &[ChildSpec], factor: usize) -> Vec<Vec<&'a NodeRef>> {
    children.iter().map(|child| place(nodes, child, factor)).collect()
}

fn names<'a>(placements: &[Vec<&'a NodeRef>]) -> Vec<Vec<&'a str>> {
    placements.iter().map(|chosen| chosen.iter().map(|node| node.name.as_str()).collect()).collect()
}

/// Up to 12 nodes with few kinds, labels and zones; two of them may be incarnations of one name.
fn cluster() -> impl Strategy<Value = Vec<ReferenceNode>> {
    let one = (
        "[a-h]{1,2}",
        1u64..3,
        prop_oneof![Just(1000u32), 0u32..5000],
        prop::option::of(prop::sample::select(vec!["z1", "z2", "z3"])),
        prop::bool::ANY,
        prop::sample::subsequence(vec!["cart", "user"], 0..=2),
    )
        .prop_map(|(name, incarnation, weight, zone, has_disk, kinds)| {
            let zone = zone.map(|zone| ("zone".to_owned(), zone.to_owned()));
            let disk = has_disk.then(|| ("disk".to_owned(), "ssd".to_owned()));
            node(&name, incarnation, weight, zone.into_iter().chain(disk).collect(), &kinds)
        });
    prop::collection::vec(one, 0..12).prop_map(|mut nodes| {
        let mut known = BTreeSet::new();
        nodes.retain(|it| known.insert(it.node.clone()));
        nodes
    })
}

fn child() -> impl Strategy<Value = ChildSpec> {
    let kind = prop::sample::select(vec!["cart", "user"]);
    let require = prop_oneof![
        3 => Just(BTreeMap::new()),
        1 => Just(BTreeMap::from([("disk".to_owned(), "ssd".to_owned())])),
    ];
    ("\\PC{1,12}", kind, require).prop_map(|(id, kind, require)| {
        let mut spec = ChildSpec::new(&id, kind).expect("a valid spec");
        spec.require = require;
        spec
    })
}
