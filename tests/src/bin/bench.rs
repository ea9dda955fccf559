//! Runs the workloads and prints them beside their aims: `cargo xtask bench` starts it.
//!
//! `[--json] [--quick] [--only NAME,…]`; `PROCESS_HUB_PYTHON` names the Python that has the wheel, and
//! `PROCESS_HUB_NODE` the worker in a project that has the npm package.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use process_hub_tests::bench::figure::{Language, Workload};
use process_hub_tests::bench::node::Programs;
use process_hub_tests::bench::report::{Machine, json_line, table};
use process_hub_tests::bench::worker;
use process_hub_tests::bench::workloads::Plan;

const SCRIPT: &str = "examples/python/bench_worker.py";
const HELP: &str = "\
cargo xtask bench [--json] [--quick] [--only NAME,…]

  --json     one JSON line instead of the table, last on standard output
  --quick    one run of each, up to 10,000 children
  --only     these workloads or languages: start, stop, growth, lookup, local_call, remote_call, message, memory, join,
             leave, failover, idle_cpu, idle_traffic, rust, python, node, c

Exit status 0 when every workload ran; a figure over its aim is no failure.
";

struct Arguments {
    is_json: bool,
    plan: Plan,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("--worker") => {
            worker::obey();
            return ExitCode::SUCCESS;
        }
        Some("--help" | "-h") => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Some(_) | None => {}
    }
    match parse(words).and_then(|arguments| Ok((arguments, programs()?))) {
        Ok((arguments, programs)) => run(arguments, &programs),
        Err(message) => {
            eprintln!("bench: {message}");
            ExitCode::from(2)
        }
    }
}

fn run(Arguments { is_json, mut plan }: Arguments, programs: &Programs) -> ExitCode {
    plan.languages.retain(|language| {
        let has_program = programs.commands.contains_key(language);
        if !has_program {
            let variable = language.name().to_uppercase();
            eprintln!("bench: without {language}: PROCESS_HUB_{variable} is not set (cargo xtask bench sets it)");
        }
        has_program
    });
    let machine = Machine::now();
    let figures = plan.run(programs);
    let _ = std::fs::remove_dir_all(&programs.scratch);
    match is_json {
        true => println!("{}", json_line(&figures, &machine)),
        false => print!("{}", table(&figures, &machine)),
    }
    ExitCode::from(u8::from(!figures.failures.is_empty()))
}

fn programs() -> Result<Programs, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the crate has no folder above it")?;
    let scratch = std::env::temp_dir().join(format!("process-hub-bench-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut commands = BTreeMap::from([(Language::Rust, vec![this, "--worker".into()])]);
    if let Some(python) = std::env::var_os("PROCESS_HUB_PYTHON") {
        commands.insert(Language::Python, vec![python.into(), "-u".into(), root.join(SCRIPT)]);
    }
    if let Some(worker) = std::env::var_os("PROCESS_HUB_NODE") {
        commands.insert(Language::Node, vec!["node".into(), "--expose-gc".into(), worker.into()]);
    }
    if let Some(worker) = std::env::var_os("PROCESS_HUB_C") {
        commands.insert(Language::C, vec![worker.into()]);
    }
    Ok(Programs { commands, scratch })
}

fn parse(words: Vec<String>) -> Result<Arguments, String> {
    let (mut is_json, mut is_quick) = (false, false);
    let (mut languages, mut workloads) = (Vec::new(), Vec::new());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => is_json = true,
            "--quick" => is_quick = true,
            "--only" => {
                let names = words.next().ok_or("--only needs names")?;
                names.split(',').try_for_each(|name| choose(name, &mut languages, &mut workloads))?;
            }
            other => return Err(format!("unknown argument `{other}`; see --help")),
        }
    }
    if languages.is_empty() {
        languages = Language::ALL.to_vec();
    }
    if workloads.is_empty() {
        workloads = Workload::ALL.to_vec();
    }
    let (sizes, runs) = match is_quick {
        true => (vec![1_000, 10_000], 1),
        false => (vec![1_000, 10_000, 100_000], 3),
    };
    Ok(Arguments { is_json, plan: Plan { languages, workloads, sizes, runs } })
}

fn choose(name: &str, languages: &mut Vec<Language>, workloads: &mut Vec<Workload>) -> Result<(), String> {
    if let Some(language) = Language::ALL.into_iter().find(|language| language.name() == name) {
        languages.push(language);
        return Ok(());
    }
    let workload = Workload::ALL.into_iter().find(|workload| workload.name() == name);
    workloads.push(workload.ok_or_else(|| format!("there is no workload `{name}`; see --help"))?);
    Ok(())
}
