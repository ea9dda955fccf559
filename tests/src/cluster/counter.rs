//! The child of the scenarios: counts, keeps texts, and misbehaves when asked to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use process_hub::host::call::{HostFailure, StartReason, StopReason};
use process_hub::host::{Child, Context, Kind, kind_fn};
use process_hub::ids::{ChildId, NodeName};
use process_hub::payload::Payload;
use process_hub::spec::Mode;

use super::census::{Census, Step};
use super::text;

/// A total and some texts; both are its state.
///
/// Messages: `add` (replies the new total), `total`, `set KEY VALUE`, `get KEY`, `node`, `mode`, `epoch`, `exit`, `crash`,
/// `stop_self`, `fail`, `panic`, `wait` (at its gate), `call ID MESSAGE`, `reply BYTES`, `keep` (its state) and
/// `let_go` of it. With the argument `"refuse"`
/// it does not start, with `"crash"` every instance after the first crashes as soon as it started.
pub struct Counter {
    census: Arc<Census>,
    stay: Option<(ChildId, NodeName)>,
    total: u64,
    texts: BTreeMap<String, String>,
    keeps: bool,
}

/// The kind of [`Counter`], telling this census.
pub fn counter_kind(census: Arc<Census>) -> impl Kind + 'static {
    kind_fn(true, move || {
        Box::new(Counter { census: Arc::clone(&census), stay: None, total: 0, texts: BTreeMap::new(), keeps: false })
    })
}

impl Counter {
    fn pass(&self, step: Step) {
        if let Some((child, _)) = &self.stay {
            self.census.pass(step, child);
        }
    }

    fn answer(&mut self, ctx: &Context, said: &str) -> Result<String, HostFailure> {
        let words: Vec<&str> = said.splitn(3, ' ').collect();
        match words[..] {
            ["add"] => self.total += 1,
            ["total"] => {}
            ["set", key, value] => drop(self.texts.insert(key.into(), value.into())),
            ["get", key] => return Ok(self.texts.get(key).cloned().unwrap_or_default()),
            ["node"] => return Ok(ctx.node().to_string()),
            ["mode"] => return Ok(format!("{:?}", ctx.mode())),
            ["epoch"] => return Ok(ctx.epoch().0.to_string()),
            ["exit"] => ctx.exit(None),
            ["crash"] => ctx.exit(Some("on purpose".into())),
            ["stop_self"] => ctx.stop_self(),
            ["keep"] => self.keeps = true,
            ["let_go"] => self.keeps = false,
            ["fail"] => return Err(HostFailure::new("on purpose")),
            ["panic"] => panic!("on purpose"),
            ["wait"] => self.pass(Step::Handle),
            ["reply", bytes] => return Ok("x".repeat(bytes.parse().unwrap())),
            ["call", child, message] => {
                return match ctx.call(child, text(message), Duration::from_secs(10)) {
                    Ok(reply) => Ok(String::from_utf8_lossy(&reply.data).into_owned()),
                    Err(error) => Err(HostFailure { kind: Some(error.kind), ..HostFailure::new(error.message) }),
                };
            }
            _ => return Err(HostFailure::new(format!("unknown message {said:?}"))),
        }
        Ok(self.total.to_string())
    }
}

impl Child for Counter {
    fn start(&mut self, ctx: &Context, args: Payload) -> Result<(), HostFailure> {
        if &args.data[..] == b"\"refuse\"" {
            return Err(HostFailure::new("refused on purpose"));
        }
        self.census.began(ctx.child_id(), ctx.node());
        self.stay = Some((ctx.child_id().clone(), ctx.node().clone()));
        self.pass(Step::Start);
        if &args.data[..] == b"\"crash\"" && ctx.start_reason() == StartReason::Restart {
            ctx.exit(Some("on purpose".into()));
        }
        Ok(())
    }

    fn handle(&mut self, ctx: &Context, message: Payload) -> Result<Payload, HostFailure> {
        let said = String::from_utf8_lossy(&message.data).into_owned();
        self.answer(ctx, &said).map(text)
    }

    fn redundancy_signal(&mut self, mode: Mode) {
        if let Some((child, node)) = &self.stay {
            self.census.signalled(child, node, mode);
        }
    }

    fn prepare_handover_state(&mut self) -> Result<Option<Payload>, HostFailure> {
        self.pass(Step::Prepare);
        if self.keeps {
            return Err(HostFailure::new("not now"));
        }
        Ok(Some(Payload::from_value(&serde_json::json!({"total": self.total, "texts": self.texts}))))
    }

    fn alter_handover_state(&mut self, state: Payload) -> Result<(), HostFailure> {
        let state: serde_json::Value =
            serde_json::from_slice(&state.data).map_err(|error| HostFailure::new(error.to_string()))?;
        self.total = state["total"].as_u64().unwrap_or_default();
        let texts = state["texts"].as_object().into_iter().flatten();
        self.texts = texts.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().into())).collect();
        Ok(())
    }

    fn stop(&mut self, _: StopReason) {
        self.pass(Step::Stop);
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        if let Some((child, node)) = &self.stay {
            self.census.ended(child, node);
        }
    }
}
