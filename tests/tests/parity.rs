//! The parity table: every operation, option, hook and error, with a name that exists in each language.
//!
//! Names are looked up in the sources as text, so that a language need not be built to be checked.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use process_hub::config::options;
use process_hub::error::ErrorKind;
use process_hub::observe::HookName;
use toml::Table;

/// The languages of the contract.
const LANGUAGES: [&str; 4] = ["rust", "python", "c", "node"];

/// The operations of the contract (design/api.md §3).
const OPERATIONS: [&str; 30] = [
    "start_child",
    "start_children",
    "stop_child",
    "stop_children",
    "child_lookup",
    "process_registry",
    "which_children",
    "tag_query",
    "metadata_query",
    "nodes",
    "node_name",
    "address",
    "is_alive",
    "is_locked",
    "is_partitioned",
    "call",
    "send",
    "on",
    "intercept",
    "off",
    "register",
    "drain",
    "stop",
    "where",
    "plan",
    "sync",
    "metrics_text",
    "debug_stats",
    "reset_cluster_size",
    "acknowledge_loss",
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn table() -> Table {
    let path = repository().join("tests/parity.toml");
    let text = std::fs::read_to_string(path).expect("the table is there");
    text.parse().expect("the table is TOML")
}

fn rows<'a>(table: &'a Table, list: &str) -> Vec<&'a Table> {
    let rows = table[list].as_array().expect("a list of rows");
    rows.iter().map(|row| row.as_table().expect("a row")).collect()
}

fn text<'a>(row: &'a Table, key: &str) -> Option<&'a str> {
    row.get(key).map(|value| value.as_str().expect("a text"))
}

fn assert_names<T: Into<String>>(list: &str, wanted: impl IntoIterator<Item = T>) {
    let table = table();
    let rows = rows(&table, list);
    let found: BTreeSet<_> = rows.iter().filter_map(|row| text(row, "name")).collect();
    assert_eq!(found.len(), rows.len(), "each {list} has one row");
    let wanted: BTreeSet<String> = wanted.into_iter().map(Into::into).collect();
    let wanted: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
    assert_eq!(found, wanted, "{list}");
}

/// Every source below a folder, joined.
fn sources(folder: &str, extension: &str) -> String {
    fn collect(folder: &Path, extension: &str, text: &mut String) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                collect(&path, extension, text);
            } else if path.extension().is_some_and(|found| found == extension) {
                text.push_str(&std::fs::read_to_string(path).expect("a readable source"));
            }
        }
    }
    let mut text = String::new();
    collect(&repository().join(folder), extension, &mut text);
    text
}

/// Fails with all missing names at once.
fn assert_all_exist(language: &str, lists: &[&str], exists: impl Fn(&str, &str) -> bool) {
    let table = table();
    let mut missing = Vec::new();
    for list in lists {
        for row in rows(&table, list) {
            if let Some(name) = text(row, language)
                && !exists(list, name)
            {
                missing.push(format!("{list} {name}"));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new(), "names in {language}");
}

#[test]
fn every_operation_option_hook_and_error_then_one_row() {
    assert_names("operation", OPERATIONS);
    assert_names("option", options().into_iter().map(|option| option.path));
    assert_names("hook", HookName::ALL.iter().map(|hook| hook.name()));
    assert_names("error", ErrorKind::ALL.iter().map(|kind| kind.name()));
}

#[test]
fn language_without_a_name_then_its_row_says_why() {
    let table = table();
    let pending = table["pending"].as_table().expect("a table");
    for list in ["operation", "option", "hook", "error"] {
        for row in rows(&table, list) {
            for language in LANGUAGES {
                let says = row.contains_key(language) || pending.contains_key(language) || row.contains_key("pending");
                assert!(says, "{list} {:?} lacks {language}", text(row, "name"));
            }
        }
    }
}

/// Every option changes something, and every hook fires: each has a test that shows it.
#[test]
fn every_option_and_hook_then_a_test_that_is_there() {
    let table = table();
    for row in ["option", "hook"].iter().flat_map(|list| rows(&table, list)) {
        let name = text(row, "name");
        let Some(test) = text(row, "test") else {
            assert!(text(row, "untested").is_some_and(|why| why.len() > 20), "{name:?} has neither test nor reason");
            continue;
        };
        assert!(!row.contains_key("untested"), "{name:?} has a test");
        let (file, function) = test.split_once(' ').expect("a file and a function");
        let source = std::fs::read_to_string(repository().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(source.contains(&format!("#[test]\nfn {function}(")), "{name:?}: no test {function} in {file}");
    }
}

#[test]
fn names_of_hooks_and_errors_in_rust_then_variants() {
    fn variants<T: Debug>(of: &str, all: &[T]) -> BTreeSet<String> {
        all.iter().map(|variant| format!("{of}::{variant:?}")).collect()
    }
    let mut known = variants("ErrorKind", ErrorKind::ALL);
    known.extend(variants("HookName", HookName::ALL));
    assert_all_exist("rust", &["hook", "error"], |_, name| known.contains(name));
}

#[test]
fn names_of_operations_and_options_in_rust_then_in_the_sources() {
    let source = sources("core/src", "rs");
    assert_all_exist("rust", &["operation", "option"], |list, name| {
        let (_, member) = name.split_once("::").expect("Type::member");
        match list {
            "operation" => source.contains(&format!("pub fn {member}(")),
            _ => source.contains(&format!("{member}:")),
        }
    });
}

#[test]
fn names_in_python_then_in_the_package() {
    let source = sources("bindings-python/python/process_hub", "py");
    assert_all_exist("python", &["operation", "option", "error"], |list, name| match list {
        "operation" => {
            let (_, method) = name.split_once('.').expect("Class.method");
            source.contains(&format!("def {method}("))
        }
        "option" => {
            let (class, option) = name.split_once('(').expect("Class(option)");
            let option = option.trim_end_matches(')');
            source.contains(&format!("class {class}")) && source.contains(&format!("{option}:"))
        }
        _ => source.contains(&format!("class {name}(HubError")),
    });
}

#[test]
fn names_in_c_then_in_the_header_or_passed_as_they_are() {
    let header = sources("include", "h");
    assert_all_exist("c", &["operation", "error"], |list, name| match list {
        "operation" => [" ", "*"].iter().any(|before| header.contains(&format!("{before}{name}("))),
        _ => header.contains(&format!("    {name} = ")),
    });
    let table = table();
    for list in ["option", "hook"] {
        for row in rows(&table, list) {
            // C passes the document of the configuration, and the names of hooks.
            assert!(text(row, "c").is_none_or(|c| Some(c) == text(row, "name")), "{list} {:?}", text(row, "name"));
        }
    }
}

#[test]
fn names_that_users_import_then_exported_by_the_package() {
    let path = repository().join("bindings-python/python/process_hub/__init__.py");
    let source = std::fs::read_to_string(path).expect("the package is there");
    let (_, exported) = source.split_once("__all__").expect("__all__");
    let table = table();
    let classes = rows(&table, "error").into_iter().filter_map(|row| text(row, "python"));
    let options = rows(&table, "option").into_iter().filter_map(|row| text(row, "python"));
    let classes = classes.chain(options.filter_map(|name| name.split('(').next()));
    let missing: BTreeSet<_> = classes.filter(|class| !exported.contains(&format!("\"{class}\""))).collect();
    assert_eq!(missing, BTreeSet::new(), "missing in __all__");
}

#[test]
fn names_in_node_then_in_the_package() {
    let source = sources("bindings-node/ts", "ts");
    assert_all_exist("node", &["operation", "option", "hook", "error"], |list, name| match list {
        "operation" => {
            let (_, method) = name.split_once('.').expect("Class.method");
            let is_method = [format!("  {method}("), format!("  {method}<"), format!(" async {method}(")];
            let is_other = [format!(" async {method}<"), format!("  get {method}(")];
            is_method.iter().chain(&is_other).any(|form| source.contains(form))
        }
        "option" => {
            let (of, option) = name.split_once('(').expect("of(option)");
            let option = option.trim_end_matches(')');
            let is_there = ["interface", "type", "export function"].map(|kind| format!("{kind} {of}"));
            let is_named = [format!("{option}:"), format!("{option}?:")];
            is_there.iter().any(|it| source.contains(it)) && is_named.iter().any(|it| source.contains(it))
        }
        "hook" => source.contains(&format!("  {name}: {{")) || source.contains(&format!("'{name}'")),
        _ => source.contains(&format!("class {name} extends HubError")),
    });
}

#[test]
fn functions_of_the_node_binding_then_each_contains_panics() {
    let source = sources("bindings-node/src", "rs");
    // The attributes of types and of their blocks stand alone; those of functions catch what unwinds (N-07).
    let bare = source.split("#[napi").skip(1).filter(|rest| {
        let (options, rest) = rest.split_once(']').expect("an attribute ends");
        let is_item = ["pub struct", "impl "].iter().any(|item| rest.trim_start().starts_with(item));
        !is_item && !options.contains("catch_unwind")
    });
    assert_eq!(bare.count(), 0, "functions that JavaScript calls without `catch_unwind`");
}
