//! The simulator: whole clusters of real engines on virtual time (A1).
//!
//! Production and simulation differ only in who carries out the effects. A run is a seed: it draws a
//! configuration, a workload and faults, checks the safety invariants at every event, then heals the cluster
//! and checks that it settles.

mod config;
mod decider;
mod detector;
mod digest;
mod draw;
mod effects;
mod fact;
mod faults;
mod ghost;
mod handovers;
mod heal;
mod host;
mod invariants;
mod links;
mod machines;
mod membership;
mod network;
mod oracle;
mod queue;
pub mod script;
mod time;
mod trace;
mod turns;
mod user;
mod violation;
mod world;

pub use time::WorldTime;
pub use violation::Violation;

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Decides everything that is not fixed here.
    pub seed: u64,
    /// Number of machines; drawn without it.
    pub nodes: Option<usize>,
    /// Length of the safety phase; drawn without it.
    pub minutes: Option<u64>,
    /// The built-in defaults in the place of drawn strategies: what was known before they were drawn.
    pub plain: bool,
    /// Whether there is a strategy with a quorum; drawn without it.
    pub quorum: Option<bool>,
    /// Print the history.
    pub trace: bool,
    /// Print only what concerns this child.
    pub child: Option<String>,
}

impl Options {
    /// The command that runs exactly this again.
    #[must_use]
    pub fn command(&self) -> String {
        let mut command = format!("cargo xtask sim --seed {}", self.seed);
        if let Some(nodes) = self.nodes {
            command.push_str(&format!(" --nodes {nodes}"));
        }
        if let Some(minutes) = self.minutes {
            command.push_str(&format!(" --minutes {minutes}"));
        }
        if self.plain {
            command.push_str(" --plain");
        }
        match self.quorum {
            Some(true) => command.push_str(" --quorum"),
            Some(false) => command.push_str(" --no-quorum"),
            None => {}
        }
        command
    }
}

/// What came of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The broken invariant, if one was found; the run ended there.
    pub violation: Option<Violation>,
    /// Hash over all effects.
    pub digest: u64,
    /// Events handled.
    pub events: u64,
    /// Simulated time.
    pub simulated: WorldTime,
    /// Faults that struck.
    pub faults: u64,
    /// Handovers that began.
    pub handovers: u64,
    /// Handovers with a fault inside.
    pub handovers_cut: u64,
}

/// Runs one seed.
#[must_use]
pub fn run(options: &Options) -> Report {
    let mut world = world::World::new(options);
    let violation = world.run().err();
    Report {
        seed: options.seed,
        violation,
        digest: world.digest.value(),
        events: world.events,
        simulated: world.now,
        faults: world.faults.count,
        handovers: world.handovers.count,
        handovers_cut: world.handovers.cut_count,
    }
}
