//! Runs suites one after another and tells what became of each.

use std::time::{Duration, Instant};

use crate::process::{Failure, Outcome};

/// How a suite ended well.
pub(crate) enum Ended {
    /// It ran; its own summary, where it has one.
    Passed(Option<String>),
    /// It could not run here, and how to change that.
    Skipped(String),
}

/// One suite.
#[derive(Clone, Copy)]
pub(crate) struct Suite {
    /// The name for `--only` and for the table.
    pub(crate) name: &'static str,
    /// What it shows, in a few words.
    pub(crate) shows: &'static str,
    /// Runs it.
    pub(crate) run: fn() -> Outcome<Ended>,
}

struct Line {
    name: &'static str,
    result: &'static str,
    duration: Duration,
    account: String,
}

/// Runs the suites that `only` names (all if it is empty), prints a table, fails if one failed.
pub(crate) fn run(suites: &[Suite], only: &[String]) -> Outcome {
    if let Some(unknown) = only.iter().find(|name| suites.iter().all(|s| s.name != **name)) {
        let names: Vec<_> = suites.iter().map(|suite| suite.name).collect();
        let names = names.join(", ");
        return Err(Failure::usage(format!("no suite `{unknown}`: there are {names}")));
    }
    let chosen = suites.iter().filter(|suite| only.is_empty() || only.iter().any(|name| name == suite.name));
    let lines: Vec<Line> = chosen.map(run_one).collect();
    print_table(&lines);
    let count = |result: &str| lines.iter().filter(|line| line.result == result).count();
    let (passed, failed) = (count("pass"), count("FAIL"));
    println!("{passed} passed, {failed} failed");
    match failed {
        0 => Ok(()),
        1 => Err(Failure::new("one suite failed")),
        _ => Err(Failure::new(format!("{failed} suites failed"))),
    }
}

fn run_one(suite: &Suite) -> Line {
    eprintln!("\n==> {}: {}", suite.name, suite.shows);
    let start = Instant::now();
    let (result, account) = match (suite.run)() {
        Ok(Ended::Passed(summary)) => ("pass", summary.unwrap_or_default()),
        Ok(Ended::Skipped(why)) => ("skip", why),
        Err(failure) => ("FAIL", failure.to_string()),
    };
    let line = Line { name: suite.name, result, duration: start.elapsed(), account };
    eprintln!("<== {}", told(&line));
    line
}

fn told(line: &Line) -> String {
    let seconds = line.duration.as_secs_f64();
    let told = format!("{:<12} {}  {seconds:>7.1} s  {}", line.name, line.result, line.account);
    told.trim_end().to_owned()
}

fn print_table(lines: &[Line]) {
    println!("\n{:<12} {:<4}  {:>9}  summary", "suite", "", "duration");
    for line in lines {
        println!("{}", told(line));
    }
}
