//! The configuration documents every language must accept or refuse alike.

use std::path::Path;

use process_hub::config::HubConfig;
use process_hub::error::ErrorKind;
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
        let mut paths: Vec<&str> = problems.iter().map(|p| p.path.as_str()).collect();
        paths.sort_unstable();
        let wanted: Vec<&str> = case["paths"]
            .as_array()
            .expect("paths")
            .iter()
            .map(|path| path.as_str().expect("a path is a text"))
            .collect();
        assert_eq!(paths, wanted, "{name}");
        let error = HubConfig::from_json(&case["doc"]).expect_err(&name.to_string());
        assert_eq!(error.kind, ErrorKind::InvalidConfig);
        for problem in &problems {
            assert!(error.message.contains(&problem.to_string()), "{name}: {error}");
        }
    }
}
