//! `agents [--languages A,B] [--only SCENARIO,…] [--long]`: the scenarios over the agents that are built.

use std::process::ExitCode;

use process_hub_tests::agents::{Choice, Language, run};

fn main() -> ExitCode {
    match choice(std::env::args().skip(1)) {
        Ok(choice) => check(&choice),
        Err(problem) => {
            eprintln!("agents: {problem}");
            ExitCode::from(2)
        }
    }
}

fn choice(mut args: impl Iterator<Item = String>) -> Result<Choice, String> {
    let mut choice = Choice { languages: Language::ALL.to_vec(), only: Vec::new(), is_long: false };
    while let Some(arg) = args.next() {
        let mut list = || args.next().ok_or_else(|| format!("{arg} needs a list"));
        match arg.as_str() {
            "--languages" => {
                let named = |name| Language::from_name(name).ok_or_else(|| format!("no agent in `{name}`"));
                choice.languages = list()?.split(',').map(named).collect::<Result<_, _>>()?;
            }
            "--only" => choice.only = list()?.split(',').map(str::to_owned).collect(),
            "--long" => choice.is_long = true,
            other => return Err(format!("unknown argument `{other}`")),
        }
    }
    match choice.unknown().first() {
        Some(unknown) => Err(format!("no scenario `{unknown}`")),
        None => Ok(choice),
    }
}

fn check(choice: &Choice) -> ExitCode {
    let (built, missing): (Vec<Language>, Vec<Language>) =
        choice.languages.iter().partition(|language| language.is_built());
    for language in &missing {
        println!("FAIL  the agent of {} is not built: cargo xtask agents --build", language.name());
    }
    let summary = run(&Choice { languages: built, only: choice.only.clone(), is_long: choice.is_long });
    for unused in &summary.unused {
        println!("FAIL  no scenario used: {unused}");
    }
    let (passed, failed) = (summary.passed, summary.failed.len());
    let names: Vec<&str> = missing.iter().map(|language| language.name()).collect();
    let names = if names.is_empty() { String::new() } else { format!("; not built: {}", names.join(", ")) };
    let unused = summary.unused.len();
    println!("agents: {passed} scenarios passed, {failed} failed, {unused} parts of the protocol unused{names}");
    match failed + unused + missing.len() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
