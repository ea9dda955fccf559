//! What was measured, and what was aimed for.

use std::fmt;

use serde_json::{Value, json};

/// In which language the children are written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Language {
    /// Rust.
    Rust,
    /// Python.
    Python,
    /// Node.js.
    Node,
    /// C.
    C,
}

impl Language {
    /// All, in the order of the table.
    pub const ALL: [Self; 4] = [Self::Rust, Self::Python, Self::Node, Self::C];

    /// The name in `--only`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::Node => "node",
            Self::C => "c",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "Rust",
            Self::Python => "Python",
            Self::Node => "Node",
            Self::C => "C",
        })
    }
}

/// In what a figure is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
    /// Bytes.
    Bytes,
    /// Thousands of bytes.
    Kilobytes,
    /// How many times as long.
    Times,
}

impl Unit {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ms => "ms",
            Self::Us => "µs",
            Self::Ns => "ns",
            Self::Bytes => "B",
            Self::Kilobytes => "kB",
            Self::Times => "×",
        }
    }
}

/// What a figure is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Workload {
    /// `start_children` in one call, until the answer.
    Start,
    /// `stop_children` in one call, until the answer.
    Stop,
    /// 100,000 starts beside 10,000.
    Growth,
    /// `child_lookup` of a random id.
    Lookup,
    /// `call` of a child of the same node.
    LocalCall,
    /// `call` of a child of another node.
    RemoteCall,
    /// One of many messages to children of the same node, 64 at a time, with its reply.
    Message,
    /// Resident memory of the process per child.
    Memory,
    /// A third node joins, children move with their state.
    Join,
    /// The third node leaves, its children move with their state.
    Leave,
    /// The third node is killed.
    Failover,
    /// Processor time of the busiest of three nodes in a minute in which nothing happens.
    IdleCpu,
    /// What the busiest of three nodes writes in that minute.
    IdleTraffic,
}

impl Workload {
    /// All, in the order of the table.
    pub const ALL: [Self; 13] = [
        Self::Start,
        Self::Stop,
        Self::Growth,
        Self::Lookup,
        Self::LocalCall,
        Self::RemoteCall,
        Self::Message,
        Self::Memory,
        Self::Join,
        Self::Leave,
        Self::Failover,
        Self::IdleCpu,
        Self::IdleTraffic,
    ];

    /// The name in `--only` and in the JSON line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Growth => "growth",
            Self::Lookup => "lookup",
            Self::LocalCall => "local_call",
            Self::RemoteCall => "remote_call",
            Self::Message => "message",
            Self::Memory => "memory",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Failover => "failover",
            Self::IdleCpu => "idle_cpu",
            Self::IdleTraffic => "idle_traffic",
        }
    }

    /// The name in the table.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Start => "start in one call",
            Self::Stop => "stop in one call",
            Self::Growth => "start of 100,000 beside 10,000",
            Self::Lookup => "lookup",
            Self::LocalCall => "call, same node, p50",
            Self::RemoteCall => "call, other node, p50",
            Self::Message => "message of a stream, same node",
            Self::Memory => "memory per child",
            Self::Join => "join with handover",
            Self::Leave => "leave with handover",
            Self::Failover => "failover after SIGKILL",
            Self::IdleCpu => "processor time of an idle minute, per node",
            Self::IdleTraffic => "bytes sent in an idle minute, per node",
        }
    }

    /// In what it is told.
    #[must_use]
    pub const fn unit(self) -> Unit {
        match self {
            Self::Start | Self::Stop | Self::Join | Self::Leave | Self::Failover | Self::IdleCpu => Unit::Ms,
            Self::LocalCall | Self::RemoteCall | Self::Message => Unit::Us,
            Self::Lookup => Unit::Ns,
            Self::Memory => Unit::Bytes,
            Self::Growth => Unit::Times,
            Self::IdleTraffic => Unit::Kilobytes,
        }
    }

    /// What the project aims for on two cores: at most this much.
    fn aim(self, setting: Setting) -> Option<f64> {
        let per_language = |rust, python| match setting.language {
            Language::Rust => rust,
            Language::Python => python,
            Language::Node | Language::C => None,
        };
        match (self, setting.processes, setting.children) {
            (Self::Start, 3, 10_000) => per_language(Some(25.0), Some(60.0)),
            (Self::Start, 3, 100_000) => per_language(None, Some(700.0)),
            (Self::Growth, _, _) => Some(12.0),
            (Self::Lookup, _, _) => per_language(Some(60.0), Some(300.0)),
            (Self::RemoteCall, _, _) => per_language(Some(50.0), Some(150.0)),
            (Self::Memory, _, _) => per_language(Some(1024.0), None),
            (Self::Join | Self::Leave, _, 10_000) => Some(80.0),
            (Self::Failover, _, 10_000) => Some(60.0),
            (Self::IdleCpu | Self::IdleTraffic, _, _) => Some(100.0),
            (
                Self::Start | Self::Stop | Self::LocalCall | Self::Message | Self::Join | Self::Leave | Self::Failover,
                _,
                _,
            ) => None,
        }
    }

    /// What ProcessHub takes for the same on the same kind of machine.
    fn processhub(self, setting: Setting) -> Option<&'static str> {
        match (self, setting.processes, setting.children) {
            (Self::Start, 1, 1_000) => Some("36 ms"),
            (Self::Start, 1, 10_000) => Some("1,577 ms"),
            (Self::Start, 3, 1_000) => Some("26 ms"),
            (Self::Start, 3, 10_000) => Some("1,220 ms"),
            (Self::Start, _, 100_000) => Some("fails"),
            (Self::Stop, 1, 1_000) => Some("20 ms"),
            (Self::Stop, 1, 10_000) => Some("935 ms"),
            (Self::Stop, 3, 1_000) => Some("14 ms"),
            (Self::Stop, 3, 10_000) => Some("425 ms"),
            (Self::Growth, _, _) => Some("44–59 × (1,000 to 10,000)"),
            (Self::Lookup, _, _) => Some("260 ns"),
            (Self::LocalCall, _, _) => Some("1.1 µs"),
            (Self::RemoteCall, _, _) => Some("70 µs"),
            (Self::Memory, _, _) => Some("5–7 KiB"),
            (Self::Join, _, 10_000) => Some("787 ms"),
            (Self::Leave, _, 10_000) => Some("443 ms"),
            (Self::Failover, _, 10_000) => Some("252 ms"),
            (Self::IdleCpu, _, _) => Some("1,260 ms"),
            (Self::IdleTraffic, _, _) => Some("1,700 kB"),
            (Self::Start | Self::Stop | Self::Message | Self::Join | Self::Leave | Self::Failover, _, _) => None,
        }
    }
}

/// Where a figure was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The language of the children.
    pub language: Language,
    /// How many processes form the cluster.
    pub processes: usize,
    /// How many children there are.
    pub children: usize,
}

/// One figure: every run of it.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What of.
    pub workload: Workload,
    /// Where.
    pub setting: Setting,
    /// One value per run.
    pub values: Vec<f64>,
}

impl Figure {
    /// The middle value; of an even number the lower one of the two.
    #[must_use]
    pub fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
    }

    /// The least and the greatest value.
    #[must_use]
    pub fn range(&self) -> (f64, f64) {
        let least = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        (least, self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    }

    /// What was aimed for.
    #[must_use]
    pub fn aim(&self) -> Option<f64> {
        self.workload.aim(self.setting)
    }

    /// What ProcessHub takes.
    #[must_use]
    pub fn processhub(&self) -> Option<&'static str> {
        self.workload.processhub(self.setting)
    }

    /// Whether the median reaches the aim; none without an aim.
    #[must_use]
    pub fn is_ok(&self) -> Option<bool> {
        self.aim().map(|aim| self.median() <= aim)
    }

    /// As in the JSON line.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (min, max) = self.range();
        json!({
            "workload": self.workload.name(),
            "language": self.setting.language.to_string().to_lowercase(),
            "processes": self.setting.processes,
            "children": self.setting.children,
            "unit": self.workload.unit().name(),
            "median": self.median(), "min": min, "max": max, "runs": self.values.len(),
            "aim": self.aim(), "ok": self.is_ok(),
        })
    }
}

/// The figures of a run of the bench, and what could not be measured.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// In the order they were first taken.
    pub all: Vec<Figure>,
    /// One line per workload that failed.
    pub failures: Vec<String>,
}

impl Figures {
    /// Adds a value of one run.
    pub fn add(&mut self, workload: Workload, setting: Setting, value: f64) {
        let same = |figure: &&mut Figure| figure.workload == workload && figure.setting == setting;
        match self.all.iter_mut().find(same) {
            Some(figure) => figure.values.push(value),
            None => self.all.push(Figure { workload, setting, values: vec![value] }),
        }
    }

    /// Adds how many times as long 100,000 starts take as 10,000, wherever both were measured.
    pub fn add_growth(&mut self) {
        let starts = |children| {
            let figures = self.all.iter();
            figures.filter(move |it| it.workload == Workload::Start && it.setting.children == children)
        };
        let mut growths = Vec::new();
        for large in starts(100_000) {
            let setting = Setting { children: 10_000, ..large.setting };
            if let Some(small) = starts(10_000).find(|small| small.setting == setting) {
                growths.push((large.setting, large.median() / small.median()));
            }
        }
        for (setting, value) in growths {
            self.add(Workload::Growth, setting, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTING: Setting = Setting { language: Language::Rust, processes: 3, children: 10_000 };

    #[test]
    fn three_runs_then_the_middle_one_is_judged() {
        let mut figures = Figures::default();
        for value in [30.0, 24.0, 25.0] {
            figures.add(Workload::Start, SETTING, value);
        }
        let figure = &figures.all[0];
        assert_eq!((figure.median(), figure.range()), (25.0, (24.0, 30.0)));
        assert_eq!(figure.is_ok(), Some(true));
    }

    #[test]
    fn over_the_aim_then_not_ok() {
        let figure = Figure { workload: Workload::Failover, setting: SETTING, values: vec![60.1] };
        assert_eq!(figure.is_ok(), Some(false));
    }

    #[test]
    fn both_sizes_measured_then_growth_is_their_ratio() {
        let mut figures = Figures::default();
        figures.add(Workload::Start, SETTING, 10.0);
        figures.add(Workload::Start, Setting { children: 100_000, ..SETTING }, 130.0);
        figures.add_growth();
        let growth = figures.all.iter().find(|figure| figure.workload == Workload::Growth);
        assert_eq!(growth.map(|figure| (figure.median(), figure.is_ok())), Some((13.0, Some(false))));
    }
}
