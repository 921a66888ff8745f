//! What must hold of a daemon, whatever was sent to it.

use serde_json::Value;
use sockerless_lambda::health::Check;
use sockerless_lambda::state::Table;

use super::body;
use super::client::{Answer, Raw};
use super::limits::{MAX_ERROR_BYTES, MAX_RESIDENT_KIB};
use super::programs::Run;
use super::stored::Stored;
use super::world::{Broken, World};

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
///
/// What was under way comes to its end first, and no time passes: all of it is looked at at one moment.
pub(crate) async fn readable(world: &mut World) -> Result<(), Broken> {
    world.settle().await;
    let moment = world.at_ms();
    let audited = world.daemon().pulse().audit().await;
    audited.map_err(|error| format!("the rows cannot be read: {error}"))?;
    if let Some(unreadable) = world.daemon().health.degraded().get(&Check::Rows) {
        return Err(format!("rows cannot be read: {unreadable}"));
    }
    let rows = crate::all_rows::all_rows(&world.daemon().facts)
        .await
        .map_err(|error| format!("the rows cannot be read: {error}"))?;
    let stored = Stored::read(&world.daemon().database()).await?;
    same("rows are readable", rows.iter().flatten().count(), stored.rows_of(Table::Container))?;
    let listed = world.expect("GET", "/containers/json?all=1", "", 200).await?;
    let listed = listed.as_array().cloned().unwrap_or_default();
    same("containers are listed", listed.len(), stored.shown)?;
    for container in &listed {
        let id = container["Id"].as_str().unwrap_or_default();
        let seen = world.expect("GET", &format!("/containers/{id}/json"), "", 200).await?;
        let error = seen["State"]["Error"].as_str().unwrap_or_default();
        if seen["State"]["Status"] == "dead" || error.len() > MAX_ERROR_BYTES {
            let begin: String = error.chars().take(200).collect();
            return Err(format!("{id} is {}, with {} bytes of error: {begin}", seen["State"]["Status"], error.len()));
        }
    }
    let images = world.expect("GET", "/images/json?all=1", "", 200).await?;
    same("images are listed", images.as_array().map_or(0, Vec::len), stored.images)?;
    if world.at_ms() != moment {
        return Err(format!("the check took {} ms", world.at_ms() - moment));
    }
    same("events are given", events(world).await?, stored.rows_of(Table::Event))?;
    stored.is_right
}

fn same(what: &str, found: usize, stored: i64) -> Result<(), Broken> {
    if i64::try_from(found) == Ok(stored) { Ok(()) } else { Err(format!("{found} of {stored} {what}")) }
}

/// How many events there are up to now. Each must be JSON. The answer ends by a real timer, and meanwhile time passes.
async fn events(world: &mut World) -> Result<usize, Broken> {
    let now = world.now().as_nanos();
    let until = format!("{}.{:09}", now / 1_000_000_000, now % 1_000_000_000);
    let events = world.ask("GET", &format!("/events?since=0&until={until}"), "").await?;
    if events.status() != Some(200) {
        return Err(format!("the events are answered {:?} {}", events.status(), events.text()));
    }
    let body = events.body();
    let mut count = 0;
    for event in serde_json::Deserializer::from_slice(&body).into_iter::<Value>() {
        event.map_err(|error| format!("an event is no JSON: {error}"))?;
        count += 1;
    }
    Ok(count)
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
