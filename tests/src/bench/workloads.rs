//! What is run: three scenarios, each on fresh clusters.

use std::time::{Duration, Instant};

use serde_json::json;

use super::cluster::{Cluster, settled};
use super::figure::{Figures, Language, Setting, Workload};
use super::node::{NodeProcess, Programs};

/// Children of the workloads that move them.
const MOVING: usize = 10_000;
/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(60);
/// Before that: what follows the start of the children is over.
const CALM: Duration = Duration::from_secs(5);
/// Lookups of a run.
const LOOKUPS: usize = 1_000_000;

/// What of the bench is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The languages.
    pub languages: Vec<Language>,
    /// The workloads.
    pub workloads: Vec<Workload>,
    /// How many children are started in one call.
    pub sizes: Vec<usize>,
    /// How often each is run.
    pub runs: usize,
}

impl Plan {
    fn wants(&self, any: &[Workload]) -> bool {
        any.iter().any(|workload| self.workloads.contains(workload))
    }

    /// Runs everything; progress goes to standard error.
    #[must_use]
    pub fn run(&self, programs: &Programs) -> Figures {
        let mut figures = Figures::default();
        for &language in &self.languages {
            for run in 1..=self.runs {
                self.run_once(programs, language, run, &mut figures);
            }
        }
        figures.add_growth();
        figures.all.retain(|figure| self.workloads.contains(&figure.workload));
        figures
    }

    fn run_once(&self, programs: &Programs, language: Language, run: usize, figures: &mut Figures) {
        let mut attempt = |what: String, scenario: &mut dyn FnMut(&mut Figures) -> Result<(), String>| {
            eprintln!("bench: {language}, {what}, run {run} of {}", self.runs);
            if let Err(error) = scenario(figures) {
                let failure = format!("{language}, {what}, run {run}: {error}");
                eprintln!("bench: FAILED: {failure}");
                figures.failures.push(failure);
            }
        };
        for processes in [1, 3] {
            for &children in &self.basic_sizes() {
                let setting = Setting { language, processes, children };
                let what = format!("{children} children on {processes} process(es)");
                attempt(what, &mut |figures| self.basic(programs, setting, figures));
            }
        }
        if self.wants(&[Workload::Join, Workload::Leave]) {
            attempt("join and leave".into(), &mut |figures| join_and_leave(programs, language, figures));
        }
        // Once: it takes a minute, and counts what does not depend on chance.
        if run == 1 && self.wants(&[Workload::IdleCpu, Workload::IdleTraffic]) {
            attempt("an idle minute".into(), &mut |figures| idle(programs, language, figures));
        }
        if self.wants(&[Workload::Failover]) {
            attempt("failover".into(), &mut |figures| failover(programs, language, figures));
        }
    }

    /// The sizes the wanted workloads need.
    fn basic_sizes(&self) -> Vec<usize> {
        if self.wants(&[Workload::Start, Workload::Stop, Workload::Growth, Workload::Memory]) {
            return self.sizes.clone();
        }
        let reads = [Workload::Lookup, Workload::LocalCall, Workload::RemoteCall, Workload::Message];
        if self.wants(&reads) { vec![MOVING] } else { Vec::new() }
    }

    /// Start, memory, lookup, calls, stop.
    fn basic(&self, programs: &Programs, setting: Setting, figures: &mut Figures) -> Result<(), String> {
        let Setting { language, processes, children } = setting;
        let mut cluster = Cluster::start(programs, language, processes)?;
        let before = cluster.nodes[0].ask(&json!({ "op": "rss" }))?.number("bytes")?;
        let started = cluster.nodes[0].ask(&json!({ "op": "start", "count": children }))?;
        figures.add(Workload::Start, setting, started.number("us")? / 1e3);
        cluster.ask_all(0..processes, &Cluster::expecting(processes, children)?)?;
        let after = cluster.nodes[0].ask(&json!({ "op": "rss" }))?.number("bytes")?;
        if processes == 1 && children >= MOVING {
            figures.add(Workload::Memory, setting, (after - before) / children as f64);
        }
        if children == MOVING {
            self.reads(&mut cluster, setting, figures)?;
        }
        let stopped = cluster.nodes[0].ask(&json!({ "op": "stop", "count": children }))?;
        figures.add(Workload::Stop, setting, stopped.number("us")? / 1e3);
        cluster.ask_all(0..processes, &json!({ "op": "gone" }))?;
        Ok(())
    }

    fn reads(&self, cluster: &mut Cluster, setting: Setting, figures: &mut Figures) -> Result<(), String> {
        let node = &mut cluster.nodes[0];
        if self.wants(&[Workload::Lookup]) {
            let answer = node.ask(&json!({ "op": "lookup", "count": setting.children, "rounds": LOOKUPS }))?;
            figures.add(Workload::Lookup, setting, answer.number("ns")?);
        }
        let rounds = match setting.language {
            Language::Rust | Language::Node | Language::C => 10_000,
            Language::Python => 3_000,
        };
        let call =
            |is_remote| json!({ "op": "call", "remote": is_remote, "count": setting.children, "rounds": rounds });
        if self.wants(&[Workload::LocalCall]) {
            figures.add(Workload::LocalCall, setting, node.ask(&call(false))?.number("p50_us")?);
        }
        if self.wants(&[Workload::Message]) {
            let answer = node.ask(&json!({ "op": "stream", "count": setting.children, "rounds": 10 * rounds }))?;
            figures.add(Workload::Message, setting, answer.number("us")?);
        }
        if setting.processes > 1 && self.wants(&[Workload::RemoteCall]) {
            figures.add(Workload::RemoteCall, setting, node.ask(&call(true))?.number("p50_us")?);
        }
        Ok(())
    }
}

/// A third node joins a hub of two, then leaves it again; the states must survive both.
fn join_and_leave(programs: &Programs, language: Language, figures: &mut Figures) -> Result<(), String> {
    let setting = Setting { language, processes: 3, children: MOVING };
    let on_two = Cluster::expecting(2, MOVING)?;
    let on_three = Cluster::expecting(3, MOVING)?;
    let mut cluster = Cluster::start(programs, language, 2)?;
    cluster.nodes[0].ask(&json!({ "op": "start", "count": MOVING }))?;
    cluster.ask_all(0..2, &on_two)?;
    cluster.nodes[0].ask(&json!({ "op": "put", "count": MOVING }))?;

    cluster.spawn(programs, language)?;
    let opening = cluster.opening();
    cluster.order_all(0..2, &on_three)?;
    let joined_at = Instant::now();
    cluster.newest().order(&opening)?;
    cluster.newest().order(&on_three)?;
    cluster.newest().answer()?;
    let answers = cluster.answers(0..3)?;
    figures.add(Workload::Join, setting, settled(joined_at, &answers)?.as_secs_f64() * 1e3);
    states_survived(&mut cluster, "the join")?;

    cluster.order_all(0..2, &on_two)?;
    let left_at = Instant::now();
    cluster.newest().order(&json!({ "op": "close" }))?;
    let answers = cluster.answers(0..2)?;
    let report = cluster.newest().answer()?;
    figures.add(Workload::Leave, setting, settled(left_at, &answers)?.as_secs_f64() * 1e3);
    if report.number("not_moved")? != 0.0 {
        return Err(format!("not every child moved as its node left: {}", report.value));
    }
    states_survived(&mut cluster, "the leave")
}

fn states_survived(cluster: &mut Cluster, event: &str) -> Result<(), String> {
    let kept = cluster.nodes[0].ask(&json!({ "op": "states", "count": MOVING }))?.number("kept")?;
    if kept == MOVING as f64 {
        return Ok(());
    }
    Err(format!("{} of {MOVING} states did not survive {event}", MOVING as f64 - kept))
}

/// Three nodes have children that nobody asks for anything.
fn idle(programs: &Programs, language: Language, figures: &mut Figures) -> Result<(), String> {
    let setting = Setting { language, processes: 3, children: MOVING };
    let mut cluster = Cluster::start(programs, language, 3)?;
    cluster.nodes[0].ask(&json!({ "op": "start", "count": MOVING }))?;
    cluster.ask_all(0..3, &Cluster::expecting(3, MOVING)?)?;
    std::thread::sleep(CALM);
    let usage = |cluster: &Cluster| cluster.nodes.iter().map(NodeProcess::usage).collect::<Result<Vec<_>, _>>();
    let before = usage(&cluster)?;
    std::thread::sleep(IDLE);
    let after = usage(&cluster)?;
    let differences = || before.iter().zip(&after);
    let cpu = differences().map(|(before, after)| after.cpu.saturating_sub(before.cpu)).max().unwrap_or_default();
    let written = differences().map(|(before, after)| after.written - before.written).max().unwrap_or_default();
    figures.add(Workload::IdleCpu, setting, cpu.as_secs_f64() * 1e3);
    figures.add(Workload::IdleTraffic, setting, written as f64 / 1e3);
    Ok(())
}

/// One of three nodes is killed; until the survivors' registries show every child on a survivor.
fn failover(programs: &Programs, language: Language, figures: &mut Figures) -> Result<(), String> {
    let setting = Setting { language, processes: 3, children: MOVING };
    let on_two = Cluster::expecting(2, MOVING)?;
    let mut cluster = Cluster::start(programs, language, 3)?;
    cluster.nodes[0].ask(&json!({ "op": "start", "count": MOVING }))?;
    cluster.ask_all(0..3, &Cluster::expecting(3, MOVING)?)?;
    cluster.order_all(0..2, &on_two)?;
    let killed_at = Instant::now();
    cluster.newest().kill();
    let answers = cluster.answers(0..2)?;
    figures.add(Workload::Failover, setting, settled(killed_at, &answers)?.as_secs_f64() * 1e3);
    Ok(())
}
