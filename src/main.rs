//! Arguments → configuration → telemetry → what was asked for → exit code.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use sockerless_lambda::api::client::is_alive;
use sockerless_lambda::cli::{self, Cli, Command, EXIT_USAGE};
use sockerless_lambda::clock::Clock;
use sockerless_lambda::config::{self, Config, ConfigError, Environment, Loaded};
use sockerless_lambda::daemon::{Daemon, Render, StartError, make_directories};
use sockerless_lambda::doctor;
use sockerless_lambda::open_files;
use sockerless_lambda::reconcile_once::{Output, reconcile_once};
use sockerless_lambda::reconciler::{Outcome, PassOrder};
use sockerless_lambda::run::{self, RunParts};
#[cfg(feature = "sandbox")]
use sockerless_lambda::sandbox_process;
use sockerless_lambda::signals::Signals;
use sockerless_lambda::telemetry::Telemetry;
use sockerless_lambda::terminal;
use tokio_util::sync::CancellationToken;

/// The exit code of everything that went wrong but for the configuration.
const EXIT_ERROR: u8 = 1;
/// The exit code of a pass that has left something to do.
const EXIT_LEFT: u8 = 2;
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
    match cli.command {
        Some(Command::Completions { shell }) => return print(&cli::completions(shell)),
        Some(Command::Man) => return cli::manual_page().map_or(ExitCode::from(EXIT_ERROR), |page| print(&page)),
        #[cfg(feature = "sandbox")]
        Some(Command::SandboxEnvironment) => return sandbox_process::enter_image(),
        _ => {}
    }
    if let Some(contradiction) = cli.contradiction() {
        terminal::complain(contradiction);
        return ExitCode::from(EXIT_USAGE);
    }
    if cli.command.is_some() && cli.serve.once.reconcile_once {
        terminal::complain("--reconcile-once stands alone: without a command");
        return ExitCode::from(EXIT_USAGE);
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
    #[cfg(feature = "otlp")]
    sockerless_lambda::traces::finish();
    // Nothing is worth waiting for any more: a second signal asked for an end at once, or all is stopped.
    runtime.shutdown_background();
    ExitCode::from(code)
}

fn print(text: &[u8]) -> ExitCode {
    terminal::answer(String::from_utf8_lossy(text).trim_end());
    ExitCode::SUCCESS
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
    let order = cli.serve.once.order();
    let config = match &cli.command {
        Some(Command::Run(_)) => Config { drain_timeout: RUN_DRAIN.min(loaded.config.drain_timeout), ..quiet(&loaded) },
        Some(Command::Doctor(_)) => quiet(&loaded),
        None if order.is_some() => quiet(&loaded),
        _ => loaded.config,
    };
    // The others end in a moment, and have nothing to trace.
    let traced = match cli.command {
        None | Some(Command::Run(_)) => environment.clone(),
        _ => Environment::default(),
    };
    let telemetry = match Telemetry::install(&config, &traced) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            terminal::complain(&error);
            return if error.is_usage() { EXIT_USAGE } else { EXIT_ERROR };
        }
    };
    tokio::spawn(telemetry.clone().upkeep());
    let render: Render = Arc::new(move || telemetry.render());
    let flags = cli.global.settings.given().clone();
    match cli.command {
        Some(Command::Run(args)) => {
            // A daemon that is running already will run the container, in a sandbox that may not know of our images.
            #[cfg(feature = "sandbox")]
            if let Err(error) = sandbox_process::offer_images(&config).await {
                terminal::complain(error);
                return run::EXIT_NOT_THE_PROGRAM;
            }
            run::run(RunParts { args, flags, environment, config, render }, signals).await
        }
        #[cfg(feature = "sandbox")]
        Some(Command::Sandbox(args)) => sandbox(&config, args.rendezvous.as_deref(), signals).await,
        Some(Command::Healthcheck) => healthcheck(&config).await,
        Some(Command::Doctor(args)) => examined(&config, args.output.unwrap_or_default()).await,
        // These never come here: they need neither settings nor threads.
        #[cfg(feature = "sandbox")]
        Some(Command::SandboxEnvironment) => EXIT_ERROR,
        Some(Command::Bootstrap(_) | Command::Completions { .. } | Command::Man) => EXIT_ERROR,
        None => match order {
            Some(order) => once(config, order, cli.serve.once.output.unwrap_or_default(), signals).await,
            None => serve(config, render, signals).await,
        },
    }
}

/// Whether the daemon lives. That it is not ready is no reason to restart it.
async fn healthcheck(config: &Config) -> u8 {
    if is_alive(&config.listen).await {
        return 0;
    }
    terminal::complain("no daemon answers on any of the addresses in `listen`");
    EXIT_ERROR
}

/// Tells what would work, and what would not.
async fn examined(config: &Config, output: Output) -> u8 {
    let report = doctor::examine(config, &Clock::real()).await;
    match output {
        Output::Text => terminal::answer(&report),
        Output::Json => terminal::answer(report.json()),
    }
    if report.is_well() { 0 } else { EXIT_ERROR }
}

/// A command with an output of its own speaks of problems only, unless more was asked for.
fn quiet(loaded: &Loaded) -> Config {
    let config = loaded.config.clone();
    let level = loaded.effective.iter().find(|effective| effective.key == "log_level");
    match level {
        Some(level) if level.source == THE_DEFAULT => Config { log_level: "warn".to_owned(), ..config },
        _ => config,
    }
}

/// One pass. A signal ends it in order, a second one at once.
async fn once(config: Config, order: PassOrder, output: Output, mut signals: Signals) -> u8 {
    if config.sandbox
        && !order.dry_run
        && let Err(error) = make_directories(&config)
    {
        terminal::complain(&error);
        return EXIT_ERROR;
    }
    let stop = CancellationToken::new();
    let pass = reconcile_once(config, order, output, stop.clone());
    tokio::pin!(pass);
    let made = tokio::select! {
        made = &mut pass => made,
        _ = signals.next() => {
            stop.cancel();
            tokio::select! {
                made = pass => made,
                _ = signals.next() => return EXIT_ERROR,
            }
        }
    };
    match made {
        Ok(Outcome::Converged) => 0,
        Ok(Outcome::WorkLeft) => EXIT_LEFT,
        Ok(Outcome::Error) => EXIT_ERROR,
        Err(error) => {
            terminal::complain(&error);
            if error.is_usage() { EXIT_USAGE } else { EXIT_ERROR }
        }
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
            return if error.is_usage() { EXIT_USAGE } else { EXIT_ERROR };
        }
    };
    for address in daemon.addresses() {
        tracing::info!(%address, "serving");
    }
    if let (true, Some(address)) = (sandbox, daemon.addresses().first()) {
        terminal::answer(format_args!("export DOCKER_HOST={address}"));
    }
    daemon.announce();
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
    match sandbox_process::serve(config, rendezvous, signals).await {
        Ok(()) => 0,
        Err(error) => {
            terminal::complain(error);
            EXIT_ERROR
        }
    }
}
