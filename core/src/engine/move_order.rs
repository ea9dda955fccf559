//! The order in which moves begin, where the host decides it.
//!
//! Moves that could begin are collected and shown to the host, some hundreds at a time; they begin in the order of its
//! answer. Whatever it answers, every move of the question begins then, unless it is not wanted any more: the host
//! orders moves, and neither makes nor prevents one.

use std::collections::BTreeMap;

use indexmap::IndexSet;
use serde_json::{Value, json};

use super::Engine;
use super::children::Slot;
use super::decisions::Decision;
use super::hash::FixedHash;
use super::reconcile::{MAX_OPEN_MOVES, Need};
use crate::ids::{ChildId, NodeRef};

/// Moves of one question.
const MAX_ORDERED: usize = MAX_OPEN_MOVES / 2;

/// One move of a question.
#[derive(Debug)]
struct Planned {
    child: ChildId,
    to: NodeRef,
}

/// Moves whose order is not decided yet.
#[derive(Debug, Default)]
pub(super) struct MoveOrder {
    /// For the next questions.
    collected: IndexSet<Slot, FixedHash>,
    /// Of the open question.
    asked: Vec<Planned>,
}

impl MoveOrder {
    /// Adds a move that could begin.
    pub(super) fn collect(&mut self, child: Slot) {
        self.collected.insert(child);
    }

    /// No move waits for its turn.
    pub(super) fn is_empty(&self) -> bool {
        self.collected.is_empty() && self.asked.is_empty()
    }
}

impl Engine {
    /// Asks for the order of what was collected. A move by itself needs no order.
    pub(super) fn order_moves(&mut self) {
        let is_more_coming = self.children.has_dirty() || self.sweep.is_some();
        while !self.moves.order.collected.is_empty() && self.moves.order.asked.is_empty() {
            let is_enough = self.moves.order.collected.len() >= MAX_ORDERED;
            if self.moves.open > MAX_OPEN_MOVES - MAX_ORDERED || (is_more_coming && !is_enough) {
                return;
            }
            let collected = &mut self.moves.order.collected;
            let batch: Vec<Slot> = collected.drain(..collected.len().min(MAX_ORDERED)).collect();
            let mut moves: Vec<Planned> = Vec::new();
            for child in batch {
                if let Some(to) = self.move_target(child) {
                    moves.push(Planned { child: self.id(child), to });
                }
            }
            if moves.len() < 2 {
                self.begin_moves(moves);
                continue;
            }
            let from = &self.me.name;
            let shown: Vec<Value> =
                moves.iter().map(|one| json!({"id": one.child, "from": from, "to": one.to.name})).collect();
            self.moves.order.asked = moves;
            self.ask_host(Decision::MoveOrder, json!({ "moves": shown }));
        }
    }

    /// The host ordered the moves of the question; without a good answer they begin in the order of the question.
    pub(super) fn moves_ordered(&mut self, answer: Result<Value, String>) {
        let moves = std::mem::take(&mut self.moves.order.asked);
        let order = answer.and_then(|answer| read_order(&moves, &answer));
        if let Err(why) = &order {
            self.tell_fallback(Decision::MoveOrder, why);
        }
        let mut moves: Vec<Option<Planned>> = moves.into_iter().map(Some).collect();
        let order = order.unwrap_or_else(|_| (0..moves.len()).collect());
        let moves = order.into_iter().filter_map(|place| moves.get_mut(place)?.take()).collect();
        self.begin_moves(moves);
    }

    /// Begins these moves in this order. One whose target is another by now is ordered among the next.
    fn begin_moves(&mut self, moves: Vec<Planned>) {
        for planned in moves {
            let Some(child) = self.children.find(planned.child.as_str()) else {
                continue;
            };
            match self.move_target(child) {
                Some(to) if to != planned.to => self.try_move(child, &to),
                Some(to) if self.may_move(child, &to) => self.begin_move(child, &to),
                Some(_) | None => {}
            }
        }
    }

    /// Where the child moves to, if it shall move.
    fn move_target(&mut self, child: Slot) -> Option<NodeRef> {
        self.place([child]);
        match self.need(child) {
            Need::Move(to) => Some(to),
            Need::Nothing
            | Need::Stop(_)
            | Need::Start
            | Need::StartReplica
            | Need::Promote
            | Need::Follow(_)
            | Need::Conflict(..)
            | Need::Given(_)
            | Need::AbortMove
            | Need::Outlive(_)
            | Need::Remap(..)
            | Need::Unplaced => None,
        }
    }
}

/// The places of the question's moves in the order of the answer, which must name each once.
fn read_order(moves: &[Planned], answer: &Value) -> Result<Vec<usize>, String> {
    let ids = answer.as_array().ok_or("the answer is not a list of the moves' ids")?;
    let mut places: BTreeMap<&str, usize> =
        moves.iter().enumerate().map(|(at, one)| (one.child.as_str(), at)).collect();
    let mut order = Vec::with_capacity(moves.len());
    for id in ids {
        let id = id.as_str().ok_or_else(|| format!("{} in the answer is not an id", crate::config::show(id)))?;
        let place = places.remove(id);
        order.push(place.ok_or_else(|| {
            let is_known = moves.iter().any(|one| one.child.as_str() == id);
            let what = if is_known { "twice" } else { "which is not in the question" };
            format!("the answer names {}, {what}", crate::config::show(&json!(id)))
        })?);
    }
    match places.keys().next() {
        Some(left_out) => {
            Err(format!("the answer leaves out {left_out}: it orders {} of {} moves", order.len(), moves.len()))
        }
        None => Ok(order),
    }
}
