//! The table of errors against the vectors that every language loads.

use process_hub::error::ErrorKind;
use serde_json::Value;

#[test]
fn table_of_errors_then_the_vectors_have_every_number_and_kind() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/errors.json");
    let text = std::fs::read_to_string(path).expect("the vectors are there");
    let vectors: Value = serde_json::from_str(&text).expect("the vectors are JSON");
    let wanted: Vec<(u64, &str)> = vectors["errors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| (row["number"].as_u64().expect("a number"), row["kind"].as_str().expect("a text")))
        .collect();
    let found: Vec<(u64, &str)> = ErrorKind::ALL.iter().map(|kind| (u64::from(kind.number()), kind.name())).collect();
    assert_eq!(found, wanted);
}
