//! The embedded sandbox as a process of its own, which belongs to a database.
//!
//! A daemon with `--sandbox` finds the process by the **rendezvous** file beside its database, or starts it. The
//! process outlives a daemon that is killed, so that functions, runs and logs are still there for the next one, as
//! they would be in AWS. It ends with a clean stop of the daemon, or when nobody attends it for ten minutes.
//!
//! Never two for one database: the process holds a lock beside the database as long as it lives.

mod rendezvous;
mod serve;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::api::client::{Client, ClientError, Reply};
use crate::config::{Config, KEYS};
use crate::service_manager;
use rendezvous::Rendezvous;

pub use serve::{enter_image, serve};

/// How long a process may take to be found or started.
const START_WAIT: Duration = Duration::from_secs(15);
/// How often a start is looked at.
const START_STEP: Duration = Duration::from_millis(25);
/// How long a found process may take to say who it is.
const IDENTITY_WAIT: Duration = Duration::from_secs(2);
/// How long a clean stop waits for the process.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A file beside the database cannot be used.
    #[error("the sandbox cannot use {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The process cannot be started.
    #[error("the sandbox cannot be started: {0}")]
    Spawn(#[source] io::Error),
    /// The process did not get ready.
    #[error("the sandbox did not get ready in {} seconds; {log} may tell why", START_WAIT.as_secs())]
    NotReady {
        /// Its log.
        log: PathBuf,
    },
    /// The sandbox does not take the images.
    #[error("the sandbox cannot use the images: {0}")]
    Images(String),
    /// The sandbox itself could not start.
    #[error(transparent)]
    Start(#[from] sockerless_sandbox::StartError),
}

/// The files beside a database.
#[derive(Clone, Debug)]
struct Files {
    rendezvous: PathBuf,
    lock: PathBuf,
    log: PathBuf,
    images: PathBuf,
}

impl Files {
    fn of(database: &Path) -> Self {
        let beside = |end: &str| {
            let mut path = database.as_os_str().to_owned();
            path.push(end);
            PathBuf::from(path)
        };
        Self {
            rendezvous: beside(".sandbox"),
            lock: beside(".sandbox.lock"),
            log: beside(".sandbox.log"),
            images: beside(".sandbox.images"),
        }
    }

    fn of_rendezvous(rendezvous: &Path) -> Self {
        Self::of(&rendezvous.with_extension(""))
    }
}

/// A sandbox that this daemon attends.
#[derive(Debug)]
pub struct SandboxProcess {
    rendezvous: Rendezvous,
    client: Client,
    attendance: JoinHandle<()>,
}

impl SandboxProcess {
    /// Finds the sandbox of this database, or starts it.
    ///
    /// # Errors
    ///
    /// If none gets ready in time.
    pub async fn find_or_start(config: &Config) -> Result<Self, SandboxError> {
        let files = Files::of(&config.database);
        let ready = async {
            let mut child: Option<Child> = None;
            loop {
                if let Some(found) = find(&files.rendezvous).await {
                    found.add_images(&config.sandbox_images).await?;
                    return Ok(found);
                }
                // A child that has ended found the lock taken: by a process that is about to be ready, or to end.
                if child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None))) {
                    child = Some(spawn(config, &files)?);
                }
                sleep(START_STEP).await;
            }
        };
        timeout(START_WAIT, ready).await.unwrap_or_else(|_| Err(SandboxError::NotReady { log: files.log.clone() }))
    }

    /// Has it look for images there, too. It may have been started without, or with others.
    async fn add_images(&self, directories: &[PathBuf]) -> Result<(), SandboxError> {
        if directories.is_empty() {
            return Ok(());
        }
        let refused = |error: ClientError| SandboxError::Images(error.to_string());
        let body = json!({ "directories": directories });
        let reply = self.client.send(Method::POST, "/_sandbox/images", Some(&body)).await.map_err(refused)?;
        if reply.status() == 200 {
            return Ok(());
        }
        let told = reply.json().await.map_err(refused)?;
        Err(SandboxError::Images(told["message"].as_str().unwrap_or_default().to_owned()))
    }

    /// Where it listens, for the SDK's clients.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.rendezvous.endpoint
    }

    /// The key id and the secret that it demands.
    #[must_use]
    pub fn credentials(&self) -> (&str, &str) {
        (&self.rendezvous.access_key_id, &self.rendezvous.secret_access_key)
    }

    /// Ends it unless functions run: those it finishes, and then ends alone.
    pub async fn stop_when_idle(self) {
        let body = json!({ "when_idle": true });
        let stop = self.client.send(Method::POST, "/_sandbox/stop", Some(&body));
        if let Ok(Ok(_)) = timeout(STOP_WAIT, stop).await {
            return;
        }
        tracing::warn!(endpoint = self.endpoint(), "the sandbox does not answer; it ends when it is alone for long");
    }
}

impl Drop for SandboxProcess {
    fn drop(&mut self) {
        self.attendance.abort();
    }
}

/// Tells the sandbox of this database, if it has one that is alive, where more images are.
///
/// # Errors
///
/// If it does not take them.
pub async fn offer_images(config: &Config) -> Result<(), SandboxError> {
    if !config.sandbox || config.sandbox_images.is_empty() {
        return Ok(());
    }
    match find(&Files::of(&config.database).rendezvous).await {
        Some(found) => found.add_images(&config.sandbox_images).await,
        None => Ok(()),
    }
}

/// The sandbox that the rendezvous names, if it is alive and the one that wrote it. It is attended before it is asked
/// who it is: one that was about to end either stays, or does not answer.
async fn find(path: &Path) -> Option<SandboxProcess> {
    let rendezvous = Rendezvous::read(path)?;
    let client = Client::new(rendezvous.address()?).with_token(&rendezvous.secret_access_key)?;
    let attendance = timeout(IDENTITY_WAIT, client.send(Method::GET, "/_sandbox/attend", None)).await.ok()?.ok()?;
    let identity = timeout(IDENTITY_WAIT, identity(&client)).await.ok()?.ok()?;
    if attendance.status() != 200 || identity != rendezvous.identity {
        return None;
    }
    let attendance = tokio::spawn(attend(attendance, rendezvous.endpoint.clone()));
    Some(SandboxProcess { rendezvous, client, attendance })
}

async fn identity(client: &Client) -> Result<String, ClientError> {
    let answer = client.send(Method::GET, "/_sandbox/identity", None).await?.json().await?;
    Ok(answer.get("identity").and_then(Value::as_str).unwrap_or_default().to_owned())
}

/// Holds the line as long as this daemon lives.
async fn attend(mut line: Reply, endpoint: String) {
    while let Ok(Some(_)) = line.chunk().await {}
    tracing::error!(endpoint, "the sandbox has ended; stop and start the daemon to get another one");
}

/// Starts the process. It leaves this one's session by itself, and takes nothing from the environment that would
/// change its settings: they are all given as flags.
fn spawn(config: &Config, files: &Files) -> Result<Child, SandboxError> {
    let program = std::env::current_exe().map_err(SandboxError::Spawn)?;
    let log = open(&files.log)?;
    let same_log = log.try_clone().map_err(SandboxError::Spawn)?;
    let mut command = Command::new(program);
    command.arg("sandbox").arg("--rendezvous").arg(&files.rendezvous);
    command.arg("--region").arg(&config.region).arg("--role-arn").arg(&config.role_arn);
    command.arg("--database").arg(&config.database).arg("--log-level").arg(&config.log_level);
    command.args(config.listen.iter().map(|listen| format!("--listen={listen}")));
    for variable in KEYS.iter().map(|key| key.variable()).chain(["SOCKERLESS_LAMBDA_CONFIG".to_owned()]) {
        command.env_remove(variable);
    }
    for variable in service_manager::VARIABLES {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null()).stdout(same_log).stderr(log).current_dir("/");
    command.spawn().map_err(SandboxError::Spawn)
}

fn open(path: &Path) -> Result<File, SandboxError> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| SandboxError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_stand_beside_the_database() {
        let files = Files::of(Path::new("/state/my.lambda.db"));
        assert_eq!(files.rendezvous, Path::new("/state/my.lambda.db.sandbox"));
        assert_eq!(files.lock, Path::new("/state/my.lambda.db.sandbox.lock"));
        assert_eq!(files.log, Path::new("/state/my.lambda.db.sandbox.log"));
        assert_eq!(Files::of_rendezvous(&files.rendezvous).lock, files.lock);
    }

    #[tokio::test]
    async fn a_stale_rendezvous_finds_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sandbox");
        assert!(find(&path).await.is_none(), "there is none");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let (access_key_id, secret_access_key) = ("key".to_owned(), "secret".to_owned());
        let identity = "identity".to_owned();
        Rendezvous { endpoint, pid: 1, identity, access_key_id, secret_access_key }.write(&path).unwrap();
        assert!(find(&path).await.is_none(), "nobody listens");
    }
}
