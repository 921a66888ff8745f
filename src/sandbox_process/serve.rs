//! The process itself: `sandbox`.

use std::fs::{self, TryLockError};
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use sockerless_bootstrap::Image;
use sockerless_bootstrap::protocol::MARKER;
use sockerless_sandbox::runner::{self, RunnerConfig};
use sockerless_sandbox::settings::Settings;
use sockerless_sandbox::{Credentials, ImageOptions, Options, Programs, Sandbox};

use super::rendezvous::Rendezvous;
use super::{Files, SandboxError, open};
use crate::config::Config;
use crate::reconciler::{BOOTSTRAP, TAG_PROTOCOL};
use crate::signals::Signals;
use crate::terminal;

/// How long a sandbox of a daemon stays when nobody attends it.
const ALONE_LIMIT: Duration = Duration::from_secs(600);

/// Serves a sandbox until a signal, or until it is asked to end, or is alone for too long.
///
/// With a rendezvous it belongs to a daemon: it leaves the session of the process that started it, and tells where it
/// is in that file only. If the database has a sandbox already, there is nothing to do. Without, it tells on stdout.
///
/// # Errors
///
/// If it cannot start.
pub async fn serve(config: &Config, rendezvous: Option<&Path>, mut signals: Signals) -> Result<(), SandboxError> {
    let Some(path) = rendezvous else {
        let credentials = credentials()?;
        let sandbox = Sandbox::start(options(config, String::new(), &credentials, None)?).await?;
        tell(&sandbox.endpoint(), &config.region, &credentials);
        until_end(&sandbox, &mut signals).await;
        sandbox.stop().await;
        return Ok(());
    };
    let file = |path: &Path, source| SandboxError::File { path: path.to_owned(), source };
    // Fails only for the leader of a process group, which is on its own already.
    let _ = nix::unistd::setsid();
    let files = Files::of_rendezvous(path);
    let lock = open(&files.lock)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(file(&files.lock, error)),
    }
    let (identity, credentials) = (random::<32>()?, credentials()?);
    let sandbox = Sandbox::start(options(config, identity.clone(), &credentials, Some(ALONE_LIMIT))?).await?;
    let Credentials { access_key_id, secret_access_key } = credentials;
    let (endpoint, pid) = (sandbox.endpoint(), std::process::id());
    let here = Rendezvous { endpoint, pid, identity, access_key_id, secret_access_key };
    here.write(path).map_err(|error| file(path, error))?;
    until_end(&sandbox, &mut signals).await;
    // First nobody finds it, then it ends, and only then may there be another one.
    let _ = fs::remove_file(path);
    sandbox.stop().await;
    // Closing is not enough: a child process has a copy of the descriptor until it executes its program.
    lock.unlock().map_err(|error| file(&files.lock, error))
}

/// `sandbox-environment`: becomes what runs in an image's root, with the bootstrap as the front. Call it in a process
/// without threads.
#[must_use]
pub fn enter_image() -> ExitCode {
    runner::enter(|front| {
        let image = Image { entrypoint: front.entrypoint, cmd: front.cmd };
        sockerless_bootstrap::run_image(image, front.variables)
    })
}

async fn until_end(sandbox: &Sandbox, signals: &mut Signals) {
    tokio::select! {
        () = sandbox.ended() => {}
        _ = signals.next() => {}
    }
}

fn options(
    config: &Config,
    identity: String,
    credentials: &Credentials,
    alone_limit: Option<Duration>,
) -> Result<Options, SandboxError> {
    let program = std::env::current_exe().map_err(SandboxError::Spawn)?;
    let this_with = |command: &str| vec![program.clone().into_os_string(), command.into()];
    let runner = RunnerConfig {
        bootstrap: this_with("bootstrap"),
        isolate: true,
        enter: this_with("sandbox-environment"),
        ..RunnerConfig::default()
    };
    let account_id = config.role_arn.split(':').nth(4).unwrap_or_default().to_owned();
    let front_tag = Some((TAG_PROTOCOL.to_owned(), BOOTSTRAP.to_owned()));
    let settings = Settings { region: config.region.clone(), account_id, front_tag, ..Settings::quick() };
    let images = Some(ImageOptions {
        directories: config.sandbox_images.clone(),
        store: Files::of(&config.database).images,
        front_mark: MARKER.as_bytes().to_vec(),
    });
    let credentials = Some(credentials.clone());
    Ok(Options { identity, credentials, alone_limit, images, ..Options::new(settings, Programs::Real(runner)) })
}

/// What nobody guesses: other users of this machine reach the port, too.
fn credentials() -> Result<Credentials, SandboxError> {
    let access_key_id = format!("SANDBOX{}", random::<8>()?.to_uppercase());
    Ok(Credentials { access_key_id, secret_access_key: random::<32>()? })
}

/// This many random bytes in hexadecimal digits.
fn random<const LENGTH: usize>() -> Result<String, SandboxError> {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).map_err(|error| SandboxError::Spawn(io::Error::other(error.to_string())))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What an AWS SDK or the aws command needs to get here.
fn tell(endpoint: &str, region: &str, credentials: &Credentials) {
    let Credentials { access_key_id: key, secret_access_key: secret } = credentials;
    terminal::answer(format_args!(
        "export AWS_ENDPOINT_URL={endpoint}\nexport AWS_REGION={region}\nexport AWS_ACCESS_KEY_ID={key}\nexport AWS_SECRET_ACCESS_KEY={secret}"
    ));
}
