use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::Duration;

use super::*;
use crate::hub::inputs;

const PATIENCE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(1);

fn turns() -> Arc<Turns> {
    let (inputs, _receiver) = inputs::channel();
    Arc::clone(inputs.turns())
}

fn until(time: Duration) -> Timestamp {
    now() + time
}

fn wait_for(turns: &Turns, hosts: usize) {
    while turns.standing_by.lock().hosts.len() != hosts {
        thread::yield_now();
    }
}

#[test]
fn what_is_waited_for_is_there_then_nobody_stands_by_afterwards() {
    let turns = turns();
    assert_eq!(turns.stand_by(Role::Caller, until(PATIENCE), |_| Some(7)), Some(7));
    assert_eq!(turns.stand_by(Role::Host, until(SHORT), |_| None::<u8>), None);
    let standing_by = turns.standing_by.lock();
    assert!(standing_by.callers.is_empty() && standing_by.hosts.is_empty());
}

#[test]
fn waker_is_woken_then_the_thread_looks_again() {
    let turns = turns();
    let (told, wakers) = crossbeam_channel::unbounded();
    let is_there = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_there);
    let thread = thread::spawn(move || {
        turns.stand_by(Role::Caller, until(PATIENCE), |waker| {
            let _ = told.send(waker.clone());
            seen.load(Ordering::SeqCst).then_some(())
        })
    });
    let waker: Waker = wakers.recv_timeout(PATIENCE).unwrap();
    is_there.store(true, Ordering::SeqCst);
    waker.wake();
    assert_eq!(thread.join().unwrap(), Some(()));
}

#[test]
fn thread_of_the_host_took_another_call_than_it_was_woken_for_then_the_next_one_is_woken() {
    let turns = turns();
    let calls = Arc::new(AtomicUsize::new(0));
    let take = |calls: &AtomicUsize| {
        let taken = calls.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        taken.ok().map(|_| ())
    };
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (turns, calls) = (Arc::clone(&turns), Arc::clone(&calls));
            thread::spawn(move || turns.stand_by(Role::Host, until(PATIENCE), |_| take(&calls)))
        })
        .collect();
    wait_for(&turns, 8);
    for _ in 0..8 {
        calls.fetch_add(1, Ordering::SeqCst);
        turns.wake_hosts(1);
    }
    for thread in threads {
        assert_eq!(thread.join().unwrap(), Some(()));
    }
    assert!(turns.standing_by.lock().hosts.is_empty());
}

#[test]
fn callers_and_hosts_stand_by_then_a_light_input_goes_to_the_latest_caller_and_any_other_to_a_host() {
    for (weight, expected) in [(Weight::Light, Role::Caller), (Weight::Any, Role::Host)] {
        let turns = turns();
        let places: Vec<Arc<Place>> = (0..3).map(|_| Place::new()).collect();
        {
            let mut standing_by = turns.standing_by.lock();
            standing_by.hosts.push(Arc::clone(&places[0]));
            standing_by.callers.push(Arc::clone(&places[1]));
            standing_by.callers.push(Arc::clone(&places[2]));
        }
        turns.is_taken.store(false, Ordering::SeqCst);
        turns.call(weight);
        // Whoever was told has the duty: nobody else is told.
        turns.call(Weight::Any);
        let told: Vec<u8> = places.iter().map(|place| place.told.load(Ordering::SeqCst)).collect();
        match expected {
            Role::Caller => assert_eq!(told, [WAITING, WAITING, ON_DUTY]),
            Role::Host => assert_eq!(told, [ON_DUTY, WAITING, WAITING]),
        }
    }
}
