//! Says on stderr how far a run has come, while nothing of it is to be seen yet. The sentences are PURE.

use std::io::IsTerminal as _;
use std::time::Duration;

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::api::client::{Client, ClientError};
use crate::terminal;

/// How often the container is looked at.
const STEP: Duration = Duration::from_millis(250);

/// Tells each change until it is dropped; nothing if stderr is no terminal.
pub(super) async fn tell(client: &Client, id: &str) {
    if !std::io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    let mut told = String::new();
    loop {
        sleep(STEP).await;
        let Ok(container) = inspect(client, id).await else { continue };
        match sentence(&container) {
            Some(sentence) if sentence != told => {
                terminal::complain(&sentence);
                told = sentence;
            }
            _ => {}
        }
    }
}

/// The container as the API shows it; `null` if it is gone.
pub(super) async fn inspect(client: &Client, id: &str) -> Result<Value, ClientError> {
    let reply = client.send(Method::GET, &format!("/containers/{id}/json"), None).await?;
    if reply.status() == 200 { reply.json().await } else { Ok(Value::Null) }
}

/// Why its last run ended as it did, if the exit code does not say it all: its time was up, its memory was used up, it
/// could not be invoked. The container may be gone already.
pub(super) async fn reason(client: &Client, id: &str) -> Result<Option<String>, ClientError> {
    let filters = json!({ "container": { id: true }, "event": { "die": true } }).to_string();
    let path = format!("/events?since=1&until=0s&filters={}", utf8_percent_encode(&filters, NON_ALPHANUMERIC));
    let mut events = client.send(Method::GET, &path, None).await?;
    let mut seen = Vec::new();
    while let Some(bytes) = events.chunk().await? {
        seen.extend_from_slice(&bytes);
    }
    let last = serde_json::Deserializer::from_slice(&seen).into_iter::<Value>().filter_map(Result::ok).last();
    Ok(last.and_then(|event| event["Actor"]["Attributes"]["error"].as_str().map(str::to_owned)))
}

/// What is being waited for: a failure that is tried again, else the first of the steps that is not done.
fn sentence(container: &Value) -> Option<String> {
    let conditions = container["Sockerless"]["Conditions"].as_array()?;
    let condition = |kind: &str| conditions.iter().find(|condition| condition["type"] == kind);
    let message = |condition: &Value| condition["message"].as_str().unwrap_or_default().to_owned();
    if let Some(retrying) = condition("Retrying").filter(|condition| condition["status"] == "True") {
        return Some(format!("is tried again: {}", message(retrying)));
    }
    let undone =
        ["FunctionReady", "Invoked"].into_iter().filter_map(condition).find(|condition| condition["status"] != "True");
    Some(undone.map_or_else(|| "invoked; waiting for its output".to_owned(), message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(conditions: &Value) -> Value {
        json!({"Sockerless": {"Conditions": conditions}})
    }

    #[test]
    fn the_first_step_that_is_not_done_is_told() {
        let ready = json!({"type": "FunctionReady", "status": "True", "message": ""});
        let invoked = json!({"type": "Invoked", "status": "False", "message": "waits for its turn"});
        assert_eq!(sentence(&container(&json!([ready, invoked]))).as_deref(), Some("waits for its turn"));
        let invoked = json!({"type": "Invoked", "status": "True", "message": ""});
        let all_done = sentence(&container(&json!([ready, invoked])));
        assert_eq!(all_done.as_deref(), Some("invoked; waiting for its output"));
        assert_eq!(sentence(&Value::Null), None);
    }

    #[test]
    fn a_failure_that_is_tried_again_comes_first() {
        let ready = json!({"type": "FunctionReady", "status": "False", "message": "not made yet"});
        let mut retrying = json!({"type": "Retrying", "status": "True", "message": "CreateFunction: no"});
        let told = sentence(&container(&json!([ready, retrying])));
        assert_eq!(told.as_deref(), Some("is tried again: CreateFunction: no"));
        retrying["status"] = json!("False");
        assert_eq!(sentence(&container(&json!([ready, retrying]))).as_deref(), Some("not made yet"));
    }
}
