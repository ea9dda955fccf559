//! docs/conformance.md: each scenario of ProcessHub's suite, the tests that hold us to it, and why one is not held.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where tests with a scenario's number may be.
const FOLDERS: [&str; 2] = ["tests/tests", "core/tests"];
/// The scenarios of the list: 1–45 are ProcessHub's, 46–59 the gaps in its suite.
const SCENARIOS: std::ops::RangeInclusive<u32> = 1..=59;

/// A row of the table.
#[derive(Debug)]
struct Row {
    number: u32,
    asks: String,
    /// File and function.
    tests: BTreeSet<(String, String)>,
    status: String,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    let path = repository().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What is in backticks, in order: files, and after each the functions in it.
fn tests(cell: &str) -> BTreeSet<(String, String)> {
    let mut file = None;
    let mut tests = BTreeSet::new();
    for word in cell.split('`').skip(1).step_by(2) {
        if word.contains('/') {
            file = Some(word.to_owned());
        } else {
            tests.insert((file.clone().expect("a file comes before its functions"), word.to_owned()));
        }
    }
    tests
}

fn table() -> Vec<Row> {
    let page = read("docs/conformance.md");
    let mut rows = Vec::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let Some(number) = cells.first().and_then(|cell| cell.parse().ok()) else { continue };
        let [_, asks, named, status] = cells[..] else { panic!("a row has four cells: {line}") };
        rows.push(Row { number, asks: asks.to_owned(), tests: tests(named), status: status.to_owned() });
    }
    rows
}

/// Every test function of the folders whose name bears a scenario's number: number, file, function.
fn numbered_tests() -> BTreeSet<(u32, String, String)> {
    let mut found = BTreeSet::new();
    for folder in FOLDERS {
        for entry in std::fs::read_dir(repository().join(folder)).expect("a folder of tests") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let file = format!("{folder}/{}", path.file_name().expect("a file").to_string_lossy());
            for rest in read(&file).split("\nfn scenario_").skip(1) {
                let name = rest.split('(').next().expect("a name");
                let number = name.split('_').next().and_then(|digits| digits.parse().ok());
                let number = number.unwrap_or_else(|| panic!("{file}: scenario_{name} has no number"));
                found.insert((number, file.clone(), format!("scenario_{name}")));
            }
        }
    }
    found
}

#[test]
fn every_scenario_then_one_row_that_says_what_it_asks() {
    let rows = table();
    let numbers: Vec<u32> = rows.iter().map(|row| row.number).collect();
    assert_eq!(numbers, SCENARIOS.collect::<Vec<_>>());
    assert!(rows.iter().all(|row| !row.asks.is_empty()));
}

#[test]
fn every_test_that_is_named_then_it_is_there() {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut missing = Vec::new();
    for row in table() {
        for (file, name) in row.tests {
            let source = files.entry(file.clone()).or_insert_with(|| read(&file));
            // In the agents a scenario is a function of its table.
            let is_there = source.contains(&format!("#[test]\nfn {name}("))
                || source.contains(&format!("pub(crate) fn {name}(mix: &Mix)"));
            if !is_there {
                missing.push(format!("{}: {file} {name}", row.number));
            }
        }
    }
    assert_eq!(missing, [""; 0]);
}

#[test]
fn every_test_with_a_scenarios_number_then_it_is_in_its_row() {
    let rows = table();
    let is_named = |(number, file, name): &(u32, String, String)| {
        rows.iter().any(|row| row.number == *number && row.tests.contains(&(file.clone(), name.clone())))
    };
    let unnamed: Vec<_> = numbered_tests().into_iter().filter(|test| !is_named(test)).collect();
    assert_eq!(unnamed, [], "tests that docs/conformance.md does not name");
}

#[test]
fn held_then_by_a_test_and_otherwise_there_is_a_reason() {
    for row in table() {
        match row.status.split_once(": ") {
            None => {
                assert_eq!(row.status, "held", "{}", row.number);
                let own = format!("scenario_{:02}_", row.number);
                assert!(
                    row.tests.iter().any(|(_, name)| name.starts_with(&own)),
                    "{} has no test of its own",
                    row.number
                );
            }
            Some((status, why)) => {
                assert!(["pending", "does not apply"].contains(&status), "{}: {}", row.number, row.status);
                assert!(why.len() > 20, "{}: {why:?} explains nothing", row.number);
            }
        }
    }
}
