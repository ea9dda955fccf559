//! Vectors that every language loads: the table of errors, the shapes of results, and what a port may be sent.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests that run in real time, over real sockets"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use process_hub::engine::{PlanChange, StartOptions};
use process_hub::error::{Error, ErrorKind};
use process_hub::spec::ChildSpec;
use process_hub_tests::cluster::{Cluster, PATIENCE};
use process_hub_tests::shapes::{check, names, read_vectors};
use serde::Serialize;
use serde_json::{Value, json};

#[test]
fn table_of_errors_then_these_numbers_and_names() {
    let vectors = read_vectors("errors.json");
    let table: Vec<Value> =
        ErrorKind::ALL.iter().map(|kind| json!({"number": kind.number(), "kind": kind.name()})).collect();
    assert_eq!(vectors["errors"], json!(table));
}

fn document(value: impl Serialize) -> Value {
    serde_json::to_value(value).unwrap()
}

#[test]
fn results_then_of_these_shapes() {
    let cluster = Cluster::of(&["a", "b"]);
    let hub = &cluster.hubs[0];
    let specs = vec![ChildSpec::new("c", "counter").unwrap(), ChildSpec::new("d", "nobody has it").unwrap()];
    let id = specs[0].id.clone();
    let started = hub.start_children(specs, StartOptions::default()).wait().unwrap();
    let row = hub.child_lookup("c").unwrap();
    let plan = hub.plan(PlanChange::Leave(vec![row.instances[0].node.clone()])).wait().unwrap();
    let shown = [
        ("Row", document(&*row)),
        ("StartResult", document(&started)),
        ("Started", document(&started.started[0])),
        ("ChildError", document(&started.errors[0])),
        ("Children", document(hub.which_children_global(PATIENCE).wait().unwrap())),
        ("Where", hub.where_is(&id).wait().unwrap()),
        ("PlannedMove", plan["moves"][0].clone()),
        ("Plan", plan),
        ("DebugStats", document(hub.debug_stats())),
        ("StopResult", document(hub.stop_children(vec![id], PATIENCE).wait().unwrap())),
        ("DrainReport", document(hub.drain(PATIENCE).wait().unwrap())),
        ("Error", Error::new(ErrorKind::Timeout, "call", "late").with_node("a").to_json()),
    ];
    for (shape, value) in shown {
        assert_eq!(check(shape, &value), Ok(()), "{shape}");
    }
    assert!(names().count() > 20);
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn bytes_at_the_port_then_answered_or_closed_and_the_hub_lives() {
    let vectors = read_vectors("frames.json");
    let cluster = Cluster::of(&["a"]);
    let reply = bytes(&vectors["reply"]);
    for case in vectors["cases"].as_array().unwrap() {
        let mut stream = TcpStream::connect(cluster.hubs[0].address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&bytes(&case["bytes"])).unwrap();
        match case["then"].as_str().unwrap() {
            "answers" => {
                let mut begin = vec![0; reply.len()];
                stream.read_exact(&mut begin).unwrap_or_else(|error| panic!("{}: {error}", case["name"]));
                assert_eq!(begin, reply, "{}", case["name"]);
            }
            "closes" => {
                let mut rest = Vec::new();
                // A reset is an end, too: bytes of ours were left unread.
                let end = stream.read_to_end(&mut rest);
                let is_timeout = end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
                assert!(!is_timeout, "{}: not closed within {PATIENCE:?}", case["name"]);
                assert!(rest.is_empty() || rest.starts_with(&reply[..8]), "{}: {rest:?}", case["name"]);
            }
            other => panic!("no such outcome: {other}"),
        }
    }
    assert!(cluster.hubs[0].is_alive());
    assert!(cluster.hubs[0].stop(Duration::from_secs(20)).is_ok());
}
