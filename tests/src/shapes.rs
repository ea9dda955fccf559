//! The shapes of results (tests/vectors/results.json).

use std::path::Path;
use std::sync::LazyLock;

use serde_json::Value;

static SHAPES: LazyLock<Value> = LazyLock::new(|| {
    let vectors = read_vectors("results.json");
    assert!(vectors["shapes"].is_object(), "results.json has shapes");
    vectors["shapes"].clone()
});

/// A file of tests/vectors, which says its source and its reason.
///
/// # Panics
/// If the file is not there or is not such a file.
#[must_use]
pub fn read_vectors(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let vectors: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for key in ["source", "reason"] {
        assert!(vectors[key].as_str().is_some_and(|text| !text.is_empty()), "{name} says its {key}");
    }
    vectors
}

/// The names of all shapes.
pub fn names() -> impl Iterator<Item = &'static str> {
    SHAPES.as_object().into_iter().flat_map(|shapes| shapes.keys().map(String::as_str))
}

/// Says where a value differs from the shape of this name, or of one of `A | B`.
///
/// # Errors
/// The path in the value, and what was expected there.
pub fn check(shape: &str, value: &Value) -> Result<(), String> {
    named(shape, value, "$")
}

fn named(shape: &str, value: &Value, path: &str) -> Result<(), String> {
    if let Some((first, second)) = shape.split_once(" | ") {
        return named(first, value, path).or_else(|_| named(second, value, path));
    }
    let is_right = match shape {
        "any" => true,
        "text" => value.is_string(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        name => {
            let shape = SHAPES.get(name).unwrap_or_else(|| panic!("results.json has no shape {name}"));
            return given(shape, value, path);
        }
    };
    if is_right { Ok(()) } else { Err(format!("{path} must be {shape}, not {value}")) }
}

fn given(shape: &Value, value: &Value, path: &str) -> Result<(), String> {
    match (shape, value) {
        (Value::String(name), value) => named(name, value, path),
        (Value::Array(item), Value::Array(values)) => {
            values.iter().enumerate().try_for_each(|(index, value)| given(&item[0], value, &format!("{path}[{index}]")))
        }
        (Value::Object(shapes), Value::Object(values)) => {
            if let Some(each) = shapes.get("*") {
                return values.iter().try_for_each(|(key, value)| given(each, value, &format!("{path}.{key}")));
            }
            let (wanted, found): (Vec<_>, Vec<_>) = (shapes.keys().collect(), values.keys().collect());
            if wanted != found {
                return Err(format!("{path} must have the keys {wanted:?}, not {found:?}"));
            }
            shapes.iter().try_for_each(|(key, shape)| given(shape, &values[key], &format!("{path}.{key}")))
        }
        (shape, value) => Err(format!("{path} must be {shape}, not {value}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn value_of_the_shape_then_nothing_to_say() {
        let row = json!({"id": "c", "nodes": ["a"]});
        assert_eq!(check("StopResult", &json!({"status": "ok", "stopped": [row], "errors": []})), Ok(()));
        assert_eq!(check("Row | null", &json!(null)), Ok(()));
        assert_eq!(check("Children", &json!({"a": ["c"], "b": []})), Ok(()));
    }

    #[test]
    fn key_too_many_or_of_a_wrong_type_then_its_path() {
        let why = check("StopResult", &json!({"status": "ok", "stopped": [{"id": "c", "nodes": [7]}], "errors": []}));
        assert!(why.unwrap_err().starts_with("$.stopped[0].nodes[0] must be text"));
        assert!(check("Plan", &json!({"moves": [], "more": 1})).unwrap_err().contains("keys"));
        assert!(check("Row | null", &json!({})).is_err());
        assert!(check("Children", &json!([])).is_err());
    }

    #[test]
    fn every_shape_then_made_of_shapes_that_are_there() {
        fn visit(shape: &Value) {
            match shape {
                Value::String(names) => {
                    for name in names.split(" | ") {
                        let basic = ["any", "text", "number", "boolean", "null"];
                        assert!(basic.contains(&name) || SHAPES.get(name).is_some(), "{name}");
                    }
                }
                Value::Array(items) => items.iter().for_each(visit),
                Value::Object(shapes) => shapes.values().for_each(visit),
                Value::Null | Value::Bool(_) | Value::Number(_) => panic!("{shape} is no shape"),
            }
        }
        visit(&SHAPES);
        assert!(names().count() > 20);
    }
}
