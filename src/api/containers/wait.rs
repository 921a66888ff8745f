//! `docker wait`: a header at once, the exit code when there is one.

use http::StatusCode;
use serde_json::{Value, json};

use crate::api::call::{Call, Room};
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply, Writer};
use crate::api::stream::json_line;
use crate::api::{limits, wire};
use crate::state::model::life::{Life, again, life};
use crate::state::model::{Container, ContainerId, Exit, RunPhase};
use crate::state::{StateError, Tombstone, Watch};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    NotRunning,
    NextExit,
    Removed,
}

/// Tells how a container ended, as soon as it has.
pub(in crate::api) async fn wait(call: Call) -> Result<Reply, ApiError> {
    let condition = match call.query.get("condition") {
        None | Some("not-running") => Condition::NotRunning,
        Some("next-exit") => Condition::NextExit,
        Some("removed") => Condition::Removed,
        Some(other) => return Err(ApiError::BadRequest(format!("invalid condition: {other:?}"))),
    };
    let reader = &call.api().reader;
    let (writer, body) = reply::streamed();
    let reply = reply::with_body(StatusCode::OK, "application/json", body);
    match super::named(&call).await {
        Ok(id) => {
            // Watched before it is read: no change falls between the two.
            let watch = reader.watch(id);
            let container = reader.container(&id).await?.ok_or_else(|| super::gone(&call))?;
            let waiting = Waiting { condition, baseline: last_end(&container).map(|end| end.place), last: container };
            tokio::spawn(waiting.run(call.room.clone(), watch, writer));
        }
        Err(ApiError::NoSuchContainer(text)) => {
            let tombstone = reader.tombstone(&text, call.api().clock.now()).await?;
            let tombstone = tombstone.ok_or(ApiError::NoSuchContainer(text))?;
            let (room, id) = (call.room.clone(), tombstone.id);
            tokio::spawn(async move { deliver(&room, &id, Verdict::of_tombstone(&tombstone), writer).await });
        }
        Err(error) => return Err(error),
    }
    Ok(reply)
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    code: u8,
    error: Option<String>,
}

impl Verdict {
    fn of(exit: &Exit) -> Self {
        Self { code: exit.code, error: wire::exit_error(exit).map(str::to_owned) }
    }

    fn of_tombstone(tombstone: &Tombstone) -> Self {
        let error = tombstone.error.clone().filter(|error| !error.is_empty());
        Self { code: tombstone.exit_code, error }
    }

    fn json(&self) -> Value {
        match &self.error {
            Some(message) => json!({ "StatusCode": self.code, "Error": { "Message": message } }),
            None => json!({ "StatusCode": self.code }),
        }
    }
}

/// An end, and its place in the order of a container's ends: the start, then the run.
struct End {
    place: (u64, u64),
    exit: Exit,
}

/// The latest end that a client may see. One whose run is repeated is none: the output goes on in the same stream, and
/// who waits beside it wants the code of the last run.
fn last_end(container: &Container) -> Option<End> {
    let (spec, status) = (&container.spec, &container.status);
    let of_run = || {
        let run = status.run.as_ref()?;
        match &run.phase {
            RunPhase::Exited(exit) if again(spec, status).is_none() => {
                Some(End { place: (run.start, run.no), exit: exit.clone() })
            }
            _ => None,
        }
    };
    match (life(spec, status), of_run()) {
        (_, Some(end)) if end.place.0 == spec.starts => Some(end),
        // A start that was cancelled before a run was made of it.
        (Life::Exited(exit), _) => Some(End { place: (spec.starts, u64::MAX), exit }),
        (_, earlier) => earlier,
    }
}

struct Waiting {
    condition: Condition,
    /// The end that had been there before.
    baseline: Option<(u64, u64)>,
    /// The container as it was last seen.
    last: Container,
}

impl Waiting {
    async fn run(mut self, room: std::sync::Arc<Room>, mut watch: Watch, writer: Writer) {
        let id = self.last.id;
        let verdict = tokio::select! {
            verdict = self.verdict(&room, &mut watch) => verdict,
            () = writer.gone() => return,
            // Broken off rather than ended: a client must not take a stop of the daemon for an answer.
            () = room.stop.cancelled() => return,
        };
        match verdict {
            Ok(verdict) => deliver(&room, &id, verdict, writer).await,
            Err(error) => tracing::error!(container = %id, %error, "a wait broke off"),
        }
    }

    async fn verdict(&mut self, room: &Room, watch: &mut Watch) -> Result<Verdict, StateError> {
        loop {
            if let Some(verdict) = self.judge(room).await? {
                return Ok(verdict);
            }
            watch.changed().await?;
        }
    }

    async fn judge(&mut self, room: &Room) -> Result<Option<Verdict>, StateError> {
        let id = self.last.id;
        let _turn = room.turn().await;
        let found = room.api.reader.container(&id).await?;
        let is_gone = found.as_ref().is_none_or(Container::is_removed);
        if let Some(found) = found {
            self.last = found;
        }
        if !is_gone {
            return Ok(still_there(self.condition, self.baseline, &self.last));
        }
        let tombstone = room.api.reader.tombstone(&id.to_string(), room.api.clock.now()).await?;
        let last = || last_end(&self.last).map_or(Verdict { code: 0, error: None }, |end| Verdict::of(&end.exit));
        Ok(Some(tombstone.as_ref().map_or_else(last, Verdict::of_tombstone)))
    }
}

/// The answer for a container that is still there; `None`: not yet. Pure.
fn still_there(condition: Condition, baseline: Option<(u64, u64)>, container: &Container) -> Option<Verdict> {
    match condition {
        Condition::Removed => None,
        Condition::NextExit => {
            let end = last_end(container)?;
            baseline.is_none_or(|before| end.place > before).then(|| Verdict::of(&end.exit))
        }
        Condition::NotRunning => match life(&container.spec, &container.status) {
            Life::Created => Some(Verdict { code: 0, error: None }),
            Life::Exited(exit) => Some(Verdict::of(&exit)),
            Life::Running { .. } | Life::Restarting(_) => None,
        },
    }
}

/// Answers after the container's open streams have got the output: some clients drop the rest as soon as this is said.
async fn deliver(room: &Room, id: &ContainerId, verdict: Verdict, writer: Writer) {
    let closed = room.streams.all_closed(id);
    // Too slow a stream must not hold the answer for ever: then it is given anyway.
    let _ = tokio::time::timeout(limits::STREAMS_BEFORE_WAIT, closed).await;
    if writer.send(json_line(&verdict.json())).await.is_ok() {
        writer.finish().await;
    }
}

#[cfg(test)]
mod tests;
