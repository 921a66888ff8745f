//! A container as `docker inspect` and `docker ps` show it. PURE.

use serde_json::{Map, Value, json};

use super::conditions::sockerless;
use super::state::{DEAD, state, status_text, status_word};
use crate::api::shape;
use crate::clock::Timestamp;
use crate::state::Unreadable;
use crate::state::model::life::life;
use crate::state::model::{Container, ContainerConfig, RestartPolicy};

/// What Docker calls the way file systems are kept; here there is none on this machine.
const DRIVER: &str = "lambda";
/// Characters of an id that people read.
const SHORT_ID: usize = 12;

/// The answer to inspect. `image_id` is the id of its image reference.
pub(in crate::api) fn inspect(container: &Container, image_id: &str) -> Value {
    let config = &container.spec.config;
    let command = command(config);
    let id = container.id.to_string();
    json!({
        "Id": id,
        "Created": container.created_at.to_string(),
        "Path": command.first().map_or("", String::as_str),
        "Args": command.get(1..).unwrap_or_default(),
        "State": state(container),
        "Image": image_id,
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": "",
        "Name": format!("/{}", container.name),
        "RestartCount": container.status.restarts.saturating_add(container.status.reruns),
        "Driver": DRIVER,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": host_config(config),
        "GraphDriver": { "Data": {}, "Name": DRIVER },
        "Mounts": [],
        "Config": docker_config(config, &id),
        "NetworkSettings": network_settings(config),
        "Sockerless": sockerless(container),
    })
}

/// One entry of the list.
pub(in crate::api) fn list_item(container: &Container, image_id: &str, now: Timestamp) -> Value {
    let config = &container.spec.config;
    let life = life(&container.spec, &container.status);
    let mode = network_of(config);
    json!({
        "Id": container.id.to_string(),
        "Names": [format!("/{}", container.name)],
        "Image": config.image,
        "ImageID": image_id,
        "Command": command_line(config),
        "Created": container.created_at.as_secs(),
        "Ports": [],
        "Labels": config.labels,
        "State": status_word(&life),
        "Status": status_text(&life, now),
        "HostConfig": { "NetworkMode": mode },
        "NetworkSettings": { "Networks": networks(&mode) },
        "Mounts": [],
    })
}

/// The answer to inspect for a container that cannot be read: what can be, and why the rest cannot.
pub(in crate::api) fn dead_inspect(dead: &Unreadable) -> Value {
    let mut shown = inspect(&dead.placeholder(), "");
    shown["Id"] = json!(dead.shown_id());
    let state = &mut shown["State"];
    state["Status"] = json!(DEAD);
    state["Dead"] = json!(true);
    state["Error"] = json!(dead.to_string());
    shown
}

/// One entry of the list, for a container that cannot be read.
pub(in crate::api) fn dead_item(dead: &Unreadable, now: Timestamp) -> Value {
    let mut shown = list_item(&dead.placeholder(), "", now);
    shown["Id"] = json!(dead.shown_id());
    shown["State"] = json!(DEAD);
    shown["Status"] = json!("Dead");
    shown
}

fn command(config: &ContainerConfig) -> Vec<String> {
    config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten()).cloned().collect()
}

/// The command as moby shows it: words with spaces in quotes.
fn command_line(config: &ContainerConfig) -> String {
    let quoted = |word: String| if word.contains(' ') { format!("'{word}'") } else { word };
    command(config).into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

fn docker_config(config: &ContainerConfig, id: &str) -> Value {
    let mut shown = shape::complete(shape::CONFIG, &config.docker_config);
    shown.insert("Image".to_owned(), json!(config.image));
    shown.insert("Entrypoint".to_owned(), json!(config.entrypoint));
    shown.insert("Cmd".to_owned(), json!(config.cmd));
    shown.insert("Env".to_owned(), json!(config.env));
    shown.insert("WorkingDir".to_owned(), json!(config.working_dir.as_deref().unwrap_or_default()));
    shown.insert("Labels".to_owned(), json!(config.labels));
    shown.insert("Tty".to_owned(), json!(config.tty));
    if shown.get("Hostname").is_none_or(|name| name.as_str() == Some("")) {
        shown.insert("Hostname".to_owned(), json!(id.get(..SHORT_ID)));
    }
    Value::Object(shown)
}

fn host_config(config: &ContainerConfig) -> Value {
    let mut shown = shape::complete(shape::HOST_CONFIG, &config.docker_host_config);
    shown.insert("AutoRemove".to_owned(), json!(config.auto_remove));
    shown.insert("NetworkMode".to_owned(), json!(network_of(config)));
    // Some clients read logs only from a driver of this name.
    shown.insert("LogConfig".to_owned(), json!({ "Type": "json-file", "Config": {} }));
    let (name, max) = match config.restart {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::OnFailure { max } => ("on-failure", max),
    };
    shown.insert("RestartPolicy".to_owned(), json!({ "Name": name, "MaximumRetryCount": max }));
    Value::Object(shown)
}

/// The network that the container is shown in.
pub(in crate::api) fn network_of(config: &ContainerConfig) -> String {
    let mode = config.docker_host_config.get("NetworkMode").and_then(Value::as_str).unwrap_or_default();
    if matches!(mode, "" | "default") { "bridge".to_owned() } else { mode.to_owned() }
}

fn networks(mode: &str) -> Value {
    let endpoint = json!({
        "IPAMConfig": null,
        "Links": null,
        "Aliases": null,
        "DriverOpts": null,
        "GwPriority": 0,
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "MacAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": null,
    });
    Value::Object(Map::from_iter([(mode.to_owned(), endpoint)]))
}

fn network_settings(config: &ContainerConfig) -> Value {
    json!({
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": "",
        "Ports": {},
        "EndpointID": "",
        "Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "MacAddress": "",
        "Networks": networks(&network_of(config)),
    })
}

#[cfg(test)]
mod tests;
