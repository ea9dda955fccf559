//! What is tried: each scenario in every mix, on hubs of its own.

mod balanced;
mod decisions;
mod exits;
mod hooks;
mod journey;
mod kinds;
mod losses;
mod messages;
mod moves;
mod protocol;
mod quorum;
mod reads;
mod requests;
mod roles;
mod strategies;
mod stuck;

use super::cluster::Mix;

/// One scenario.
pub(crate) struct Scenario {
    /// The name for `--only`.
    pub(crate) name: &'static str,
    /// Runs it; a panic is its failure.
    pub(crate) run: fn(&Mix),
}

/// Those that run in every mix; the longest first, since several run at a time.
pub(crate) const EVERY_MIX: &[Scenario] = &[
    Scenario { name: "heal", run: losses::heal },
    Scenario { name: "stuck_host", run: stuck::stuck_host },
    Scenario { name: "slow_callbacks", run: stuck::slow_callbacks },
    Scenario { name: "quorum", run: quorum::quorum },
    Scenario { name: "roles", run: roles::roles },
    Scenario { name: "balanced", run: balanced::balanced },
    Scenario { name: "killed_agent", run: losses::killed_agent },
    Scenario { name: "exited_process", run: losses::exited_process },
    Scenario { name: "exits", run: exits::exits },
    Scenario { name: "quarantine", run: exits::quarantine },
    Scenario { name: "decisions", run: decisions::decisions },
    Scenario { name: "handover", run: moves::handover },
    Scenario { name: "merges", run: moves::merges },
    Scenario { name: "drain_and_stop", run: moves::drain_and_stop },
    Scenario { name: "kinds", run: kinds::kinds },
    Scenario { name: "hooks", run: hooks::hooks },
    Scenario { name: "guided", run: strategies::guided },
    Scenario { name: "gossip", run: strategies::gossip },
    Scenario { name: "starts_and_stops", run: requests::starts_and_stops },
    Scenario { name: "start_options", run: requests::start_options },
    Scenario { name: "messages", run: messages::messages },
    Scenario { name: "recipients", run: messages::recipients },
    Scenario { name: "errors", run: messages::errors },
    Scenario { name: "lookups", run: reads::lookups },
    Scenario { name: "observing", run: reads::observing },
    Scenario { name: "bad_commands", run: protocol::bad_commands },
    Scenario { name: "ends", run: protocol::ends },
];

/// The one that runs in a mix of its own.
pub(crate) const JOURNEY: Scenario = Scenario { name: "journey", run: journey::journey };
