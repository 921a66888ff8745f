//! Arguments → configuration → telemetry → what was asked for → exit code.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use sockerless_lambda::cli::{Cli, Command, EXIT_USAGE};
use sockerless_lambda::config::{self, Config, ConfigError, Environment, Loaded};
use sockerless_lambda::daemon::{Daemon, Render, StartError, make_directories};
use sockerless_lambda::open_files;
use sockerless_lambda::run::{self, RunParts};
use sockerless_lambda::signals::Signals;
use sockerless_lambda::telemetry::{Telemetry, TelemetryError};
use sockerless_lambda::terminal;
use tokio_util::sync::CancellationToken;

/// The exit code of everything that went wrong but for the configuration.
const EXIT_ERROR: u8 = 1;
/// A daemon of `run` serves one container, which has ended when it stops.
const RUN_DRAIN: Duration = Duration::from_secs(3);
const THE_DEFAULT: &str = "the default";

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => {
            // Help and version are answers, everything else is a mistake.
            let _ = message.print();
            return if message.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    if let Some(Command::Bootstrap(bootstrap)) = cli.command {
        return sockerless_bootstrap::run(bootstrap.command);
    }
    if cli.serve.print_config_table {
        terminal::answer(config::markdown_table().trim_end());
        return ExitCode::SUCCESS;
    }
    let environment = Environment::of_process();
    let loaded = match config::load(&cli.sources(environment.clone())) {
        Ok(loaded) => loaded,
        Err(error) => return unusable(&error),
    };
    if cli.serve.print_config {
        terminal::answer(config::effective_yaml(&loaded.effective).trim_end());
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            terminal::complain(format_args!("cannot start: {error}"));
            return ExitCode::from(EXIT_ERROR);
        }
    };
    let code = runtime.block_on(carry_out(cli, loaded, environment));
    // Nothing is worth waiting for any more: a second signal asked for an end at once, or all is stopped.
    runtime.shutdown_background();
    ExitCode::from(code)
}

fn unusable(error: &ConfigError) -> ExitCode {
    terminal::complain(error);
    ExitCode::from(EXIT_USAGE)
}

async fn carry_out(cli: Cli, loaded: Loaded, environment: Environment) -> u8 {
    let signals = match Signals::take() {
        Ok(signals) => signals,
        Err(error) => {
            terminal::complain(format_args!("cannot take signals: {error}"));
            return EXIT_ERROR;
        }
    };
    let config = match &cli.command {
        Some(Command::Run(_)) => for_run(&loaded),
        _ => loaded.config,
    };
    let telemetry = match Telemetry::install(&config) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            terminal::complain(&error);
            return if matches!(error, TelemetryError::Filter(_)) { EXIT_USAGE } else { EXIT_ERROR };
        }
    };
    tokio::spawn(telemetry.clone().upkeep());
    let render: Render = Arc::new(move || telemetry.render());
    let flags = cli.global.settings.given().clone();
    match cli.command {
        Some(Command::Run(args)) => run::run(RunParts { args, flags, environment, config, render }, signals).await,
        #[cfg(feature = "sandbox")]
        Some(Command::Sandbox(args)) => sandbox(&config, args.rendezvous.as_deref(), signals).await,
        // `bootstrap` never comes here: it needs a process without threads.
        Some(Command::Bootstrap(_)) | None => serve(config, render, signals).await,
    }
}

/// The output of `run` is the container's: the daemon in it speaks of problems only, unless more was asked for.
fn for_run(loaded: &Loaded) -> Config {
    let config = Config { drain_timeout: RUN_DRAIN.min(loaded.config.drain_timeout), ..loaded.config.clone() };
    let level = loaded.effective.iter().find(|effective| effective.key == "log_level");
    match level {
        Some(level) if level.source == THE_DEFAULT => Config { log_level: "warn".to_owned(), ..config },
        _ => config,
    }
}

async fn serve(config: Config, render: Render, mut signals: Signals) -> u8 {
    open_files::raise_limit();
    let sandbox = config.sandbox;
    let started = tokio::select! {
        started = start(config, render) => started,
        signal = signals.next() => {
            tracing::info!(signal, "stopped before everything was started");
            return 0;
        }
    };
    let daemon = match started {
        Ok(daemon) => daemon,
        Err(error) => {
            tracing::error!(%error, "the daemon cannot start");
            return EXIT_ERROR;
        }
    };
    for address in daemon.addresses() {
        tracing::info!(%address, "serving");
    }
    if let (true, Some(address)) = (sandbox, daemon.addresses().first()) {
        terminal::answer(format_args!("export DOCKER_HOST={address}"));
    }
    let stop = CancellationToken::new();
    let running = daemon.run_until(stop.clone());
    tokio::pin!(running);
    let ended = tokio::select! {
        ended = &mut running => ended,
        signal = signals.next() => {
            tracing::info!(signal, "stopping; a second signal ends at once");
            stop.cancel();
            tokio::select! {
                ended = &mut running => ended,
                signal = signals.next() => {
                    tracing::warn!(signal, "ended at once");
                    return EXIT_ERROR;
                }
            }
        }
    };
    match ended {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(%error, "the daemon has stopped");
            EXIT_ERROR
        }
    }
}

async fn start(config: Config, render: Render) -> Result<Daemon, StartError> {
    if config.sandbox {
        make_directories(&config)?;
    }
    Daemon::start(config, render).await
}

#[cfg(feature = "sandbox")]
async fn sandbox(config: &Config, rendezvous: Option<&std::path::Path>, signals: Signals) -> u8 {
    match sockerless_lambda::sandbox_process::serve(config, rendezvous, signals).await {
        Ok(()) => 0,
        Err(error) => {
            terminal::complain(error);
            EXIT_ERROR
        }
    }
}
