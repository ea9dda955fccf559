//! The agents of a mix, and the hub clusters that scenarios form of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::language::{Language, mix_name};
use super::process::{Agent, PATIENCE, Refusal, on_hub};

/// At least so many agents form the cluster of a mix.
const MIN_AGENTS: usize = 3;

/// The agents of a mix. They run all of its scenarios, each scenario on hubs of its own id.
pub(crate) struct Mix {
    /// The languages, in the order in which agents take turns.
    pub(crate) languages: Vec<Language>,
    /// Whether what takes long is done at full length.
    pub(crate) is_long: bool,
    agents: Vec<Arc<Agent>>,
    names: AtomicUsize,
}

/// The hub of one agent.
#[derive(Clone)]
pub(crate) struct Member {
    /// The agent.
    pub(crate) agent: Arc<Agent>,
    hub_id: String,
}

/// The hubs of one id.
pub(crate) struct Cluster<'a> {
    mix: &'a Mix,
    /// Their id.
    pub(crate) hub_id: String,
    /// The hubs, in the order they joined.
    pub(crate) members: Vec<Member>,
    /// What decides in the hubs that join from now on.
    pub(crate) strategies: Value,
    options: Value,
}

impl Mix {
    /// Starts the agents, each with a node, and a hub that keeps the node alive.
    pub(crate) fn start(languages: &[Language], is_long: bool) -> Self {
        let mut mix = Self { languages: languages.to_vec(), is_long, agents: Vec::new(), names: AtomicUsize::new(0) };
        let count = languages.len().max(MIN_AGENTS);
        for language in languages.iter().cycle().take(count) {
            let agent = mix.agent(*language);
            mix.agents.push(agent);
        }
        mix
    }

    /// Another agent on a node that knows the others: one that a scenario may kill.
    pub(crate) fn agent(&self, language: Language) -> Arc<Agent> {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        self.agent_named(language, &format!("{}-{number}", language.name()))
    }

    /// The same under the name of one that is gone.
    pub(crate) fn agent_named(&self, language: Language, name: &str) -> Arc<Agent> {
        let mut agent = Agent::start(language, name);
        let info = agent.request("info", json!({})).expect("info");
        let (pid, version) = (agent.pid(), env!("CARGO_PKG_VERSION"));
        assert_eq!(info, json!({"language": language.name(), "version": version, "pid": pid}));
        let seeds: Vec<Value> = self.agents.iter().map(|agent| agent.address.as_str().into()).collect();
        let config = json!({
            "hub_id": KEEPER, "profile": "lan",
            "node": {"name": agent.name, "seeds": seeds, "labels": {"name": agent.name}},
        });
        let started = agent.request("start_hub", json!({"config": config, "kinds": []})).expect("a hub");
        assert_eq!(keys(&started), ["address", "hub_id", "node"]);
        assert_eq!((&started["hub_id"], &started["node"]), (&json!(KEEPER), &json!(agent.name)));
        agent.address = text(&started["address"]);
        Arc::new(agent)
    }

    /// The standing agents, for nothing that ends or blocks them.
    pub(crate) fn agents(&self) -> &[Arc<Agent>] {
        &self.agents
    }

    /// A hub cluster without members, whose hubs have these options beside the usual ones.
    pub(crate) fn hubs(&self, name: &str, options: Value) -> Cluster<'_> {
        Cluster { mix: self, hub_id: name.to_owned(), members: Vec::new(), strategies: Value::Null, options }
    }

    /// A hub cluster on all standing agents.
    pub(crate) fn cluster(&self, name: &str) -> Cluster<'_> {
        let mut cluster = self.hubs(name, json!({}));
        for agent in &self.agents {
            cluster.join(agent);
        }
        cluster.settle();
        cluster
    }

    /// Prints what was measured, beside the results.
    pub(crate) fn note(&self, what: &str) {
        println!("      {}: {what}", mix_name(&self.languages));
    }

    /// Ends the agents: `exit` is answered, the status is 0, and nothing else was ever printed.
    pub(crate) fn end(&self) {
        let replies: Vec<_> = self.agents.iter().map(|agent| agent.begin("exit", json!({}))).collect();
        for reply in replies {
            assert_eq!(reply.wait(), Ok(Value::Null));
        }
        for agent in &self.agents {
            let status = agent.wait_end(PATIENCE);
            assert!(status.success(), "{agent:?} ended with {status}");
            assert_eq!(agent.stray(), [""; 0], "{agent:?} printed lines that are no replies and no events");
        }
    }
}

/// The hub that keeps the node of an agent alive between scenarios.
pub(crate) const KEEPER: &str = "keeper";

impl Cluster<'_> {
    /// Starts a hub on this agent; returns without waiting for what follows.
    pub(crate) fn join(&mut self, agent: &Arc<Agent>) -> Member {
        self.join_with(agent, None)
    }

    /// The same, offering only these kinds.
    pub(crate) fn join_offering(&mut self, agent: &Arc<Agent>, kinds: &[&str]) -> Member {
        self.join_with(agent, Some(json!(kinds)))
    }

    fn join_with(&mut self, agent: &Arc<Agent>, kinds: Option<Value>) -> Member {
        let mut config = json!({"hub_id": self.hub_id, "migration": {"type": "hot_swap", "handover": true}});
        for (key, value) in self.options.as_object().into_iter().flatten() {
            config[key.as_str()] = value.clone();
        }
        let started =
            agent.request("start_hub", json!({"config": config, "kinds": kinds, "strategies": self.strategies}));
        let started = started.unwrap_or_else(|error| panic!("{agent:?} refuses {}: {error:?}", self.hub_id));
        assert_eq!((&started["hub_id"], &started["node"]), (&json!(self.hub_id), &json!(agent.name)));
        let member = Member { agent: Arc::clone(agent), hub_id: self.hub_id.clone() };
        self.members.push(member.clone());
        member
    }

    /// Starts a hub on a new agent of this language, which a scenario may kill.
    pub(crate) fn join_new(&mut self, language: Language) -> Member {
        let agent = self.mix.agent(language);
        self.join(&agent)
    }

    /// Takes a member out that was ended.
    pub(crate) fn remove(&mut self, member: &Member) {
        self.members.retain(|other| other.name() != member.name());
    }

    /// Waits until each hub sees exactly the others and none has moves open.
    pub(crate) fn settle(&self) {
        let names: BTreeSet<&str> = self.members.iter().map(Member::name).collect();
        for member in &self.members {
            eventually_or(&format!("{} sees {names:?}, unlocked", member.name()), || {
                let seen = member.ask("nodes", json!({"include_local": true}));
                let seen: Vec<&str> = seen.as_array()?.iter().filter_map(Value::as_str).collect();
                let is_locked = member.ask("is_locked", json!({})) == true;
                let is_right = seen.iter().copied().collect::<BTreeSet<_>>() == names && !is_locked;
                (!is_right).then(|| format!("it sees {seen:?}, locked: {is_locked}"))
            });
        }
    }

    /// Waits until every registry has these children on these nodes: `(id, node)`.
    pub(crate) fn await_rows(&self, rows: &[(&str, &str)]) {
        for member in &self.members {
            for (id, node) in rows {
                member.await_row(id, node);
            }
        }
    }

    /// Stops the hubs, last first.
    pub(crate) fn stop(mut self) {
        while let Some(member) = self.members.pop() {
            member.ask("stop_hub", json!({"timeout_ms": 20_000}));
        }
    }
}

impl Member {
    /// The name of its node.
    pub(crate) fn name(&self) -> &str {
        &self.agent.name
    }

    /// Sends a command to the hub.
    pub(crate) fn request(&self, command: &str, arguments: Value) -> Result<Value, Refusal> {
        self.agent.request(command, on_hub(&self.hub_id, &arguments))
    }

    /// The same; an error fails the scenario.
    pub(crate) fn ask(&self, command: &str, arguments: Value) -> Value {
        let told = arguments.to_string();
        self.request(command, arguments)
            .unwrap_or_else(|error| panic!("{command} {told} at {}: {}", self.name(), error.0))
    }

    /// Calls a child.
    pub(crate) fn call(&self, child: &str, message: Value) -> Result<Value, Refusal> {
        self.request("call", json!({"child_id": child, "message": message, "timeout_ms": 20_000}))
    }

    /// Calls a child that answers.
    pub(crate) fn told(&self, child: &str, message: Value) -> Value {
        let said = message.to_string();
        self.call(child, message).unwrap_or_else(|error| panic!("{child} {said} from {}: {}", self.name(), error.0))
    }

    /// Starts one probe and returns where.
    pub(crate) fn start_probe(&self, id: &str, args: Value) -> String {
        self.start_spec(json!({"id": id, "kind": "probe", "args": args}))
    }

    /// Starts one child and returns where.
    pub(crate) fn start_spec(&self, spec: Value) -> String {
        let result = self.ask("start_children", json!({"specs": [spec], "options": {"timeout_ms": 20_000}}));
        assert_eq!(result["errors"], json!([]), "{result}");
        text(&result["started"][0]["instances"][0]["node"])
    }

    /// The row of a child.
    pub(crate) fn row(&self, child: &str) -> Value {
        self.ask("child_lookup", json!({"child_id": child}))
    }

    /// Waits until the registry has the child on this node, alone.
    pub(crate) fn await_row(&self, child: &str, node: &str) -> Value {
        let mut found = Value::Null;
        eventually_or(&format!("{} has {child} on {node}", self.name()), || {
            found = self.row(child);
            let instances = found["instances"].as_array();
            let is_right = instances.is_some_and(|all| all.len() == 1 && all[0]["node"] == node);
            (!is_right).then(|| found.to_string())
        });
        found
    }

    /// Waits for a callback of a child on this node.
    pub(crate) fn event(&self, child: &str, what: &str) -> Value {
        self.agent.event(&self.hub_id, &format!("{what} of {child}"), |event| {
            event["child_id"] == child && event["what"] == what
        })
    }

    /// Waits for a hook of this hub whose payload is right.
    pub(crate) fn hook(&self, hook: &str, is_right: impl Fn(&Value) -> bool) -> Value {
        let event = self.agent.event(&self.hub_id, hook, |event| event["hook"] == hook && is_right(&event["payload"]));
        event["payload"].clone()
    }

    /// The callbacks that this agent told of a child, in order.
    pub(crate) fn callbacks(&self, child: &str) -> Vec<(String, Value)> {
        let events = self.agent.events(&self.hub_id);
        let of_child = events.iter().filter(|event| event["child_id"] == child);
        of_child.map(|event| (text(&event["what"]), event["detail"].clone())).collect()
    }
}

/// A value that is a text.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is a text")).to_owned()
}

/// Waits until there is no objection, or panics with the last.
pub(crate) fn eventually_or(what: &str, mut objection: impl FnMut() -> Option<String>) {
    let until = Instant::now() + PATIENCE;
    while let Some(why) = objection() {
        assert!(Instant::now() < until, "not in time: {what}: {why}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The names of the keys of an object, in order.
pub(crate) fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap_or_else(|| panic!("{value} is an object")).keys().map(String::as_str).collect()
}
