//! `cargo xtask`: the one entry point for building, checking, testing, simulating and packing.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a tool, no pure part: it starts processes and measures time"
)]

mod agents;
mod c;
mod check;
mod demo;
mod generate;
mod header;
mod keygen;
mod node;
mod node_suites;
mod process;
mod pure;
mod python;
mod report;
mod test;

use std::process::ExitCode;

use process::{Failure, Outcome};

const HELP: &str = "\
cargo xtask COMMAND

  demo [--input DIR]   build and install the wheel in a fresh environment, run the word count cluster
  test [--net] [--only SUITE,…]
                       every suite; --net adds the long tests over real sockets
  check [--only SUITE,…]
                       everything that only reads: format, lints, docs, purity, generated files
  fix                  the mutating twin of check
  sim ARGS…            the simulator, e.g. --seeds 2000 --nodes 5 --json, or --seed N --trace
  bench ARGS…          the workloads and their aims, e.g. --json
  agents --build [--languages A,…]
                       the agents of tests/agents, each on its installed package
  agents --check [--languages A,…] [--only SCENARIO,…] [--long]
                       the scenarios over clusters of all languages, alone and mixed; --long blocks hosts for 66 s
  gen [--check]        write (or compare) the generated docs and tables
  install --prefix DIR build the C library and install it with its header, for pkg-config and CMake
  pack                 leave the wheel and the npm tarballs in target/pack
  keygen FILE          write a new shared key, mode 0600
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.split_first() {
        Some((command, rest)) => dispatch(command, rest),
        None => Err(Failure::usage("a command is missing")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn dispatch(command: &str, args: &[String]) -> Outcome {
    match command {
        "demo" => demo::run(args),
        "test" => test::run(args),
        "check" => check::run(args),
        "fix" => check::fix(args),
        "sim" => process::run(&mut process::simulator(args)),
        "agents" => agents::run(args),
        "bench" => demo::bench(args),
        "gen" => generate::run(args),
        "pack" => demo::pack(args),
        "keygen" => keygen::run(args),
        "install" => c::install(args),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(Failure::usage(format!("unknown command `{other}`"))),
    }
}
