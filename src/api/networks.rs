//! Networks, volumes and plugins: what clients list before they do anything else. There are the three standard
//! networks, which mean nothing here, and nothing else.

use serde_json::{Value, json};

use super::call::Call;
use super::error::ApiError;
use super::reply::{self, Reply};
use super::unsupported::{self as no, Refusal};
use super::wire;

/// Name, driver and id of the standard networks.
const NETWORKS: [(&str, &str, &str); 3] = [
    ("bridge", "bridge", "b0000000000000000000000000000000000000000000000000000000000000b0"),
    ("host", "host", "a0000000000000000000000000000000000000000000000000000000000000a0"),
    ("none", "null", "c0000000000000000000000000000000000000000000000000000000000000c0"),
];

/// In strict mode the Docker spelling has none of this.
fn unless_strict(call: &Call, refusal: Refusal) -> Result<(), ApiError> {
    if call.is_internal() { Err(refusal.error()) } else { Ok(()) }
}

/// `docker network ls`.
pub(super) async fn list_networks(call: Call) -> Result<Reply, ApiError> {
    unless_strict(&call, no::NETWORKS_INTERNAL)?;
    let filters = call.query.filters(&["dangling", "driver", "id", "label", "label!", "name", "scope", "type"])?;
    let names = filters.patterns("name");
    let is_wanted = |(name, driver, id): &(&str, &str, &str)| {
        names.any(&[*name])
            && filters.any("id", |wanted| id.starts_with(wanted))
            && filters.any("driver", |wanted| wanted == *driver)
            && filters.any("scope", |wanted| wanted == "local")
            && filters.any("type", |wanted| wanted == "builtin")
            && filters.any("dangling", |dangling| matches!(dangling, "false" | "0"))
            && !filters.has("label")
    };
    let networks = NETWORKS.iter().filter(|network| is_wanted(network));
    Ok(reply::ok(&networks.map(|(name, driver, id)| wire::network(name, driver, id)).collect()))
}

/// `docker network inspect`.
pub(super) async fn inspect_network(call: Call) -> Result<Reply, ApiError> {
    unless_strict(&call, no::NETWORKS_INTERNAL)?;
    let text = call.param("id");
    let found = NETWORKS.iter().find(|(name, _, id)| *name == text || (text.len() >= 2 && id.starts_with(text)));
    match found {
        Some((name, driver, id)) => Ok(reply::ok(&wire::network(name, driver, id))),
        None => Err(ApiError::NotFound(format!("network {text} not found"))),
    }
}

/// `docker network prune`.
pub(super) async fn prune_networks(call: Call) -> Result<Reply, ApiError> {
    unless_strict(&call, no::NETWORKS_INTERNAL)?;
    call.query.filters(&["label", "label!", "until"])?;
    Ok(reply::ok(&json!({ "NetworksDeleted": [] })))
}

/// `docker volume ls`.
pub(super) async fn list_volumes(call: Call) -> Result<Reply, ApiError> {
    unless_strict(&call, no::VOLUMES_INTERNAL)?;
    call.query.filters(&["dangling", "driver", "label", "label!", "name"])?;
    Ok(reply::ok(&json!({ "Volumes": [], "Warnings": [] })))
}

/// `docker volume inspect`.
pub(super) async fn inspect_volume(call: Call) -> Result<Reply, ApiError> {
    unless_strict(&call, no::VOLUMES_INTERNAL)?;
    Err(ApiError::NotFound(format!("get {}: no such volume", call.param("name"))))
}

/// `docker volume prune`.
pub(super) async fn prune_volumes(call: Call) -> Result<Reply, ApiError> {
    unless_strict(&call, no::VOLUMES_INTERNAL)?;
    call.query.filters(&["all", "label", "label!"])?;
    Ok(reply::ok(&json!({ "VolumesDeleted": [], "SpaceReclaimed": 0 })))
}

/// `docker plugin ls`.
pub(super) async fn list_plugins(call: Call) -> Result<Reply, ApiError> {
    unless_strict(&call, no::PLUGINS)?;
    Ok(reply::ok(&Value::Array(Vec::new())))
}

/// `docker plugin inspect`.
pub(super) async fn inspect_plugin(call: Call) -> Result<Reply, ApiError> {
    unless_strict(&call, no::PLUGINS)?;
    Err(ApiError::NotFound(format!("plugin \"{}\" not found", call.param("name"))))
}

/// A part of `docker system prune`.
pub(super) async fn prune_build_cache(call: Call) -> Result<Reply, ApiError> {
    unless_strict(&call, no::BUILD)?;
    Ok(reply::ok(&json!({ "CachesDeleted": [], "SpaceReclaimed": 0 })))
}
