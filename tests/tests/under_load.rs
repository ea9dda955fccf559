//! Additions under load while a node joins and leaves: none that was acknowledged is lost, no call fails.
//!
//! Ten rounds; `PROCESS_HUB_ROUNDS` asks for another number.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests that run in real time, over real sockets"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use process_hub::config::Migration;
use process_hub::engine::MessageCommand;
use process_hub::hub::Hub;
use process_hub_tests::cluster::{Cluster, PATIENCE, ask_all, child_id, eventually, text};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CHILD_COUNT: usize = 1_000;
const CALLER_COUNT: u64 = 8;

/// What has to be added before the join, between join and leave, and after the leave of a round.
const ADDITIONS_BETWEEN: u64 = 1_500;

/// Threads that add without a pause.
struct Callers {
    control: Arc<Control>,
    threads: Vec<thread::JoinHandle<Vec<String>>>,
}

#[derive(Default)]
struct Control {
    is_over: AtomicBool,
    acknowledged: AtomicU64,
}

impl Callers {
    fn start(hubs: &[Hub], ids: &[String]) -> Self {
        let control = Arc::<Control>::default();
        let ids: Arc<[String]> = ids.into();
        let threads = (0..CALLER_COUNT).map(|number| {
            let (control, ids) = (Arc::clone(&control), Arc::clone(&ids));
            let hub = hubs[usize::try_from(number).unwrap() % hubs.len()].clone();
            thread::spawn(move || control.add_until_over(&hub, &ids, number))
        });
        let threads = threads.collect();
        Self { control, threads }
    }

    /// Waits until a good number of additions more were acknowledged.
    fn go_on(&self) {
        let goal = self.control.acknowledged.load(Ordering::Acquire) + ADDITIONS_BETWEEN;
        eventually("the callers go on", || self.control.acknowledged.load(Ordering::Acquire) >= goal);
    }

    /// How many additions were acknowledged; panics when a call failed.
    fn finish(self) -> u64 {
        self.control.is_over.store(true, Ordering::Release);
        let failures: Vec<String> = self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert!(failures.is_empty(), "{} calls failed, first {:?}", failures.len(), &failures[..failures.len().min(5)]);
        self.control.acknowledged.load(Ordering::Acquire)
    }
}

impl Control {
    /// Adds to children chosen at random; what failed.
    fn add_until_over(&self, hub: &Hub, ids: &[String], seed: u64) -> Vec<String> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut failed = Vec::new();
        while !self.is_over.load(Ordering::Acquire) {
            let id = &ids[random.random_range(0..ids.len())];
            match hub.call(MessageCommand::new(child_id(id), text("add"))).wait() {
                Ok(_) => drop(self.acknowledged.fetch_add(1, Ordering::AcqRel)),
                Err(error) => failed.push(format!("{id} from {}: {error}", hub.node_name())),
            }
        }
        failed
    }
}

fn rounds() -> usize {
    std::env::var("PROCESS_HUB_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(10)
}

fn join_and_leave_under_load(migration: Migration) {
    let mut cluster = Cluster::migrating_by(migration);
    cluster.join_all(&["a", "b"]);
    let ids = cluster.start_counters(CHILD_COUNT);
    let mut acknowledged = 0;
    for round in 0..rounds() {
        let callers = Callers::start(&cluster.hubs, &ids);
        callers.go_on();
        cluster.join("c");
        cluster.settle();
        callers.go_on();
        let report = cluster.take("c").stop(PATIENCE).unwrap();
        cluster.settle();
        callers.go_on();
        acknowledged += callers.finish();
        assert_eq!((report.failed, report.restarted, report.stopped), (vec![], vec![], vec![]));
        assert!(report.moved.len() > CHILD_COUNT / 5, "only {} children moved", report.moved.len());
        let totals = ask_all(&cluster.hubs[0], ids.iter().map(|id| (id.as_str(), "total".into())));
        let sum: u64 = totals.iter().map(|total| total.parse::<u64>().unwrap()).sum();
        assert_eq!(sum, acknowledged, "round {round}: additions in the counters, and acknowledged");
        cluster.assert_each_lives_once(&ids);
    }
}

#[test]
fn under_load_join_and_leave_lose_no_addition_with_hot_swap() {
    join_and_leave_under_load(Migration::hot_swap().with_handover(true));
}

#[test]
fn under_load_join_and_leave_lose_no_addition_with_cold_swap() {
    join_and_leave_under_load(Migration::cold_swap().with_handover(true));
}
