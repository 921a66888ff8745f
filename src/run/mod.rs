//! `run`: one container through the same API, store, reconciler and AWS code as any other.
//!
//! If a daemon has the database already, the container is handed to it; otherwise one is started in this process for as
//! long as it takes. Should the other daemon go away meanwhile, the container is taken over: it is in the database.

mod frames;
mod host;
mod output;
mod progress;
mod request;

use std::time::Duration;

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::api::client::{Client, ClientError, Reply};
use crate::cli::RunArgs;
use crate::config::{Config, Environment, Flags};
use crate::daemon::{Render, StartError};
use crate::signals::Signals;
use crate::state::model::ContainerId;
use crate::terminal;
use host::Host;
use output::Output;

pub use request::InputError;

/// The exit code when it is not the program's.
pub const EXIT_NOT_THE_PROGRAM: u8 = 125;
/// Exit codes whose reason the bootstrap has written to the program's stderr: it could not be executed, it was not found.
const CANNOT_EXECUTE: u8 = 126;
const NOT_FOUND: u8 = 127;
/// How long a removal in AWS is waited for.
const REMOVAL_WAIT: Duration = Duration::from_secs(30);
/// How often the daemon may go away under a run.
const MAX_MOVES: u32 = 5;

/// Why a container was not run, or its end is not known.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the daemon listens nowhere")]
    NoAddress,
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Output(#[from] frames::OutOfStep),
    #[error("the daemon gave an answer that makes no sense: {0}")]
    Nonsense(&'static str),
}

/// What a run is made from.
#[derive(Clone)]
pub struct RunParts {
    /// The command line.
    pub args: Box<RunArgs>,
    /// The settings given as flags.
    pub flags: Flags,
    /// For `--env NAME`.
    pub environment: Environment,
    /// The configuration.
    pub config: Config,
    /// Renders the metrics, for a daemon of our own.
    pub render: Render,
}

/// Runs one container and answers with the exit code of this process.
pub async fn run(parts: RunParts, mut signals: Signals) -> u8 {
    let mut run = Run { parts, output: Output::default(), container: None };
    let host = tokio::select! {
        host = Host::find_or_start(&run.parts.config, &run.parts.render) => host,
        signal = signals.next() => return interrupted(signal),
    };
    let mut host = match host {
        Ok(host) => host,
        Err(error) => return failed(&error),
    };
    let code = tokio::select! {
        code = run.see_through(&mut host) => code.unwrap_or_else(|error| failed(&error)),
        signal = signals.next() => {
            // A second signal ends at once.
            tokio::select! {
                () = async { run.leave_behind(&host.client).await; host.leave().await; } => {}
                _ = signals.next() => {}
            }
            return interrupted(signal);
        }
    };
    tokio::select! {
        () = run.part_with(host) => code,
        signal = signals.next() => interrupted(signal),
    }
}

struct Run {
    parts: RunParts,
    output: Output,
    /// Its id, from its creation on.
    container: Option<String>,
}

impl Run {
    /// The sequence of `docker run`: create, attach, wait, start, read to the end, take the exit code.
    async fn see_through(&mut self, host: &mut Host) -> Result<u8, RunError> {
        let id = self.create(&host.client).await?;
        let first = self.first_attempt(&host.client, &id).await;
        let mut ended = self.settle_start(&host.client, &id, first).await;
        let mut moves = 0;
        while let Err(RunError::Client(error)) = &ended {
            if moves == MAX_MOVES || host.own.is_some() {
                break;
            }
            moves += 1;
            tracing::info!(%error, "the daemon has gone; taking the container over");
            *host = Host::find_or_start(&self.parts.config, &self.parts.render).await?;
            ended = self.resume(&host.client, &id).await;
        }
        let end = ended?;
        if self.parts.args.result {
            tell_result(&host.client, &id).await?;
        }
        if !self.auto_remove() && !self.parts.args.keep {
            self.remove(&host.client, &id).await?;
        }
        let code = end["StatusCode"].as_u64().and_then(|code| u8::try_from(code).ok());
        let code = code.ok_or(RunError::Nonsense("no exit code"))?;
        if !matches!(code, 0 | CANNOT_EXECUTE | NOT_FOUND)
            && let Some(reason) = progress::reason(&host.client, &id).await?
        {
            terminal::complain(reason);
        }
        Ok(code)
    }

    /// Whether the container removes itself: not if its result is to be read after its end.
    fn auto_remove(&self) -> bool {
        !self.parts.args.keep && !self.parts.args.result
    }

    async fn create(&mut self, client: &Client) -> Result<String, RunError> {
        let RunParts { args, flags, environment, .. } = &self.parts;
        let body = request::body(args, flags, environment, self.auto_remove())?;
        let path = match &args.name {
            Some(name) => format!("/containers/create?name={}", utf8_percent_encode(name, NON_ALPHANUMERIC)),
            None => "/containers/create".to_owned(),
        };
        let reply = expect(client.send(Method::POST, &path, Some(&body)).await?, &[201]).await?;
        let created = reply.json().await?;
        for warning in created["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            terminal::complain(format_args!("warning: {warning}"));
        }
        let id = created["Id"].as_str().ok_or(RunError::Nonsense("no container id"))?.to_owned();
        self.container = Some(id.clone());
        Ok(id)
    }

    /// Output and wait are asked for before the start, so that nothing can be missed.
    async fn first_attempt(&mut self, client: &Client, id: &str) -> Result<Value, RunError> {
        let attach = format!("/containers/{id}/attach?stream=1&stdout=1&stderr=1");
        let output = expect(client.send(Method::POST, &attach, None).await?, &[200]).await?;
        let wait = format!("/containers/{id}/wait?condition=next-exit");
        let wait = expect(client.send(Method::POST, &wait, None).await?, &[200]).await?;
        let start = client.send(Method::POST, &format!("/containers/{id}/start"), None).await?;
        expect(start, &[204, 304]).await?;
        self.read_to_the_end(client, id, output).await?;
        Ok(wait.json().await?)
    }

    /// A container whose start was refused is of no use to anybody.
    async fn settle_start(&self, client: &Client, id: &str, ended: Result<Value, RunError>) -> Result<Value, RunError> {
        if matches!(ended, Err(RunError::Refused(_))) && !self.parts.args.keep {
            self.remove(client, id).await?;
        }
        ended
    }

    /// As `first_attempt` with another daemon. A start that the daemon before acknowledged is a no-op here.
    async fn resume(&mut self, client: &Client, id: &str) -> Result<Value, RunError> {
        let container = progress::inspect(client, id).await?;
        if container["State"]["Status"] == "created" {
            return self.first_attempt(client, id).await;
        }
        self.output.start_over();
        let logs = format!("/containers/{id}/logs?follow=1&stdout=1&stderr=1");
        let logs = client.send(Method::GET, &logs, None).await?;
        // It may have ended and be gone: its exit code is remembered for a minute.
        if logs.status() == 200 {
            self.read_to_the_end(client, id, logs).await?;
        }
        let wait = client.send(Method::POST, &format!("/containers/{id}/wait"), None).await?;
        Ok(expect(wait, &[200]).await?.json().await?)
    }

    async fn read_to_the_end(&mut self, client: &Client, id: &str, mut from: Reply) -> Result<(), RunError> {
        let output = &mut self.output;
        tokio::select! {
            ended = async {
                while let Some(bytes) = from.chunk().await? {
                    output.pass(&bytes)?;
                    if !output.is_empty() {
                        break;
                    }
                }
                Ok::<_, RunError>(())
            } => ended?,
            () = progress::tell(client, id) => {}
        }
        while let Some(bytes) = from.chunk().await? {
            self.output.pass(&bytes)?;
        }
        Ok(())
    }

    async fn remove(&self, client: &Client, id: &str) -> Result<(), RunError> {
        let reply = client.send(Method::DELETE, &format!("/containers/{id}?force=1"), None).await?;
        expect(reply, &[204, 404]).await?;
        Ok(())
    }

    /// After an interrupt: whatever was invoked runs on; nothing of it may stay for ever.
    async fn leave_behind(&self, client: &Client) {
        let Some(id) = &self.container else { return };
        let short = id.get(..12).unwrap_or(id);
        terminal::complain(format_args!(
            "interrupted; Lambda cannot cancel an invocation: if it was made, it runs on to its end ({short})"
        ));
        if self.parts.args.keep {
            return;
        }
        let stop = format!("/containers/{id}/stop");
        let tidied = async {
            // A start that was not issued yet is cancelled; an issued one is not touched by this.
            client.send(Method::POST, &stop, None).await?;
            let never_started = progress::inspect(client, id).await?["State"]["Status"] == "created";
            if self.auto_remove() && !never_started { Ok(()) } else { self.remove(client, id).await }
        };
        if let Err(error) = tidied.await {
            tracing::warn!(%error, "the container could not be tidied up");
        }
    }

    /// Waits until nothing is left in AWS if the daemon is ours, then ends the daemon.
    async fn part_with(&self, host: Host) {
        if let (Some(daemon), Some(id), false) = (&host.own, &self.container, self.parts.args.keep)
            && let Ok(id) = id.parse::<ContainerId>()
            && !daemon.is_gone(id, REMOVAL_WAIT).await
        {
            terminal::complain("the container's function is not deleted yet; the next start of a daemon does it");
        }
        host.leave().await;
    }
}

/// The reply if its status is one of these, else what the daemon says.
async fn expect(reply: Reply, statuses: &[u16]) -> Result<Reply, RunError> {
    if statuses.contains(&reply.status()) {
        return Ok(reply);
    }
    let status = reply.status();
    let answer = reply.json().await.unwrap_or_default();
    let message = answer["message"].as_str().map_or_else(|| format!("the daemon answered {status}"), str::to_owned);
    Err(RunError::Refused(message))
}

/// The function's answer, on stdout after the output.
async fn tell_result(client: &Client, id: &str) -> Result<(), RunError> {
    match &progress::inspect(client, id).await?["Sockerless"]["Result"] {
        Value::Null => {}
        Value::String(result) => terminal::answer(result),
        result => terminal::answer(result),
    }
    Ok(())
}

fn failed(error: &RunError) -> u8 {
    terminal::complain(error);
    EXIT_NOT_THE_PROGRAM
}

/// As a shell tells a signal.
fn interrupted(signal: &str) -> u8 {
    if signal == "SIGINT" { 130 } else { 143 }
}
