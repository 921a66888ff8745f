//! What must hold of a daemon, whatever was sent to it.

use std::path::Path;

use serde_json::Value;
use sockerless_lambda::health::Check;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use super::body;
use super::client::{Answer, Raw};
use super::limits::{
    MAX_ATTRIBUTES_BYTES, MAX_CONFIG_BYTES, MAX_ERROR_BYTES, MAX_RESIDENT_KIB, MAX_STATUS_BYTES, MAX_TEXT_BYTES,
};
use super::programs::Run;
use super::world::{Broken, World};

/// Every text that is stored, with its limit in bytes.
const TEXTS: [(&str, &str, i64); 12] = [
    ("container", "config", MAX_CONFIG_BYTES),
    ("container", "status", MAX_STATUS_BYTES),
    ("container", "name", MAX_TEXT_BYTES),
    ("tombstone", "name", MAX_TEXT_BYTES),
    ("tombstone", "error", MAX_TEXT_BYTES),
    ("image", "reference", MAX_TEXT_BYTES),
    ("image", "digest", MAX_TEXT_BYTES),
    ("event", "action", MAX_TEXT_BYTES),
    ("event", "actor_id", MAX_TEXT_BYTES),
    ("event", "attributes", MAX_ATTRIBUTES_BYTES),
    ("sighting", "function_name", MAX_TEXT_BYTES),
    ("role_without_logs", "role_arn", MAX_TEXT_BYTES),
];

/// No request makes the server fail. What is not implemented is 501, and what only a swarm can do 503, as in Docker.
pub(crate) fn no_server_error(answer: &Answer, request: impl FnOnce() -> String) -> Result<(), Broken> {
    match answer.status() {
        Some(501) => Ok(()),
        Some(503) if answer.text().contains("swarm") => Ok(()),
        Some(status @ 500..) => Err(format!("{} is answered {status} {}", request(), answer.text())),
        _ => Ok(()),
    }
}

/// Creates and starts a hostile container. It may be refused.
pub(crate) async fn begin_hostile(world: &mut World, run: &Run) -> Result<(), Broken> {
    let create = format!("/containers/create?name={}", run.name);
    for (path, body) in
        [(create, body::of_run(run).to_string()), (format!("/containers/{}/start", run.name), String::new())]
    {
        let answer = world.send(&Raw::plain("POST", &path, &body)).await;
        no_server_error(&answer, || format!("POST {path} of {run:?}"))?;
        if answer.status().is_none() {
            return Err(format!("POST {path} of {run:?} is not answered"));
        }
    }
    Ok(())
}

/// The loop goes round, the store is written, AWS answers, and the database is still the daemon's own. Forged claims are an
/// alarm, and nothing else is.
pub(crate) async fn healthy(world: &mut World) -> Result<(), Broken> {
    let mut problems = world.daemon().health.problems_at(world.now());
    let is_alarmed = problems.remove(&Check::Claims).is_some() && world.claims_are_forged.get();
    if !problems.is_empty() {
        return Err(format!("the daemon has problems: {problems:?}"));
    }
    if world.daemon().controller.is_finished() {
        return Err("the reconciler has ended".to_owned());
    }
    if is_alarmed {
        return Ok(());
    }
    world.expect("GET", "/readyz", "", 200).await.map(drop)
}

/// Every row can be read and is shown, and nothing is larger than its limit.
pub(crate) async fn readable(world: &mut World) -> Result<(), Broken> {
    let rows = crate::all_rows::all_rows(&world.daemon().facts)
        .await
        .map_err(|error| format!("the rows cannot be read: {error}"))?;
    let stored = Stored::read(&world.daemon().database()).await?;
    if i64::try_from(rows.len()) != Ok(stored.rows) {
        return Err(format!("{} of {} rows are readable", rows.len(), stored.rows));
    }
    let listed = world.expect("GET", "/containers/json?all=1", "", 200).await?;
    let listed = listed.as_array().cloned().unwrap_or_default();
    if i64::try_from(listed.len()) != Ok(stored.shown) {
        return Err(format!("{} of {} containers are listed", listed.len(), stored.shown));
    }
    for container in &listed {
        let id = container["Id"].as_str().unwrap_or_default();
        let seen = world.expect("GET", &format!("/containers/{id}/json"), "", 200).await?;
        let error = seen["State"]["Error"].as_str().unwrap_or_default();
        if seen["State"]["Status"] == "dead" || error.len() > MAX_ERROR_BYTES {
            let begin: String = error.chars().take(200).collect();
            return Err(format!("{id} is {}, with {} bytes of error: {begin}", seen["State"]["Status"], error.len()));
        }
    }
    every_event_is_readable(world).await?;
    stored.within_limits
}

async fn every_event_is_readable(world: &mut World) -> Result<(), Broken> {
    let until = world.now().as_secs();
    let events = world.ask("GET", &format!("/events?since=0&until={until}"), "").await?;
    if events.status() != Some(200) {
        return Err(format!("the events are answered {:?} {}", events.status(), events.text()));
    }
    let body = events.body();
    for event in serde_json::Deserializer::from_slice(&body).into_iter::<Value>() {
        event.map_err(|error| format!("an event is no JSON: {error}"))?;
    }
    Ok(())
}

/// What the database has, read without the daemon's code.
struct Stored {
    rows: i64,
    shown: i64,
    within_limits: Result<(), Broken>,
}

impl Stored {
    async fn read(database: &Path) -> Result<Self, Broken> {
        Self::read_all(database).await.map_err(|error| error.to_string())
    }

    async fn read_all(database: &Path) -> Result<Self, sqlx::Error> {
        let mut connection = SqliteConnectOptions::new().filename(database).read_only(true).connect().await?;
        let counts = sqlx::query("SELECT count(*), count(*) FILTER (WHERE removed = 0) FROM container");
        let counts = counts.fetch_one(&mut connection).await?;
        let mut within_limits = Ok(());
        for (table, column, limit) in TEXTS {
            let query = format!("SELECT coalesce(max(length(CAST({column} AS BLOB))), 0) FROM {table}");
            let bytes: i64 = sqlx::query(sqlx::AssertSqlSafe(query)).fetch_one(&mut connection).await?.try_get(0)?;
            if bytes > limit {
                within_limits = Err(format!("{table}.{column} has {bytes} bytes, limit {limit}"));
            }
        }
        connection.close().await?;
        Ok(Self { rows: counts.try_get(0)?, shown: counts.try_get(1)?, within_limits })
    }
}

/// The most memory that this process has had in use, in KiB.
pub(crate) fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    most.and_then(|text| text.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or_default()
}

/// The process stays within its limit.
pub(crate) fn memory_is_bounded() -> Result<(), Broken> {
    let most = resident_kib();
    if most <= MAX_RESIDENT_KIB { Ok(()) } else { Err(format!("{most} KiB were in use, limit {MAX_RESIDENT_KIB}")) }
}
