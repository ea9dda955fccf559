//! The configuration documents every language must accept or refuse alike.

use std::path::Path;

use process_hub::config::{HubConfig, NodeSetup, Problem};
use process_hub::error::{Error, ErrorKind};
use serde_json::Value;

fn cases(list: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/config.json");
    let text = std::fs::read_to_string(path).expect("the vectors are there");
    let vectors: Value = serde_json::from_str(&text).expect("the vectors are JSON");
    for key in ["source", "reason"] {
        assert!(vectors[key].is_string(), "the vectors say their {key}");
    }
    let cases = vectors[list].as_array().expect("a list of cases").clone();
    assert!(!cases.is_empty());
    cases
}

#[test]
fn documents_to_accept_then_accepted_and_written_back_unchanged() {
    for case in cases("accept") {
        let name = &case["name"];
        let config = HubConfig::from_json(&case["doc"]).unwrap_or_else(|e| panic!("{name}: {e}"));
        let again = HubConfig::from_json(&config.to_json());
        assert_eq!(again.as_ref(), Ok(&config), "{name}");
    }
}

#[test]
fn documents_to_refuse_then_refused_with_exactly_these_paths() {
    for case in cases("reject") {
        let name = &case["name"];
        let problems = HubConfig::check_json(&case["doc"]).expect_err(&name.to_string());
        check_refusal(&case, &problems, &HubConfig::from_json(&case["doc"]).expect_err(&name.to_string()));
    }
}

/// The problems are at the paths that the case says, and all are in the error.
fn check_refusal(case: &Value, problems: &[Problem], error: &Error) {
    let mut paths: Vec<&str> = problems.iter().map(|p| p.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(Value::from(paths), case["paths"], "{}", case["name"]);
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
    for problem in problems {
        assert!(error.message.contains(&problem.to_string()), "{}: {error}", case["name"]);
    }
}

#[test]
fn nodes_of_their_own_then_accepted_or_refused_with_exactly_these_paths() {
    for case in cases("accept_node") {
        NodeSetup::from_json(&case["doc"]).unwrap_or_else(|error| panic!("{}: {error}", case["name"]));
    }
    for case in cases("reject_node") {
        let name = case["name"].to_string();
        let problems = NodeSetup::check_json(&case["doc"]).expect_err(&name);
        check_refusal(&case, &problems, &NodeSetup::from_json(&case["doc"]).expect_err(&name));
    }
}

#[test]
fn text_that_is_no_json_then_refused_as_a_configuration() {
    for error in [HubConfig::from_text("{").expect_err("no JSON"), NodeSetup::from_text("{").expect_err("no JSON")] {
        assert_eq!(error.kind, ErrorKind::InvalidConfig);
        assert!(error.message.contains("$: is not JSON"), "{error}");
    }
}
