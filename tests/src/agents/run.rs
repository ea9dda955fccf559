//! Runs scenarios over mixes of languages and tells what became of each.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::cluster::Mix;
use super::coverage;
use super::language::{Language, mix_name, mixes};
use super::scenarios::{EVERY_MIX, JOURNEY, Scenario};

/// So many scenarios of a mix run at a time: most of them wait for a cluster that moves.
const CONCURRENT: usize = 4;

/// What to run.
#[derive(Debug)]
pub struct Choice {
    /// The languages, all of which must be built.
    pub languages: Vec<Language>,
    /// The scenarios by name; all when empty.
    pub only: Vec<String>,
    /// Whether what takes long is done at full length.
    pub is_long: bool,
}

/// What became of it.
#[derive(Debug, Default)]
pub struct Summary {
    /// Scenarios that held, each counted once per mix.
    pub passed: usize,
    /// Those that did not: `mix scenario`, and why.
    pub failed: Vec<String>,
    /// What of the protocol no scenario used; looked for only when all of them ran.
    pub unused: Vec<&'static str>,
}

impl Choice {
    fn wants(&self, scenario: &Scenario) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == scenario.name)
    }

    /// The names in `only` that no scenario has.
    #[must_use]
    pub fn unknown(&self) -> Vec<&str> {
        let is_known = |name: &&String| EVERY_MIX.iter().chain([&JOURNEY]).any(|scenario| scenario.name == **name);
        self.only.iter().filter(|name| !is_known(name)).map(String::as_str).collect()
    }
}

/// Runs what is chosen.
#[must_use]
pub fn run(choice: &Choice) -> Summary {
    // Failures are told in the table; a backtrace of a scenario helps nobody.
    std::panic::set_hook(Box::new(|_| {}));
    let mut summary = Summary::default();
    let wanted: Vec<&Scenario> = EVERY_MIX.iter().filter(|scenario| choice.wants(scenario)).collect();
    for languages in mixes(&choice.languages) {
        if !wanted.is_empty() {
            run_mix(&languages, &wanted, choice.is_long, &mut summary);
        }
    }
    let travellers = travellers(&choice.languages);
    if choice.wants(&JOURNEY) && !travellers.is_empty() {
        run_mix(&travellers, &[&JOURNEY], choice.is_long, &mut summary);
    }
    if choice.only.is_empty() {
        summary.unused = coverage::missing();
    }
    let _ = std::panic::take_hook();
    summary
}

/// Whose nodes the children travel: from Python to Node to C, as far as these are there, with Rust where there are
/// too few of them; nobody travels alone.
fn travellers(chosen: &[Language]) -> Vec<Language> {
    let route = [Language::Python, Language::Node, Language::C];
    let mut route: Vec<Language> = route.into_iter().filter(|language| chosen.contains(language)).collect();
    if route.len() < 2 {
        route = chosen.to_vec();
    }
    if route.len() > 1 { route } else { Vec::new() }
}

fn run_mix(languages: &[Language], scenarios: &[&Scenario], is_long: bool, summary: &mut Summary) {
    let name = mix_name(languages);
    let mix = match guarded(|| Mix::start(languages, is_long)) {
        Ok(mix) => mix,
        Err(why) => {
            tell(&name, "start", "FAIL", Instant::now(), &why);
            summary.failed.push(format!("{name}: its agents do not start: {why}"));
            return;
        }
    };
    let waiting: Mutex<VecDeque<&Scenario>> = Mutex::new(scenarios.iter().copied().collect());
    let results: Mutex<Vec<Result<(), String>>> = Mutex::default();
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    std::thread::scope(|scope| {
        for _ in 0..CONCURRENT {
            scope.spawn(|| {
                while let Some(scenario) = next() {
                    let result = run_one(&mix, &name, scenario);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.push(guarded(|| mix.end()).map_err(|why| format!("{name} end: {why}")));
    for result in results {
        match result {
            Ok(()) => summary.passed += 1,
            Err(why) => summary.failed.push(why),
        }
    }
}

fn run_one(mix: &Mix, mix_name: &str, scenario: &Scenario) -> Result<(), String> {
    let start = Instant::now();
    match guarded(|| (scenario.run)(mix)) {
        Ok(()) => {
            tell(mix_name, scenario.name, "ok", start, "");
            Ok(())
        }
        Err(why) => {
            tell(mix_name, scenario.name, "FAIL", start, &why);
            Err(format!("{mix_name} {}: {why}", scenario.name))
        }
    }
}

fn tell(mix: &str, scenario: &str, result: &str, start: Instant, why: &str) {
    let seconds = start.elapsed().as_secs_f64();
    let line = format!("{result:<4} {seconds:>6.1} s  {mix:<20} {scenario:<24} {why}");
    println!("{}", line.trim_end());
}

/// Runs a scenario; what it panicked with is why it failed.
fn guarded<T>(scenario: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(scenario)).map_err(|panic| {
        (panic.downcast_ref::<String>().cloned())
            .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_else(|| "it panicked".into())
    })
}
