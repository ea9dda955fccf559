//! Stops that a split undoes.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bench;

use std::time::Duration;

use bench::{Bench, spec};
use process_hub::config::HubConfig;
use process_hub::engine::{Input, StartOptions};
use process_hub::ids::NodeRef;
use process_hub::observe::HookName;
use serde_json::json;

const MOMENT: Duration = Duration::from_secs(2);

/// `a` is cut off. There the child is stopped; on the other side it is stopped and started anew, later, by a node that
/// is gone when the sides meet.
#[test]
fn r1_the_other_side_started_the_child_anew_then_stop_undone_tells_where_it_was_stopped() {
    let (mut bench, nodes) = Bench::of(HubConfig::new("orders").unwrap(), &["a", "b", "c"]);
    let a = nodes[0].clone();
    assert_eq!(bench.start(&a, vec![spec("cart")], StartOptions::default()).unwrap().errors, []);
    for other in &nodes[1..] {
        bench.suspect(&a, other);
        bench.suspect(other, &a);
    }
    bench.pass(MOMENT);
    assert_eq!(bench.stop(&a, &["cart"]).errors, []);
    assert_eq!(bench.stop(&nodes[1], &["cart"]).errors, []);
    let started = bench.start(&nodes[1], vec![spec("cart")], StartOptions::default()).unwrap();
    let author = started.started[0].instances[0].node.clone();
    let is_author = |node: &&NodeRef| node.name == author;
    let author = nodes.iter().find(is_author).unwrap().clone();
    let survivor = nodes[1..].iter().find(|node| !is_author(node)).unwrap().clone();
    bench.kill(&author);
    bench.pass(MOMENT);
    assert_eq!(bench.nodes_of(&survivor, "cart"), [survivor.name.as_str()]);
    bench.hooks.clear();
    bench.give(&a, Input::NodeUp(survivor.clone()));
    bench.give(&survivor, Input::NodeUp(a.clone()));
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.fired(&a, HookName::StopUndone), [&json!({"child_id": "cart"})]);
    assert!(bench.fired(&survivor, HookName::StopUndone).is_empty(), "it undid nothing there");
    assert_eq!(bench.nodes_of(&a, "cart").len(), 1);
}
