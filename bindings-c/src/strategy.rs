//! Strategies in C: functions that decide for a family.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use process_hub::host::{Decide, Reply};
use process_hub::hub::HubBuilder;
use process_hub::strategy::{Family, Question};

use crate::boundary::{HandlePointer as _, TextPointer as _, UserData, c_text, enter, lend, ph_drop, refuse};
use crate::child::with_reply;
use crate::current;
use crate::reply::KeptReplies;
use crate::types::{ph_error, ph_hub, ph_reply, ph_status, ph_strategy_callback};

type Function = unsafe extern "C" fn(*mut c_void, *const c_char, *mut ph_reply) -> ph_status;

/// The program's function, and where it belongs.
#[derive(Clone)]
pub(crate) struct Strategy {
    family: Family,
    name: String,
    decider: Arc<Decider>,
}

struct Decider {
    /// Freed first, and the data last.
    later: KeptReplies,
    function: Function,
    hub: u64,
    user_data: UserData,
}

/// What the core asks.
struct Asked(Arc<Decider>);

impl Strategy {
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.family == other.family && self.name == other.name
    }

    pub(crate) fn add_to_builder(&self, builder: HubBuilder) -> HubBuilder {
        builder.decide(self.family, &self.name, Asked(Arc::clone(&self.decider)))
    }
}

impl Decide for Asked {
    fn decide(&self, question: &Question, reply: Reply) {
        let Self(decider) = self;
        let text = c_text(&question.question.to_string());
        let mut reply = Some(reply);
        let later = |handle| {
            decider.later.keep(handle);
            reply.take()
        };
        let call = |handle| {
            let _inside = current::enter(decider.hub, None);
            // SAFETY: the program gave this function for this pointer; the text lives for the call.
            unsafe { (decider.function)(decider.user_data.get(), lend(&text), handle) }
        };
        let answer = with_reply(call, later);
        if let (Some(answer), Some(reply)) = (answer, reply) {
            reply.answer(answer);
        }
    }
}

/// Registers a function that decides for a strategy family ("redundancy", "migration", "partition_tolerance" or
/// "distribution"), under the name that a configuration of the type "custom" gives. Before the start only; the same family
/// and name replace. docs/strategies.md shows the questions and their answers.
///
/// `user_data` is the library's from now on, also on failure: `drop`, unless NULL, is called with it once, after the
/// last call of the function, and before `ph_hub_free` returns unless a call never does. `*err`, unless NULL, is the
/// program's on failure. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_register_strategy(
    hub: *mut ph_hub,
    family: *const c_char,
    name: *const c_char,
    callback: ph_strategy_callback,
    user_data: *mut c_void,
    drop: ph_drop,
    err: *mut *mut ph_error,
) -> ph_status {
    const OPERATION: &str = "register_strategy";
    let user_data = UserData::new(user_data, drop);
    enter(OPERATION, err, || {
        let family = Family::parse(family.text(OPERATION, "family")?)?;
        let name = name.text(OPERATION, "name")?.to_owned();
        let function = callback.ok_or_else(|| refuse(OPERATION, "the callback is NULL"))?;
        let decider = Arc::new(Decider { function, user_data, hub: hub.number(), later: KeptReplies::default() });
        hub.object(OPERATION)?.add_strategy(Strategy { family, name, decider }, OPERATION)
    })
}
