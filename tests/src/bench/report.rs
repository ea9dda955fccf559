//! The figures as a table for people, or as one JSON line for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::figure::{Figure, Figures, Unit, Workload};

/// What the machine was like before the run.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Logical processors.
    pub cores: usize,
    /// Runnable tasks on average over the minute before.
    pub load: f64,
}

impl Machine {
    /// This one, now.
    #[must_use]
    pub fn now() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
        Self { cores, load }
    }

    /// Whether others used the machine: the figures are then too high.
    #[must_use]
    pub fn was_busy(&self) -> bool {
        self.load > 0.3 * self.cores as f64
    }
}

/// The table, in Markdown.
#[must_use]
pub fn table(figures: &Figures, machine: &Machine) -> String {
    let mut text = String::from(
        "| workload | language | processes | children | median [min–max] | aim | | ProcessHub |\n\
         |---|---|--:|--:|--:|--:|---|--:|\n",
    );
    for workload in Workload::ALL {
        for figure in figures.all.iter().filter(|figure| figure.workload == workload) {
            text.push_str(&row(figure));
        }
    }
    let runs = figures.all.iter().map(|figure| figure.values.len()).max().unwrap_or(0);
    let _ = write!(
        text,
        "\nMedian of {runs} runs, each on fresh processes; every process of a cluster shares {} cores. Load average \
         before the run: {:.1}{}.\n",
        machine.cores,
        machine.load,
        if machine.was_busy() { ", so others used the machine and the figures are too high" } else { "" },
    );
    let (met, judged) = score(figures);
    let _ = writeln!(text, "Aims reached: {met} of {judged}. Failed workloads: {}.", figures.failures.len());
    for failure in &figures.failures {
        let _ = writeln!(text, "- FAILED: {failure}");
    }
    text
}

/// The line of `--json`.
#[must_use]
pub fn json_line(figures: &Figures, machine: &Machine) -> Value {
    let (met, judged) = score(figures);
    json!({
        "figures": figures.all.iter().map(Figure::to_json).collect::<Vec<_>>(),
        "failures": figures.failures,
        "aims_met": met, "aims": judged,
        "cores": machine.cores, "load_before": machine.load,
    })
}

fn score(figures: &Figures) -> (usize, usize) {
    let verdicts: Vec<bool> = figures.all.iter().filter_map(Figure::is_ok).collect();
    (verdicts.iter().filter(|is_ok| **is_ok).count(), verdicts.len())
}

fn row(figure: &Figure) -> String {
    let (unit, setting) = (figure.workload.unit(), figure.setting);
    let (min, max) = figure.range();
    let verdict = match figure.is_ok() {
        Some(true) => "ok",
        Some(false) => "**over**",
        None => "",
    };
    format!(
        "| {} | {} | {} | {} | {} {} [{}–{}] | {} | {verdict} | {} |\n",
        figure.workload.title(),
        setting.language,
        setting.processes,
        thousands(setting.children),
        amount(figure.median(), unit),
        unit.name(),
        amount(min, unit),
        amount(max, unit),
        figure.aim().map_or_else(String::new, |aim| format!("≤ {aim} {}", unit.name())),
        figure.processhub().unwrap_or_default(),
    )
}

/// With as many digits as mean something.
fn amount(value: f64, unit: Unit) -> String {
    let digits = match unit {
        Unit::Ns | Unit::Bytes => 0,
        Unit::Ms | Unit::Us | Unit::Kilobytes | Unit::Times if value >= 100.0 => 0,
        Unit::Ms | Unit::Us | Unit::Kilobytes | Unit::Times => 1,
    };
    format!("{value:.digits$}")
}

fn thousands(number: usize) -> String {
    match number / 1000 {
        0 => number.to_string(),
        thousands => format!("{thousands},{:03}", number % 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::super::figure::{Language, Setting};
    use super::*;

    const QUIET: Machine = Machine { cores: 2, load: 0.1 };

    #[test]
    fn a_figure_over_its_aim_then_the_row_says_so() {
        let setting = Setting { language: Language::Python, processes: 3, children: 10_000 };
        let mut figures = Figures::default();
        figures.add(Workload::Start, setting, 61.0);
        let table = table(&figures, &QUIET);
        assert!(table.contains("| 61.0 ms [61.0–61.0] | ≤ 60 ms | **over** | 1,220 ms |"), "{table}");
        assert!(table.contains("Aims reached: 0 of 1."), "{table}");
    }

    #[test]
    fn a_workload_failed_then_table_and_line_name_it() {
        let figures = Figures { all: Vec::new(), failures: vec!["Rust, failover, run 1: lost".into()] };
        assert!(table(&figures, &QUIET).contains("- FAILED: Rust, failover, run 1: lost"));
        assert_eq!(json_line(&figures, &QUIET)["failures"][0], "Rust, failover, run 1: lost");
    }
}
