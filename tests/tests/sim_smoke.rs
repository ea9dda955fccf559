//! A few dozen seeds, the seeds that once failed, and that a seed is a run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use process_hub_tests::sim::{Options, run};

/// Seeds that once found a fault: `seed nodes minutes [drawn | quorum]  # what was wrong`, one a line; `-` lets the seed
/// draw it. The strategies are the plain ones unless it says `drawn`, or `quorum` for those with one.
const REGRESSIONS: &str = include_str!("../regressions/seeds.txt");

fn check(options: &Options) {
    let report = run(options);
    if let Some(violation) = report.violation {
        panic!("{violation}\n  {}", options.command());
    }
}

#[test]
fn seeds_that_once_failed_then_they_hold() {
    for line in REGRESSIONS.lines() {
        let facts = line.split('#').next().unwrap_or_default();
        let mut words: Vec<&str> = facts.split_whitespace().collect();
        let strategies = words.pop_if(|word| matches!(*word, "drawn" | "quorum"));
        let (plain, quorum) = (strategies.is_none(), Some(strategies == Some("quorum")));
        let numbers: Vec<Option<u64>> = words.into_iter().map(|word| word.parse().ok()).collect();
        let [Some(seed), nodes, minutes] = numbers[..] else {
            assert!(facts.trim().is_empty(), "not a regression: {line}");
            continue;
        };
        let nodes = nodes.map(|nodes| usize::try_from(nodes).unwrap());
        check(&Options { seed, nodes, minutes, plain, quorum, ..Options::default() });
    }
}

#[test]
fn a_few_dozen_seeds_then_every_invariant_holds() {
    for seed in 1_000_000..1_000_024 {
        check(&Options { seed, minutes: Some(1), ..Options::default() });
    }
}

#[test]
fn one_seed_in_two_processes_then_one_digest() {
    let digest = || {
        let output = Command::new(env!("CARGO_BIN_EXE_sim"))
            .args(["--seed", "7", "--nodes", "3", "--minutes", "1"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().find(|line| line.contains("digest")).unwrap().to_owned()
    };
    assert_eq!(digest(), digest());
}
