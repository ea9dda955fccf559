//! Runs seeds of the simulator: `cargo xtask sim` starts it.
//!
//! `[--seeds N] [--from S] [--nodes N] [--minutes M] [--plain] [--quorum | --no-quorum] [--seed S [--trace] [--child ID]]
//! [--json]`

#![allow(clippy::disallowed_methods, reason = "a tool: it measures how long its runs take")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use process_hub_tests::sim::{Options, Report, run};

/// With the system's allocator a fifth of a run is allocation.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seeds of a run without `--seeds`.
const DEFAULT_SEEDS: u64 = 1_000;
/// Pause between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);

/// The command line.
#[derive(Clone, Debug, Default)]
struct Arguments {
    seeds: Option<u64>,
    from: u64,
    seed: Option<u64>,
    options: Options,
    json: bool,
    keep_going: bool,
    threads: Option<usize>,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(arguments) => start(&arguments),
        Err(message) => {
            eprintln!("sim: {message}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments::default();
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64, String> {
            let text = words.next().ok_or_else(|| format!("{word} needs a number"))?;
            text.parse().map_err(|_| format!("{word} needs a number, not `{text}`"))
        };
        match word.as_str() {
            "--seeds" => arguments.seeds = Some(number()?),
            "--from" => arguments.from = number()?,
            "--seed" => arguments.seed = Some(number()?),
            "--nodes" => {
                let nodes = number()?;
                if nodes == 0 || nodes > 64 {
                    return Err(format!("--nodes must be 1 to 64, not {nodes}"));
                }
                arguments.options.nodes = usize::try_from(nodes).ok();
            }
            "--minutes" => arguments.options.minutes = Some(number()?),
            "--threads" => arguments.threads = usize::try_from(number()?).ok(),
            "--plain" => arguments.options.plain = true,
            "--trace" => arguments.options.trace = true,
            "--child" => {
                arguments.options.child = Some(words.next().ok_or("--child needs an id")?);
                arguments.options.trace = true;
            }
            "--quorum" => arguments.options.quorum = Some(true),
            "--no-quorum" => arguments.options.quorum = Some(false),
            "--json" => arguments.json = true,
            "--keep-going" => arguments.keep_going = true,
            other => return Err(format!("unknown argument `{other}`")),
        }
    }
    if arguments.options.trace && arguments.seed.is_none() {
        return Err("--trace needs --seed".to_owned());
    }
    Ok(arguments)
}

/// Sums over all seeds.
#[derive(Default)]
struct Totals {
    seeds: u64,
    violations: u64,
    events: u64,
    simulated_us: u64,
    faults: u64,
    handovers: u64,
    handovers_cut: u64,
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.violations += u64::from(report.violation.is_some());
        self.events += report.events;
        self.simulated_us += report.simulated.0;
        self.faults += report.faults;
        self.handovers += report.handovers;
        self.handovers_cut += report.handovers_cut;
    }

    fn seeds_per_second(&self, began: Instant) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        let seeds = self.seeds as f64;
        seeds / began.elapsed().as_secs_f64().max(1e-9)
    }

    fn print_json(&self, began: Instant) {
        #[allow(clippy::cast_precision_loss, reason = "hours for people")]
        let hours = self.simulated_us as f64 / 3.6e9;
        let line = serde_json::json!({
            "seeds": self.seeds,
            "violations": self.violations,
            "events": self.events,
            "simulated_hours": hours,
            "faults": self.faults,
            "handovers": self.handovers,
            "handovers_cut": self.handovers_cut,
            "seeds_per_second": self.seeds_per_second(began),
        });
        println!("{line}");
    }
}

fn start(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let (from, count) = match arguments.seed {
        Some(seed) => (seed, 1),
        None => (arguments.from, arguments.seeds.unwrap_or(DEFAULT_SEEDS)),
    };
    let totals = run_all(arguments, from, count, began);
    eprintln!(
        "{} seeds, {} violations, {} events, {:.1} simulated hours, {} faults, {} handovers ({} cut), {:.1} seeds/s",
        totals.seeds,
        totals.violations,
        totals.events,
        Duration::from_micros(totals.simulated_us).as_secs_f64() / 3_600.0,
        totals.faults,
        totals.handovers,
        totals.handovers_cut,
        totals.seeds_per_second(began),
    );
    if arguments.json {
        totals.print_json(began);
    }
    ExitCode::from(u8::from(totals.violations > 0))
}

/// Runs the seeds on all cores; the first violation ends it, unless told otherwise.
fn run_all(arguments: &Arguments, from: u64, count: u64, began: Instant) -> Totals {
    let next = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.threads.unwrap_or(cores).max(1);
    let (sender, reports) = mpsc::channel::<Report>();
    let mut totals = Totals::default();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next, is_over) = (sender.clone(), &next, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        break;
                    }
                    let mut options = arguments.options.clone();
                    options.seed = from.wrapping_add(index);
                    if sender.send(run(&options)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut told = Instant::now();
        for report in reports {
            totals.add(&report);
            tell(arguments, &report);
            if report.violation.is_some() && !arguments.keep_going {
                is_over.store(true, Ordering::Relaxed);
            }
            if told.elapsed() > PROGRESS {
                told = Instant::now();
                let rate = totals.seeds_per_second(began);
                eprintln!("{}/{count} seeds, {} violations, {rate:.1} seeds/s", totals.seeds, totals.violations);
            }
        }
    });
    totals
}

fn tell(arguments: &Arguments, report: &Report) {
    if let Some(violation) = &report.violation {
        let mut options = arguments.options.clone();
        options.seed = report.seed;
        eprintln!("seed {}: {violation}\n  {}", report.seed, options.command());
    }
    if arguments.seed.is_some() {
        println!("seed {}: digest {:016x}", report.seed, report.digest);
    }
}
