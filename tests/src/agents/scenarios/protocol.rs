//! The protocol itself: what makes no sense, and the ends of an agent.

use serde_json::{Value, json};

use crate::agents::cluster::{KEEPER, Mix, text};
use crate::agents::process::PATIENCE;

/// Every bad command is answered by an error, and the agent lives on.
pub(crate) fn bad_commands(mix: &Mix) {
    for agent in mix.agents() {
        for line in
            ["no json", "7", "[]", "null", "\"text\"", "{}", "{\"cmd\": 7}", "{\"id\": null, \"cmd\": \"nope\"}"]
        {
            agent.write(line);
            let reply = agent.unnumbered();
            assert_eq!(reply["error"]["kind"], "invalid_argument", "{agent:?} {line}: {reply}");
        }
        let on = |arguments: Value| {
            let mut all = json!({"hub_id": KEEPER});
            all.as_object_mut().unwrap().extend(arguments.as_object().unwrap().clone());
            all
        };
        let requests = [
            ("nope", json!({})),
            ("nodes", json!({})),
            ("nodes", json!({"hub_id": 7})),
            ("nodes", json!({"hub_id": "nobody"})),
            ("nodes", on(json!({"include_local": "yes"}))),
            ("start_hub", json!({})),
            ("start_hub", json!({"config": 7})),
            ("start_hub", json!({"config": {"hub_id": "x"}, "kinds": "probe"})),
            ("start_children", on(json!({}))),
            ("start_children", on(json!({"specs": 7}))),
            ("start_children", on(json!({"specs": [{"id": "x", "kind": "probe"}], "options": 7}))),
            ("start_children", on(json!({"specs": [{"id": "x", "kind": "probe"}], "options": {"nope": 1}}))),
            ("start_children", on(json!({"specs": [{"id": "x", "kind": "probe"}], "options": {"timeout_ms": "soon"}}))),
            ("start_children", on(json!({"specs": [{"id": "x", "kind": "probe"}], "options": {"if_exists": "maybe"}}))),
            ("stop_children", on(json!({"ids": "x"}))),
            ("stop_children", on(json!({"ids": [7]}))),
            ("child_lookup", on(json!({"child_id": null}))),
            ("which_children", on(json!({"scope": "everywhere"}))),
            ("tag_query", on(json!({}))),
            ("metadata_query", on(json!({"key": 7}))),
            ("call", on(json!({"message": 7}))),
            ("call", on(json!({"child_id": "x", "timeout_ms": -1}))),
            ("call", on(json!({"child_id": "x", "payload": {}}))),
            ("send", on(json!({"child_id": "x", "node": "a", "all": true}))),
            ("subscribe", on(json!({"hook": "no_such_hook"}))),
            ("where", on(json!({}))),
            ("plan", on(json!({}))),
            ("plan", on(json!({"leave": 7}))),
            ("reset_cluster_size", on(json!({"n": 3}))),
        ];
        for (command, arguments) in requests {
            let told = format!("{agent:?} {command} {arguments}");
            let error = agent.request(command, arguments).expect_err(&told);
            let is_right = ["invalid_argument", "invalid_config"].contains(&error.kind());
            assert!(is_right && !error.message().is_empty(), "{told}: {error:?}");
        }
        let config = json!({"hub_id": "", "node": {"listen": 7}, "profile": "none", "colour": 1});
        let error = agent.request("start_hub", json!({"config": config})).expect_err("a bad document");
        assert_eq!(error.kind(), "invalid_config");
        for path in ["hub_id", "node.listen", "profile", "colour"] {
            assert!(error.message().contains(path), "{path}: {}", error.message());
        }
        let again = agent.request("start_hub", json!({"config": {"hub_id": KEEPER}})).expect_err("one hub per id");
        assert_eq!(again.kind(), "hub_exists");
        let none = agent.request("start_children", on(json!({"specs": []}))).expect_err("no children");
        assert_eq!(none.kind(), "no_children");
        assert_eq!(agent.request("is_alive", on(json!({}))), Ok(json!(true)));
    }
}

/// `exit` and the end of stdin stop the hubs gracefully and end the process with status 0.
pub(crate) fn ends(mix: &Mix) {
    for &language in &mix.languages {
        for by_exit in [true, false] {
            let mut cluster = mix.hubs(&format!("ends-{}-{by_exit}", language.name()), json!({}));
            let stays = cluster.join(&mix.agents()[0]);
            let ending = cluster.join_new(language);
            cluster.settle();
            let require = json!({"name": ending.name()});
            ending.start_spec(json!({"id": "pinned", "kind": "probe", "require": require}));
            ending.start_probe("free", json!({"data": {"n": 1}}));
            if by_exit {
                assert_eq!(ending.agent.request("exit", json!({})), Ok(Value::Null));
            } else {
                ending.agent.close_stdin();
            }
            let status = ending.agent.wait_end(PATIENCE);
            assert!(status.success(), "{:?} ended with {status}", ending.agent);
            assert_eq!(ending.agent.stray(), [""; 0]);
            stays.await_row("free", stays.name());
            assert_eq!(stays.told("free", json!({"op": "state"})), json!({"n": 1}), "handed over");
            assert_eq!(stays.row("free")["state_lost"], Value::Null);
            let told = ending.callbacks("pinned");
            assert_eq!(told.iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>(), ["start", "stop"]);
            assert_eq!(text(&told[1].1), "shutdown");
            cluster.remove(&ending);
            cluster.stop();
        }
    }
}
