//! Moments of a run at which a process may be made to die.

use process_hub::engine::Effect;
use process_hub::observe::HookName;

/// An effect of an engine, by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// The host is called: `start`, `prepare_handover_state`, …
    Calls(&'static str),
    /// A hook fires.
    Tells(HookName),
    /// A frame with this message of the wire is sent: `Prepare`, `Commit`, …
    Sends(&'static str),
}

/// What makes a process die.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trap {
    /// The end of this many effects.
    Effects(u32),
    /// Such an effect is about to be carried out.
    Before(Moment),
    /// Such an effect was carried out.
    After(Moment),
}

impl Moment {
    /// Whether this is the effect.
    #[allow(clippy::wildcard_enum_match_arm, reason = "the effects that have such a name are told apart")]
    pub(crate) fn is(self, effect: &Effect) -> bool {
        match (self, effect) {
            (Self::Calls(name), Effect::Host(call)) => call.request.callback() == name,
            (Self::Tells(name), Effect::Hook(event)) => event.name == name,
            (Self::Sends(name), Effect::Send { frame, .. }) => process_hub::wire::describe(frame)
                .iter()
                .any(|text| text.split(|letter: char| !letter.is_alphanumeric()).next() == Some(name)),
            _ => false,
        }
    }
}
