//! Decisions of the host: the order in which moves begin.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bench;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bench::{Bench, Joiner, spec};
use process_hub::config::{HubConfig, Migration};
use process_hub::engine::{Command, Input, StartOptions};
use process_hub::host::call::{HostAnswer, HostFailure};
use process_hub::ids::{ChildId, NodeRef};
use process_hub::observe::HookName;
use process_hub::payload::Payload;
use process_hub::strategy::Family;
use serde_json::{Value, json};

fn good(answer: &Value) -> Option<HostAnswer> {
    Some(HostAnswer::Done(Some(Payload::from_value(answer))))
}

fn ids(question: &Value) -> Vec<&str> {
    question["moves"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect()
}

/// The last id of the alphabet first.
fn backwards(question: &Value) -> Option<HostAnswer> {
    let mut ids = ids(question);
    ids.sort_unstable();
    ids.reverse();
    good(&json!(ids))
}

/// One node, whose children are many enough to move a few to another.
fn one_node(children: usize) -> (Bench, NodeRef) {
    let migration = Migration::hosted("mine", Migration::hot_swap().with_handover(true));
    let (mut bench, nodes) = Bench::of(HubConfig::new("orders").unwrap().with_migration(migration), &["a"]);
    let specs = (0..children).map(|n| spec(&format!("cart:{n:04}"))).collect();
    assert_eq!(bench.start(&nodes[0], specs, StartOptions::default()).unwrap().errors, []);
    (bench, nodes[0].clone())
}

/// The children that this node gave away, in the order in which their moves began.
fn begun(bench: &Bench, from: &NodeRef) -> Vec<String> {
    let prepared = bench.told.iter().filter(|told| told.0 == *from && told.2.starts_with("Prepare"));
    let mut seen = BTreeSet::new();
    let children = prepared.map(|told| told.2.split('"').nth(1).unwrap().to_owned());
    children.filter(|child| seen.insert(child.clone())).collect()
}

fn fallbacks(bench: &Bench) -> Vec<String> {
    let told = bench.hooks.iter().filter(|(_, hook, _)| *hook == HookName::StrategyFallback);
    let why = |payload: &Value| {
        assert_eq!(payload["strategy"], "mine");
        payload["why"].as_str().unwrap().to_owned()
    };
    told.map(|(_, _, payload)| why(payload)).collect()
}

/// `b` joins, and time passes until the host is asked.
fn join_while_undecided(bench: &mut Bench) -> NodeRef {
    let b = bench.enter("b", Joiner::default());
    while bench.questions.is_empty() {
        bench.pass(Duration::from_millis(1));
    }
    b
}

/// Every child runs, once, and `moved` of them on `b`.
fn assert_all_run(bench: &Bench, at: &NodeRef, children: usize, moved: usize) {
    let mut counts = BTreeMap::new();
    for n in 0..children {
        let nodes = bench.nodes_of(at, &format!("cart:{n:04}"));
        assert_eq!(nodes.len(), 1, "cart:{n:04} on {nodes:?}");
        *counts.entry(nodes[0].clone()).or_insert(0) += 1;
    }
    assert_eq!(counts.get("b"), Some(&moved), "{counts:?}");
}

#[test]
fn host_orders_the_moves_then_they_begin_in_that_order() {
    let (mut bench, a) = one_node(40);
    bench.decide = backwards;
    bench.join("b");
    let (node, _, question) = bench.questions.first().expect("the host is asked").clone();
    assert_eq!((node, question.family, question.strategy.as_str()), (a.clone(), Family::Migration, "mine"));
    let first = &question.question["moves"][0];
    assert_eq!((first["from"].as_str(), first["to"].as_str()), (Some("a"), Some("b")));

    let mut wanted: Vec<String> = ids(&question.question).into_iter().map(str::to_owned).collect();
    assert!(wanted.len() > 10, "{wanted:?}");
    wanted.sort_unstable();
    wanted.reverse();
    assert_eq!(begun(&bench, &a), wanted);
    assert_eq!(bench.questions.len(), 1, "once per batch");
    assert_all_run(&bench, &a, 40, wanted.len());
    assert_eq!(fallbacks(&bench), Vec::<String>::new());
}

#[test]
fn host_answers_badly_then_the_moves_begin_all_the_same_and_strategy_fallback_tells_why() {
    type Answers = [(fn(&Value) -> Option<HostAnswer>, &'static str); 9];
    let answers: Answers = [
        (|_| None, "`decide` did not end in time"),
        (|_| Some(HostAnswer::Failed(HostFailure::new("no idea"))), "no idea"),
        (|_| Some(HostAnswer::Done(None)), "the answer is empty"),
        (|_| Some(HostAnswer::Done(Some(Payload::bytes(vec![1])))), "the answer is not JSON"),
        (|_| Some(HostAnswer::Done(Some(Payload::json("[")))), "the answer is not JSON: EOF"),
        (|_| good(&json!({"first": "cart:0001"})), "the answer is not a list of the moves' ids"),
        (|_| good(&json!([7])), "7 in the answer is not an id"),
        (|question| good(&json!(ids(question)[1..])), "the answer leaves out cart:"),
        (
            |question| good(&json!(ids(question).into_iter().chain(["cart:new"]).collect::<Vec<_>>())),
            "the answer names \"cart:new\", which is not in the question",
        ),
    ];
    for (decide, why) in answers {
        let (mut bench, a) = one_node(40);
        bench.decide = decide;
        bench.join("b");
        let question = bench.questions[0].2.clone();
        assert_eq!(begun(&bench, &a), ids(&question.question), "{why}");
        assert_all_run(&bench, &a, 40, ids(&question.question).len());
        let told = fallbacks(&bench);
        assert!(told.len() == 1 && told[0].starts_with(why), "{why}: {told:?}");
    }
}

#[test]
fn host_names_a_move_twice_then_that_is_told() {
    let (mut bench, a) = one_node(40);
    bench.decide = |question| good(&json!(ids(question).into_iter().map(|_| ids(question)[0]).collect::<Vec<_>>()));
    bench.join("b");
    assert!(fallbacks(&bench)[0].ends_with("\", twice"), "{:?}", fallbacks(&bench));
    assert_all_run(&bench, &a, 40, begun(&bench, &a).len());
}

#[test]
fn host_answers_after_the_deadline_then_its_answer_counts_for_nothing() {
    let (mut bench, a) = one_node(40);
    bench.join("b");
    let (node, number, question) = bench.questions[0].clone();
    let before = begun(&bench, &a);
    assert_eq!(before.len(), ids(&question.question).len(), "the built-in has decided");
    bench.give(&node, Input::HostDone(number, backwards(&question.question).unwrap()));
    bench.pass(Duration::from_secs(1));
    assert_eq!(begun(&bench, &a), before);
    assert_eq!(bench.engines[&a].counters().late_completions, 1);
    assert_eq!(fallbacks(&bench).len(), 1);
}

#[test]
fn one_child_moves_then_the_host_is_not_asked() {
    let (mut bench, a) = one_node(1);
    let mut moved = 0;
    for name in ["b", "c", "d", "e", "f", "g"] {
        bench.join(name);
        moved = begun(&bench, &a).len();
        if moved > 0 {
            break;
        }
    }
    assert_eq!(moved, 1, "one of the nodes takes it");
    assert!(bench.questions.is_empty());
}

#[test]
fn child_is_stopped_while_the_host_decides_then_the_others_move_and_it_does_not() {
    let (mut bench, a) = one_node(40);
    join_while_undecided(&mut bench);
    let (node, number, question) = bench.questions[0].clone();
    let moving = ids(&question.question);
    bench.ask(&a, Command::Stop(vec![ChildId::new(moving[0]).unwrap()], Duration::from_secs(5)));
    bench.pass(Duration::from_millis(100));
    bench.give(&node, Input::HostDone(number, backwards(&question.question).unwrap()));
    bench.pass(Duration::from_secs(2));
    let begun = begun(&bench, &a);
    assert_eq!(begun.len(), moving.len() - 1);
    assert!(!begun.contains(&moving[0].to_owned()));
    assert_eq!(bench.nodes_of(&a, moving[0]), Vec::<String>::new());
    assert_eq!(fallbacks(&bench), Vec::<String>::new());
}

#[test]
fn target_leaves_while_the_host_decides_then_no_move_begins_and_every_child_stays() {
    let (mut bench, a) = one_node(40);
    let b = join_while_undecided(&mut bench);
    let (node, number, question) = bench.questions[0].clone();
    bench.kill(&b);
    bench.pass(Duration::from_millis(200));
    bench.give(&node, Input::HostDone(number, backwards(&question.question).unwrap()));
    bench.pass(Duration::from_secs(3));
    assert_eq!(begun(&bench, &a), Vec::<String>::new());
    for n in 0..40 {
        assert_eq!(bench.nodes_of(&a, &format!("cart:{n:04}")), ["a"]);
    }
}

#[test]
fn more_moves_than_a_question_holds_then_the_host_is_asked_batch_by_batch() {
    let (mut bench, a) = one_node(3000);
    bench.decide = backwards;
    bench.join("b");
    bench.pass(Duration::from_secs(3));
    let sizes: Vec<usize> = bench.questions.iter().map(|(_, _, question)| ids(&question.question).len()).collect();
    assert!(sizes.len() >= 3 && sizes.iter().all(|size| *size <= 512), "{sizes:?}");
    let begun = begun(&bench, &a);
    assert!(begun.len() > 1200, "{}", begun.len());
    assert_all_run(&bench, &a, 3000, begun.len());
}
