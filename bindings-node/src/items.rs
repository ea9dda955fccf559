//! Items of the host queue as cells; `items.ts` names the numbers.

use process_hub::engine::Outcome;
use process_hub::host::call::{HandoverTarget, HostCall, HostRequest, StartContext};
use process_hub::host::queue::HostItem;
use serde_json::json;

use crate::cell::Cell;

/// Cells of one item: operation, number of the call or request, instance, and two that belong to the operation.
pub(crate) const WIDTH: usize = 5;

// What is no call: the calls have the numbers of the core.
const NOTHING: u8 = 0;
const COMPLETED: u8 = HostRequest::LAST_NUMBER + 1;
const HOOK: u8 = HostRequest::LAST_NUMBER + 2;
const CLOSED: u8 = HostRequest::LAST_NUMBER + 3;
const DECIDE: u8 = HostRequest::LAST_NUMBER + 4;

fn item(operation: u8, number: u64, instance: u64, first: Cell, second: Cell) -> [Cell; WIDTH] {
    [Cell::Number(operation.into()), Cell::number(number), Cell::number(instance), first, second]
}

/// The cells of an item.
pub(crate) fn cells(of: HostItem) -> [Cell; WIDTH] {
    match of {
        HostItem::Call(call) => call_cells(call),
        HostItem::Decide(decision) => {
            let question = &decision.question;
            let strategy = Cell::json(&json!([question.family.name(), question.strategy]));
            item(DECIDE, decision.number.0, 0, strategy, Cell::text(question.question.to_string()))
        }
        HostItem::Completed(request, Ok(outcome)) => item(COMPLETED, request.0, 0, Cell::Null, outcome_cell(outcome)),
        HostItem::Completed(request, Err(error)) => {
            item(COMPLETED, request.0, 0, Cell::text(error.to_json().to_string()), Cell::Null)
        }
        HostItem::Hook(event) => item(HOOK, 0, 0, Cell::text(event.name.name()), Cell::text(event.payload.to_string())),
        HostItem::Task(task) => {
            // Nobody queues one here: tasks are for hosts whose threads are the core's.
            task.run();
            item(NOTHING, 0, 0, Cell::Null, Cell::Null)
        }
        HostItem::Closed => item(CLOSED, 0, 0, Cell::Null, Cell::Null),
    }
}

/// Replies cross as payloads, everything else as its document.
fn outcome_cell(outcome: Outcome) -> Cell {
    match outcome {
        Outcome::Done => Cell::Null,
        Outcome::Reply(payload) => Cell::Payload(payload),
        Outcome::Started(result) => Cell::json(&result),
        Outcome::Stopped(result) => Cell::json(&result),
        Outcome::Drained(report) => Cell::json(&report),
        Outcome::Json(value) => Cell::text(value.to_string()),
        Outcome::Children(nodes) => Cell::json(&nodes),
    }
}

/// What is told of a start besides its arguments. The hub and the node are known.
fn context(context: &StartContext) -> Cell {
    let spec = &context.spec;
    Cell::List(vec![
        Cell::text(spec.id.as_str()),
        Cell::text(spec.kind.as_str()),
        Cell::number(context.epoch.0),
        Cell::text(context.mode.name()),
        Cell::text(context.reason.name()),
        spec.metadata.as_deref().map_or(Cell::Null, Cell::text),
    ])
}

fn call_cells(call: HostCall) -> [Cell; WIDTH] {
    let operation = call.request.number();
    let (first, second) = match call.request {
        HostRequest::Start(start) => (context(&start), Cell::Payload(start.spec.args.clone())),
        HostRequest::Run | HostRequest::CancelRun | HostRequest::PrepareState | HostRequest::Discard => {
            (Cell::Null, Cell::Null)
        }
        HostRequest::Handle { message, chain } => {
            // The children that wait for this one; it adds itself.
            let chain = if chain.is_empty() { Cell::Null } else { Cell::json(&chain) };
            (Cell::Payload(message), chain)
        }
        HostRequest::AlterState(state) | HostRequest::ResolveConflict(state) => (Cell::Payload(state), Cell::Null),
        HostRequest::RedundancySignal(mode) => (Cell::text(mode.name()), Cell::Null),
        HostRequest::HandoverStart(HandoverTarget::Node { node, epoch }) => {
            (Cell::json(&json!({ "node": node, "epoch": epoch })), Cell::Null)
        }
        HostRequest::HandoverStart(HandoverTarget::Error(error)) => {
            (Cell::json(&json!({ "error": error })), Cell::Null)
        }
        HostRequest::SetRole(epoch, mode) => (Cell::number(epoch.0), Cell::text(mode.name())),
        HostRequest::Stop(reason) => (Cell::json(&reason), Cell::Null),
        HostRequest::AlterSpec { spec, nodes } => (Cell::text(spec.to_json().to_string()), Cell::json(&nodes)),
    };
    item(operation, call.number.0, call.instance.0, first, second)
}
