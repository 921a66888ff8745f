//! What must hold of a daemon, whatever was sent to it.

use serde_json::Value;
use sockerless_lambda::health::Check;
use sockerless_lambda::state::Table;

use super::body;
use super::client::{Answer, Raw, Then};
use super::daemon::{CLAIMS_GROUP, SWEEP_S};
use super::limits::{MAX_ERROR_BYTES, MAX_RESIDENT_KIB};
use super::programs::Run;
use super::refusals;
use super::stored::Stored;
use super::world::{Broken, World};

/// No request makes the server fail, and what is foreign or too deep is refused.
pub(crate) fn is_right(answer: &Answer, raw: &Raw, request: impl Fn() -> String) -> Result<(), Broken> {
    let (statuses, requests) = match raw.then {
        Then::Answers => (answer.statuses(), raw.all_methods_and_paths()),
        _ => (answer.status().into_iter().collect(), vec![raw.method_and_path()]),
    };
    let wrong = |status: u16, path: &str| match status {
        501 => !refusals::may_be_unsupported(path),
        // What it says is checked by itself.
        503 if path.ends_with("/readyz") => false,
        503 => !answer.text().contains("swarm"),
        status => status >= 500,
    };
    // An answer without a request of its own is one of a server that has lost the place.
    let paths = requests.iter().map(|(_, path)| path.as_str()).chain(std::iter::repeat(""));
    if let Some((status, _)) = statuses.iter().zip(paths).find(|(status, path)| wrong(**status, path)) {
        return Err(format!("{} is answered {status} {}", request(), answer.text()));
    }
    match raw.demands {
        Some(status) if statuses.is_empty() || statuses.iter().any(|given| *given != status) => {
            Err(format!("{} is answered {statuses:?} {}, not {status}", request(), answer.text()))
        }
        _ => Ok(()),
    }
}

/// Creates and starts a hostile container. It may be refused; returns whether it was started.
pub(crate) async fn begin_hostile(world: &mut World, run: &Run) -> Result<bool, Broken> {
    let create = format!("/containers/create?name={}", run.name);
    let mut statuses = Vec::new();
    for (path, body) in
        [(create, body::of_run(run).to_string()), (format!("/containers/{}/start", run.name), String::new())]
    {
        let raw = Raw::plain("POST", &path, &body);
        let answer = world.send(&raw).await;
        is_right(&answer, &raw, || format!("POST {path} of {run:?}"))?;
        statuses.push(answer.status().ok_or_else(|| format!("POST {path} of {run:?} is not answered"))?);
    }
    Ok(statuses == [201, 204])
}

/// The loop goes round, the store is written, AWS answers, and the database is still the daemon's own. Forged claims are an
/// alarm, and nothing else is.
pub(crate) async fn healthy(world: &mut World) -> Result<(), Broken> {
    let mut problems = world.daemon().health.problems_at(world.now());
    if !world.claims_are_forged.get() || problems.remove(&Check::Claims).is_none() {
        world.expect("GET", "/readyz", "", 200).await?;
    }
    if !problems.is_empty() {
        return Err(format!("the daemon has problems: {problems:?}"));
    }
    if world.daemon().controller.is_finished() {
        return Err("the reconciler has ended".to_owned());
    }
    Ok(())
}

/// The health checks answer, whatever goes on. Of what is wrong only forged claims are, and they are reported with a reason.
pub(crate) async fn answers(world: &mut World) -> Result<(), Broken> {
    world.expect("GET", "/healthz", "", 200).await?;
    let ready = world.ask("GET", "/readyz", "").await?;
    let said: Value = serde_json::from_slice(&ready.body()).unwrap_or_default();
    let problems: Vec<&String> = said["problems"].as_object().map(|all| all.keys().collect()).unwrap_or_default();
    match ready.status() {
        Some(200) if problems.is_empty() => Ok(()),
        Some(503) if problems == [Check::Claims.as_str()] && world.claims_are_forged.get() => Ok(()),
        status => Err(format!("/readyz is answered {status:?} {}", ready.text())),
    }
}

/// Claims that were forged are an alarm by the next sweep at the latest.
pub(crate) async fn alarmed(world: &mut World) -> Result<(), Broken> {
    if !world.claims_are_forged.get() {
        return Ok(());
    }
    world.let_pass(ALARM_MS).await;
    let ready = world.ask("GET", "/readyz", "").await?;
    let said: Value = serde_json::from_slice(&ready.body()).unwrap_or_default();
    let alarm = said["problems"][Check::Claims.as_str()].as_str().unwrap_or_default();
    if ready.status() == Some(503) && alarm.contains(CLAIMS_GROUP) {
        return Ok(());
    }
    Err(format!("claims are forged, and /readyz is answered {:?} {}", ready.status(), ready.text()))
}

/// Two sweeps, in virtual milliseconds: one may have begun before.
const ALARM_MS: i64 = 2_000 * SWEEP_S.cast_signed();
/// How often the rows are looked at until none comes or goes meanwhile.
const MOST_LOOKS: usize = 10;

/// Every row can be read and is shown, and nothing is larger than its limit.
///
/// What was under way comes to its end first. A large answer takes some time, and what time sets going meanwhile would be
/// counted and not listed: such a look is taken again.
pub(crate) async fn readable(world: &mut World) -> Result<(), Broken> {
    for _ in 0..MOST_LOOKS {
        world.settle().await;
        let before = Stored::read(&world.daemon().database()).await?;
        let looked = look(world, &before).await;
        let after = Stored::read(&world.daemon().database()).await?;
        if before == after {
            return looked.and(after.is_right);
        }
    }
    Err(format!("rows came or went in each of {MOST_LOOKS} looks at them"))
}

async fn look(world: &mut World, stored: &Stored) -> Result<(), Broken> {
    let audited = world.daemon().pulse().audit().await;
    audited.map_err(|error| format!("the rows cannot be read: {error}"))?;
    if let Some(unreadable) = world.daemon().health.degraded().get(&Check::Rows) {
        return Err(format!("rows cannot be read: {unreadable}"));
    }
    let rows = crate::all_rows::all_rows(&world.daemon().facts)
        .await
        .map_err(|error| format!("the rows cannot be read: {error}"))?;
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
    same("events are given", events(world).await?, stored.rows_of(Table::Event))
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
