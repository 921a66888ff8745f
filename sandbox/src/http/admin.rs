//! What is asked of the sandbox itself, not of AWS: `/_sandbox/…`.
//!
//! | request | answer |
//! |---|---|
//! | `GET identity` | `{ "identity", "pid" }` |
//! | `GET state` | [`crate::model::Snapshot`] |
//! | `GET images` | `{ "directories", "images", "problems", "isolation" }` |
//! | `POST images` with `{ "directories": [PATH] }` | the same, after looking there, too |
//! | `GET calls` | the latest calls, each a [`crate::model::CallRecord`], oldest first |
//! | `POST faults` with [`Faults`] | `{}`; the rules before are gone |
//! | `POST stop` with `{ "when_idle": bool }` | `{ "stopping" }` |
//! | `GET attend` | nothing, as long as the client listens: so long the sandbox is not alone |

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Answer, Shared, attend};
use crate::faults::{Faults, MAX_RULES};

/// Where the path of every such request begins.
pub(super) const PREFIX: &str = "/_sandbox/";

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Stop {
    when_idle: bool,
}

pub(super) async fn answer(shared: &Arc<Shared>, method: &Method, operation: &str, body: &Bytes) -> Answer {
    match (method, operation) {
        (&Method::GET, "identity") => {
            json_answer(StatusCode::OK, &json!({ "identity": shared.identity, "pid": std::process::id() }))
        }
        (&Method::GET, "state") => json_answer(StatusCode::OK, &shared.driver.snapshot()),
        (&Method::GET, "images") => images(shared, Vec::new()).await,
        (&Method::POST, "images") => match serde_json::from_slice::<AddImages>(body) {
            Ok(more) => images(shared, more.directories).await,
            Err(error) => refusal(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        (&Method::GET, "calls") => json_answer(StatusCode::OK, &shared.driver.call_records()),
        (&Method::POST, "faults") => set_faults(shared, body),
        (&Method::POST, "stop") => stop(shared, body),
        (&Method::GET, "attend") => http::Response::new(attend::Attendance::new(shared).boxed()),
        _ => refusal(StatusCode::NOT_FOUND, "there is no such operation"),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddImages {
    directories: Vec<PathBuf>,
}

async fn images(shared: &Shared, more: Vec<PathBuf>) -> Answer {
    let listing = match shared.shelf.add(&shared.driver, more).await {
        Ok(listing) => listing,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let mut told = json!(listing);
    if let Some(told) = told.as_object_mut() {
        told.insert("isolation".to_owned(), json!(shared.driver.isolation()));
    }
    json_answer(StatusCode::OK, &told)
}

fn set_faults(shared: &Shared, body: &Bytes) -> Answer {
    match serde_json::from_slice::<Faults>(body) {
        Ok(faults) if faults.rules.len() > MAX_RULES => refusal(StatusCode::BAD_REQUEST, "there are too many rules"),
        Ok(faults) => {
            shared.driver.set_faults(faults);
            json_answer(StatusCode::OK, &json!({}))
        }
        Err(error) => refusal(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

fn stop(shared: &Shared, body: &Bytes) -> Answer {
    let stop = if body.is_empty() { Ok(Stop::default()) } else { serde_json::from_slice::<Stop>(body) };
    match stop {
        Ok(stop) => {
            let stopping = !stop.when_idle || shared.driver.idle();
            if stopping {
                shared.stop.send_replace(true);
            }
            json_answer(StatusCode::OK, &json!({ "stopping": stopping }))
        }
        Err(error) => refusal(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

pub(super) fn refusal(status: StatusCode, message: &str) -> Answer {
    json_answer(status, &json!({ "message": message }))
}

fn json_answer(status: StatusCode, body: &impl Serialize) -> Answer {
    let mut answer = http::Response::new(Full::new(serde_json::to_vec(body).unwrap_or_default().into()).boxed());
    *answer.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(http::header::CONTENT_TYPE, json);
    answer
}
