//! The daemon's JSON has the shape of a real Docker daemon's: every key that a client may read is there, with a value of
//! the same kind. What differs on purpose is listed below with its reason, and nothing else may differ.
//!
//! `shapes/*.txt` tell what Docker 29.7.2 answers in API 1.51: the path of every value and its kinds, `[]` for the elements
//! of a list and `*` for the keys of a map that the user chooses.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sockerless_lambda::clock::Clock;

use crate::support::{Api, filters, plain};

/// What differs on purpose: the answer, the path, what is different there, and why. Nothing below such a path is compared.
const DIFFERENCES: &[(&str, &str, &str, &str)] = &[
    ("container", ".NetworkSettings.Bridge", "is new", "clients of API 1.43 and earlier read it"),
    ("container", ".Sockerless", "is new", "what Docker has no field for"),
    ("container", ".HostConfig.MaskedPaths", "is empty", "Lambda decides what a function may see"),
    ("container", ".HostConfig.ReadonlyPaths", "is empty", "Lambda decides what a function may write"),
    ("disk-usage", ".Containers[].SizeRw", "is new", "moby leaves a zero out; ours is always zero"),
    ("disk-usage", ".Images[].VirtualSize", "is new", "clients of API 1.43 and earlier read it"),
    ("disk-usage", ".Volumes", "is empty", "there are no volumes"),
    ("image", ".RootFS.Layers", "is empty", "the layers are in the registry only"),
    ("image", ".Config.Env", "is empty", "an image's configuration is in the registry only"),
    ("image", ".Config.Cmd", "is null", "an image's configuration is in the registry only"),
    ("images", "[].VirtualSize", "is new", "clients of API 1.43 and earlier read it"),
    ("info", ".CDISpecDirs", "is empty", "a function has no devices"),
    ("info", ".Containerd", "is missing", "moby leaves it out where containerd is not used"),
    ("info", ".FirewallBackend", "is missing", "moby leaves it out where it runs no firewall"),
    ("info", ".RegistryConfig.InsecureRegistryCIDRs", "is empty", "Lambda pulls from Amazon ECR only"),
    ("info", ".Runtimes.*.status", "is missing", "moby leaves it out where a runtime tells no features"),
    ("info", ".SecurityOptions", "is empty", "Lambda isolates; nothing can be chosen"),
    ("info", ".Plugins.Volume", "is empty", "there are no volumes"),
    ("networks", "[].Containers", "is new", "clients of API 1.27 and earlier read it in lists"),
    ("version", ".Experimental", "is new", "moby leaves out what is false; clients of API 1.40 read it"),
    ("volumes", ".Volumes", "is empty", "there are no volumes"),
];

/// The shape of an answer: the kinds of value at each path.
struct Shape(BTreeMap<String, BTreeSet<String>>);

impl Shape {
    fn read(text: &str) -> Self {
        let line = |line: &str| {
            let (path, kinds) = line.split_once(' ').unwrap();
            let path = if path == "." { "" } else { path };
            (path.to_owned(), kinds.split('|').map(str::to_owned).collect())
        };
        Self(text.lines().map(line).collect())
    }

    fn kinds(&self, path: &str) -> impl Iterator<Item = &str> {
        self.0.get(path).into_iter().flatten().map(String::as_str)
    }

    /// The keys of the map at a path.
    fn keys<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a str> {
        let inside = self.0.keys().filter_map(move |key| key.strip_prefix(path)?.strip_prefix('.'));
        inside.filter(|key| !key.contains(['.', '[', '*']))
    }

    /// Whether a client that can read the real answer can read this kind. Where Go writes `null` for a list or a map, an
    /// empty one is read alike.
    fn allows(&self, path: &str, kind: &str) -> bool {
        let is_null = self.kinds(path).any(|known| known == "null");
        self.kinds(path).any(|known| known == kind) || (is_null && matches!(kind, "list" | "map"))
    }

    /// What is different in an answer: the path, and what.
    fn differences(&self, ours: &Value, path: &str, found: &mut BTreeSet<(String, String)>) {
        let kind = kind(ours);
        if !self.allows(path, kind) {
            found.insert((path.to_owned(), format!("is {kind}")));
            return;
        }
        match ours {
            Value::Array(list) => self.list_differences(list, path, found),
            Value::Object(map) if self.0.contains_key(&format!("{path}.*")) => {
                let inside = format!("{path}.*");
                map.values().for_each(|value| self.differences(value, &inside, found));
            }
            Value::Object(map) => {
                for key in self.keys(path).filter(|key| !map.contains_key(*key)) {
                    found.insert((format!("{path}.{key}"), "is missing".to_owned()));
                }
                let is_described = self.kinds(path).any(|kind| kind == "map");
                for (key, value) in map.iter().filter(|_| is_described) {
                    let inside = format!("{path}.{key}");
                    if self.0.contains_key(&inside) {
                        self.differences(value, &inside, found);
                    } else if self.keys(path).next().is_some() {
                        found.insert((inside, "is new".to_owned()));
                    }
                }
                if map.is_empty() && self.keys(path).next().is_some() {
                    found.insert((path.to_owned(), "is empty".to_owned()));
                }
            }
            _ => {}
        }
    }

    fn list_differences(&self, list: &[Value], path: &str, found: &mut BTreeSet<(String, String)>) {
        let inside = format!("{path}[]");
        if !self.0.contains_key(&inside) {
            return;
        }
        if list.is_empty() {
            found.insert((path.to_owned(), "is empty".to_owned()));
        }
        list.iter().for_each(|value| self.differences(value, &inside, found));
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "flag",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}

/// Compares one answer with its shape and the listed differences; gives the listed ones that were met.
fn compare(name: &str, shape: &str, ours: &Value, wrong: &mut Vec<String>) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    Shape::read(shape).differences(ours, "", &mut found);
    let mut met = BTreeSet::new();
    for (path, what) in found {
        let listed = DIFFERENCES.iter().position(|(answer, at, how, _)| {
            *answer == name
                && path
                    .strip_prefix(at)
                    .is_some_and(|rest| rest.is_empty() && *how == what || rest.starts_with('.') && *how == "is empty")
        });
        match listed {
            Some(index) => drop(met.insert(index)),
            None => wrong.push(format!("{name}{path} {what}")),
        }
    }
    met
}

#[tokio::test]
async fn every_answer_has_the_shape_of_a_real_daemons() {
    let api = Api::new().await;
    let body = json!({
        "Image": "alpine", "Cmd": ["sh", "-c", "echo hi; exit 2"], "Env": ["A=1"], "Labels": { "k": "v" },
        "HostConfig": { "NetworkMode": "bridge" }
    });
    api.ended("s1", &body, 2).await;
    api.running("s2", &plain()).await;
    api.ask("DELETE", "/containers/s2?force=1", "").await;
    api.create("s2", &plain()).await;
    let mut wrong = Vec::new();
    let mut met = BTreeSet::new();
    for (name, path, shape) in [
        ("container", "/containers/s1/json", include_str!("shapes/container.txt")),
        ("containers", "/containers/json?all=1", include_str!("shapes/containers.txt")),
        ("disk-usage", "/system/df", include_str!("shapes/disk-usage.txt")),
        ("image", "/images/alpine/json", include_str!("shapes/image.txt")),
        ("images", "/images/json", include_str!("shapes/images.txt")),
        ("info", "/info", include_str!("shapes/info.txt")),
        ("networks", "/networks", include_str!("shapes/networks.txt")),
        ("version", "/version", include_str!("shapes/version.txt")),
        ("volumes", "/volumes", include_str!("shapes/volumes.txt")),
    ] {
        let answer = api.get(&format!("/v1.51{path}")).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        met.append(&mut compare(name, shape, &answer.json(), &mut wrong));
    }
    let now = Clock::real().now();
    let only = filters(&json!({ "type": ["container"] }));
    let events = api.get(&format!("/v1.51/events?since=1&until={now}&{only}")).await.text();
    for action in ["create", "start", "die", "destroy"] {
        assert!(events.contains(&format!("\"Action\":\"{action}\"")), "{action} in {events}");
    }
    for line in events.lines() {
        let event = serde_json::from_str(line).unwrap();
        met.append(&mut compare("event", include_str!("shapes/event.txt"), &event, &mut wrong));
    }
    assert!(wrong.is_empty(), "differences that no reason is given for:\n{}", wrong.join("\n"));
    let idle = DIFFERENCES.iter().enumerate().filter(|(index, _)| !met.contains(index));
    assert_eq!(idle.map(|(_, difference)| difference).collect::<Vec<_>>(), Vec::<&(&str, &str, &str, &str)>::new());
}

#[test]
fn a_difference_is_found() {
    let shape = Shape::read(". map\n.A list\n.A[] text\n.B null\n.C map\n.C.* number\n.D map\n.D.E flag\n");
    let found = |ours: Value| {
        let mut found = BTreeSet::new();
        shape.differences(&ours, "", &mut found);
        found.into_iter().map(|(path, what)| format!("{path} {what}")).collect::<Vec<_>>()
    };
    let good = json!({ "A": ["x"], "B": [], "C": { "x": 1 }, "D": { "E": true } });
    assert_eq!(found(good.clone()), Vec::<String>::new());
    for (change, at, expected) in [
        (json!([1]), "A", ".A[] is number"),
        (json!([]), "A", ".A is empty"),
        (json!(null), "A", ".A is null"),
        (json!("x"), "B", ".B is text"),
        (json!({ "x": "1" }), "C", ".C.* is text"),
        (json!({ "E": true, "F": 1 }), "D", ".D.F is new"),
        (json!({ "F": 1 }), "D", ".D.E is missing"),
    ] {
        let mut ours = good.clone();
        ours[at] = change;
        assert_eq!(found(ours).first().map(String::as_str), Some(expected));
    }
}
