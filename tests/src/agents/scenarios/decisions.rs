//! Strategies that the agents' own code decides.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::agents::cluster::{Mix, eventually_or, keys, text};

const CHILDREN: usize = 24;

/// How the giver's strategy answers, and why the built-in decided instead, if it did.
const MANNERS: [(&str, Option<&str>); 4] = [
    ("backwards", None),
    ("throw", Some("no idea")),
    ("nonsense", Some("the answer is not a list of the moves' ids")),
    ("never", Some("`decide` did not end in time")),
];

/// A hub joins another, whose strategy is asked for the order of the moves: whatever it answers, they move with their
/// states.
pub(crate) fn decisions(mix: &Mix) {
    let agents = mix.agents();
    for (turn, (manner, why)) in MANNERS.into_iter().enumerate() {
        let base = json!({"type": "hot_swap", "handover": true});
        let migration = json!({"type": "custom", "name": "mine", "base": base});
        let mut cluster = mix.hubs(&format!("decisions_{manner}"), json!({"migration": migration}));
        cluster.strategies = json!({"migration": {"mine": manner}});
        let giver = cluster.join(&agents[turn % agents.len()]);
        giver.ask("subscribe", json!({"hook": "strategy_fallback"}));
        let specs: Vec<Value> = (0..CHILDREN)
            .map(|n| json!({"id": format!("child:{n}"), "kind": "probe", "args": {"data": {"n": n}}}))
            .collect();
        let started = giver.ask("start_children", json!({"specs": specs, "options": {"timeout_ms": 20_000}}));
        assert_eq!(started["errors"], json!([]), "{started}");

        let taker = cluster.join(&agents[(turn + 1) % agents.len()]);
        let event = giver.agent.event(&cluster.hub_id, "a question", |event| event["event"] == "decide");
        assert_eq!((&event["family"], &event["strategy"]), (&json!("migration"), &json!("mine")));
        assert_eq!(keys(&event["question"]), ["moves"]);
        let moves = event["question"]["moves"].as_array().expect("a list");
        assert!(moves.len() > 1, "a single move is not asked about");
        for one in moves {
            assert_eq!((&one["from"], &one["to"]), (&json!(giver.name()), &json!(taker.name())));
        }
        let moving: BTreeSet<String> = moves.iter().map(|one| text(&one["id"])).collect();
        cluster.settle();
        eventually_or("the children of the question are with the taker, the others with the giver", || {
            let there = taker.ask("which_children", json!({"scope": "global"}));
            let of = |name: &str| there[name].as_array().into_iter().flatten().map(text).collect::<BTreeSet<_>>();
            let is_right = of(taker.name()) == moving && of(giver.name()).len() == CHILDREN - moving.len();
            (!is_right).then(|| there.to_string())
        });
        for n in 0..CHILDREN {
            assert_eq!(taker.told(&format!("child:{n}"), json!({"op": "state"})), json!({"n": n}));
        }
        match why {
            Some(why) => {
                let told = giver.hook("strategy_fallback", |_| true);
                assert_eq!(told["strategy"], "mine");
                assert!(text(&told["why"]).contains(why), "{told}");
            }
            None => {
                let told = giver.agent.events(&cluster.hub_id);
                assert!(!told.iter().any(|event| event["hook"] == "strategy_fallback"), "{told:?}");
            }
        }
        cluster.stop();
    }
}
