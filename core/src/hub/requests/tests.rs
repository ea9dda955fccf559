use super::*;
use crate::hub::inputs::{self, DriverInput, InputReceiver, MAX_WAITING_COMMANDS};

const PATIENCE: Duration = Duration::from_secs(20);

fn requests() -> (Requests, InputReceiver) {
    let (sender, receiver) = inputs::channel();
    let queue = HostQueue::new(sender.clone());
    (Requests::new(sender, queue), receiver)
}

fn sync(requests: &Requests) -> Pending<()> {
    requests.submit(Command::Sync(PATIENCE), |outcome| outcome.into_done().map(Ok))
}

#[test]
fn r19_process_was_forked_then_every_operation_says_so_and_reaches_nobody() {
    let (mut requests, inputs) = requests();
    requests.process = requests.process.wrapping_add(1);
    let error = sync(&requests).wait().unwrap_err();
    assert_eq!((error.kind, error.operation.as_str()), (ErrorKind::Forked, "sync"));
    requests.cancel(RequestId(1));
    requests.submit_unread(Command::Drain(PATIENCE));
    assert!(inputs.receiver.is_empty());
}

#[test]
fn r17_driver_takes_no_commands_then_callers_are_told_overloaded() {
    let (requests, inputs) = requests();
    let waiting: Vec<Pending<()>> = (0..MAX_WAITING_COMMANDS).map(|_| sync(&requests)).collect();
    assert_eq!(sync(&requests).wait().unwrap_err().kind, ErrorKind::Overloaded);
    let taken = inputs.receiver.recv().unwrap();
    inputs.taken(&taken);
    let pending = sync(&requests);
    assert_eq!(inputs.receiver.len(), MAX_WAITING_COMMANDS);
    drop((waiting, pending));
}

#[test]
fn driver_ended_then_operations_answer_closed() {
    let (requests, inputs) = requests();
    let open = sync(&requests);
    drop(inputs);
    for pending in [open, sync(&requests)] {
        assert_eq!(pending.wait().unwrap_err().kind, ErrorKind::Closed);
    }
}

#[test]
fn hub_ended_for_a_reason_then_operations_answer_it_by_their_own_names() {
    let (requests, _inputs) = requests();
    requests.end(Error::new(ErrorKind::HubFailed, "engine", "broken"));
    requests.end(Error::new(ErrorKind::Closed, "stop", "later"));
    let error = sync(&requests).wait().unwrap_err();
    assert_eq!(error, Error::new(ErrorKind::HubFailed, "sync", "broken"));
}

#[test]
fn operations_are_submitted_then_their_numbers_differ() {
    let (requests, inputs) = requests();
    let pending = [sync(&requests), sync(&requests)];
    assert_ne!(pending[0].id(), pending[1].id());
    match inputs.receiver.recv() {
        Ok(DriverInput::Command(id, Command::Sync(_), _)) => assert_eq!(id, pending[0].id()),
        other => panic!("expected a command, not {other:?}"),
    }
}
