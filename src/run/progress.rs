//! Says on stderr how far a run has come, while nothing of it is to be seen yet. The sentences are PURE.

use std::io::IsTerminal as _;
use std::time::Duration;

use http::Method;
use serde_json::Value;
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

/// What is being waited for. The first condition that is not true yet tells it.
fn sentence(container: &Value) -> Option<String> {
    let conditions = container["Sockerless"]["conditions"].as_array()?;
    let field = |condition: &Value, name: &str| condition[name].as_str().unwrap_or_default().to_owned();
    let waiting = conditions.iter().find(|condition| field(condition, "status") != "True")?;
    let what = [field(waiting, "message"), field(waiting, "reason"), field(waiting, "type")];
    what.into_iter().find(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_condition_that_is_not_true_is_told() {
        let container = json!({"Sockerless": {"conditions": [
            {"type": "Created", "status": "True", "message": "there"},
            {"type": "Active", "status": "False", "reason": "Pending", "message": ""},
            {"type": "Invoked", "status": "Unknown"},
        ]}});
        assert_eq!(sentence(&container).as_deref(), Some("Pending"));
        assert_eq!(sentence(&Value::Null), None);
        assert_eq!(sentence(&json!({"Sockerless": {"conditions": []}})), None);
    }
}
