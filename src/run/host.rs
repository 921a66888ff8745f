//! The daemon that a run uses: the one that has the database already, or one of our own in this process.

use std::time::Duration;

use http::Method;
use tokio::time::{sleep, timeout};

use super::RunError;
use crate::api::client::Client;
use crate::config::{Config, DockerApi, Listen};
use crate::daemon::{Daemon, Render, StartError, make_directories};
use crate::state::StateError;

/// How long a daemon may take to answer a ping.
const PING_WAIT: Duration = Duration::from_secs(2);
/// How long another process may hold the database without answering: it is about to serve, or about to end.
const LOCKED_WAIT: Duration = Duration::from_secs(20);
/// How often it is looked at.
const LOCKED_STEP: Duration = Duration::from_millis(100);

/// Where the container is.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) client: Client,
    /// `None`: another process's.
    pub(super) own: Option<Daemon>,
}

impl Host {
    /// Finds the daemon of this database, or starts one here.
    pub(super) async fn find_or_start(config: &Config, render: &Render) -> Result<Self, RunError> {
        let deadline = sleep(LOCKED_WAIT);
        tokio::pin!(deadline);
        loop {
            match start(config, render).await {
                // Only then is the daemon that listens there the one of this database.
                Err(RunError::Start(StartError::Store(StateError::Locked { path }))) => {
                    if let Some(client) = answering(&config.listen).await {
                        return Ok(Self { client, own: None });
                    }
                    tokio::select! {
                        () = &mut deadline => return Err(StartError::Store(StateError::Locked { path }).into()),
                        () = sleep(LOCKED_STEP) => {}
                    }
                }
                other => return other,
            }
        }
    }

    /// Ends the daemon if it is ours.
    pub(super) async fn leave(self) {
        if let Some(daemon) = self.own {
            daemon.stop().await;
        }
    }
}

async fn start(config: &Config, render: &Render) -> Result<Host, RunError> {
    make_directories(config)?;
    // Whatever the settings are for others, this client needs attach.
    let config = Config { docker_api: DockerApi::Compatible, ..config.clone() };
    let daemon = Daemon::start(config, render.clone()).await?;
    let addresses = daemon.addresses();
    // TCP may want a certificate of its clients.
    let local = addresses.iter().find(|address| matches!(address, Listen::Unix(_)));
    let address = local.or(addresses.first()).cloned().ok_or(RunError::NoAddress)?;
    Ok(Host { client: Client::new(address), own: Some(daemon) })
}

async fn answering(listen: &[Listen]) -> Option<Client> {
    for address in listen {
        let client = Client::new(address.clone());
        let pong = timeout(PING_WAIT, client.send(Method::GET, "/_ping", None)).await;
        if pong.is_ok_and(|reply| reply.is_ok_and(|reply| reply.status() == 200)) {
            return Some(client);
        }
    }
    None
}
