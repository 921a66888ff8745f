//! The command line.
//!
//! The flags of the configuration are made from its table of keys, so that none can be forgotten or told differently.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{
    Arg, ArgAction, ArgMatches, Args, Command as ClapCommand, CommandFactory as _, FromArgMatches, Parser, Subcommand,
};

use crate::config::{Environment, Flags, KEYS, Place, SYSTEM_FILE, Setting, Shape, Sources, duration};
use crate::reconcile_once::Output;
use crate::reconciler::PassOrder;

/// The exit code of a command line or a configuration that cannot be used.
pub const EXIT_USAGE: u8 = 64;

const AFTER_HELP: &str = "\
Settings are taken from the defaults, then the configuration file, then the environment, then the flags: the last one \
counts. A configuration file holds the same keys with `_` for `-`, below `lambda:`.

Exit codes: 0 success; 1 error; 64 the command line or the configuration cannot be used. With --reconcile-once: 0 \
nothing is left to do, 1 error, 2 something is left, or a dry run has found something.";

const RUN_AFTER_HELP: &str = "\
The exit code is the program's. Otherwise: 125 the container could not be run, or nobody can tell how it ended; \
130 interrupted; 64 the command line or the configuration cannot be used.";

/// Run containers without servers: the Docker Engine API on AWS Lambda.
///
/// Without a command it serves the API until SIGTERM or SIGINT.
#[derive(Debug, Parser)]
#[command(name = "sockerless-backend-lambda", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do; nothing: serve.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What counts for every command.
    #[command(flatten)]
    pub global: Global,
    /// What counts for serving only.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one container and hand on its output and its exit code.
    #[command(after_help = RUN_AFTER_HELP)]
    Run(Box<RunArgs>),
    /// Serve Lambda and CloudWatch Logs on this machine, for trying and testing, and tell how an AWS SDK gets there.
    #[cfg(feature = "sandbox")]
    Sandbox(SandboxArgs),
    /// Enter the root of an image, as the sandbox's process says it on stdin.
    #[cfg(feature = "sandbox")]
    #[command(hide = true)]
    SandboxEnvironment,
    /// Run a program for Lambda's Runtime API, as the first program of a container image.
    Bootstrap(BootstrapArgs),
    /// Ask the daemon of this configuration whether it is alive: exit code 0 if it is, 1 if not.
    Healthcheck,
    /// Look, before serving, whether a daemon with this configuration would work: one line a check, with what to do.
    /// Changes nothing. Exit code 0: nothing is wrong; 1: something is.
    Doctor(DoctorArgs),
    /// Print the completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, in roff.
    Man,
}

/// The completions for a shell.
#[must_use]
pub fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut text = Vec::new();
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut text);
    text
}

/// The manual page, in roff.
///
/// # Errors
///
/// Never, as long as memory can be written.
pub fn manual_page() -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut text)?;
    Ok(text)
}

/// What counts for every command.
#[derive(Debug, Args)]
pub struct Global {
    /// The configuration file; also SOCKERLESS_LAMBDA_CONFIG; without: /etc/sockerless/lambda.yaml if it exists.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Use Lambda and CloudWatch Logs on this machine instead of AWS: programs of this machine run as images named
    /// `host`. State and socket are in the user's state directory.
    #[cfg(feature = "sandbox")]
    #[arg(long, global = true)]
    pub sandbox: bool,
    /// Where the sandbox looks for images: OCI layouts and archives of `docker save`, or a directory of such; may be
    /// repeated.
    #[cfg(feature = "sandbox")]
    #[arg(long, value_name = "DIR", global = true)]
    pub sandbox_images: Vec<PathBuf>,
    /// The keys of the configuration.
    #[command(flatten)]
    pub settings: SettingFlags,
}

/// What counts for serving only.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Print the configuration in force and where each value came from, then end.
    #[arg(long)]
    pub print_config: bool,
    /// Print the table of all keys for the documentation, then end.
    #[arg(long, hide = true)]
    pub print_config_table: bool,
    /// Take a copied or restored database into use although another one owns its functions.
    #[arg(long)]
    pub adopt: bool,
    /// One pass instead of serving.
    #[command(flatten)]
    pub once: OnceArgs,
}

/// One pass instead of serving.
#[derive(Debug, Args)]
#[command(next_help_heading = "One pass")]
pub struct OnceArgs {
    /// Converge once and end: settle runs that have ended, delete what was removed, collect orphans, mend drift. Not
    /// beside a live daemon on the same database, unless --dry-run is given. Invokes nothing unless --start is given.
    #[arg(long)]
    pub reconcile_once: bool,
    /// Change nothing; print what a pass would do next, one line an action, with its reason.
    #[arg(long, requires = "reconcile_once", conflicts_with = "adopt")]
    pub dry_run: bool,
    /// Invoke runs that are wanted, and wait for their answers.
    #[arg(long, requires = "reconcile_once")]
    pub start: bool,
    /// How long the pass may take, such as 90s, 10m or 1h [default: 10m].
    #[arg(long, value_name = "TIME", requires = "reconcile_once", value_parser = deadline)]
    pub deadline: Option<Duration>,
    /// How the result is printed [default: text].
    #[arg(long, requires = "reconcile_once")]
    pub output: Option<Output>,
}

/// A pass may take so long if nothing else was said.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(600);
const MAX_DEADLINE: Duration = Duration::from_secs(86_400);

fn deadline(text: &str) -> Result<Duration, String> {
    duration(text)
        .filter(|deadline| (Duration::from_secs(1)..=MAX_DEADLINE).contains(deadline))
        .ok_or_else(|| "a time such as 90s, 10m or 1h is needed, from 1s to 1d".to_owned())
}

impl OnceArgs {
    /// What the pass is to do, if one is asked for.
    #[must_use]
    pub fn order(&self) -> Option<PassOrder> {
        let deadline = self.deadline.unwrap_or(DEFAULT_DEADLINE);
        self.reconcile_once.then_some(PassOrder { dry_run: self.dry_run, start: self.start, deadline })
    }
}

/// `run`
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// NAME=VALUE for the program, or NAME to hand on the variable of this process; may be repeated.
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// A file of such lines; empty lines and lines that begin with # are skipped; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Memory in MB, 128 to 10240.
    #[arg(short, long, value_name = "MB", value_parser = clap::value_parser!(u32).range(128..=10_240))]
    pub memory: Option<u32>,
    /// A label; may be repeated.
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub label: Vec<String>,
    /// JSON for the invocation: as it is, from a file (@FILE), or from stdin (-).
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    pub payload: Option<String>,
    /// Print the function's result after the output.
    #[arg(long)]
    pub result: bool,
    /// Keep the container and its function after the end.
    #[arg(long)]
    pub keep: bool,
    /// The container's name.
    #[arg(long)]
    pub name: Option<String>,
    /// The program to start, instead of the image's entrypoint.
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// Where the program starts.
    #[arg(short, long, value_name = "DIRECTORY")]
    pub workdir: Option<String>,
    /// The image.
    pub image: String,
    /// The command and its arguments; nothing: the image's.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// `sandbox`
#[cfg(feature = "sandbox")]
#[derive(Clone, Debug, Default, Args)]
pub struct SandboxArgs {
    /// Belong to a daemon's database: tell the endpoint in this file only, and end when the daemon is gone.
    #[arg(long, value_name = "FILE", hide = true)]
    pub rendezvous: Option<PathBuf>,
}

/// `doctor`
#[derive(Clone, Debug, Default, Args)]
pub struct DoctorArgs {
    /// How the findings are printed [default: text].
    #[arg(long)]
    pub output: Option<Output>,
}

/// `bootstrap`
#[derive(Clone, Debug, Default, Args)]
pub struct BootstrapArgs {
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

/// The flags of the configuration's keys.
#[derive(Clone, Debug, Default)]
pub struct SettingFlags(Flags);

impl SettingFlags {
    /// The values that were given.
    #[must_use]
    pub fn given(&self) -> &Flags {
        &self.0
    }
}

impl Args for SettingFlags {
    fn augment_args(command: ClapCommand) -> ClapCommand {
        KEYS.iter().fold(command, |command, key| command.arg(flag(*key)))
    }

    fn augment_args_for_update(command: ClapCommand) -> ClapCommand {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for key in KEYS {
            if let Some(values) = matches.get_many::<String>(key.name()) {
                self.0.insert(key.name(), values.cloned().collect());
            }
        }
        Ok(())
    }
}

fn flag(key: &dyn Setting) -> Arg {
    let default = match key.default_text() {
        "" => String::new(),
        default => format!("; default {default}"),
    };
    let arg = Arg::new(key.name())
        .long(key.flag())
        .value_name(key.name().to_uppercase())
        .help(format!("{} [{}{default}; variable {}]", key.meaning(), key.allowed(), key.variable()))
        .help_heading("Settings")
        .action(ArgAction::Append)
        .allow_hyphen_values(true)
        .global(true);
    match key.shape() {
        // As dockerd has them: the flag alone, or `--flag=false`.
        Shape::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        Shape::Text | Shape::Number | Shape::List => arg,
    }
}

impl Cli {
    /// Whether the embedded sandbox stands in for AWS.
    #[must_use]
    pub fn sandbox(&self) -> bool {
        #[cfg(feature = "sandbox")]
        return self.global.sandbox;
        #[cfg(not(feature = "sandbox"))]
        false
    }

    /// Where the sandbox looks for images, as absolute paths: its process has another working directory.
    fn sandbox_images(&self) -> Vec<PathBuf> {
        #[cfg(feature = "sandbox")]
        return self
            .global
            .sandbox_images
            .iter()
            .map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()))
            .collect();
        #[cfg(not(feature = "sandbox"))]
        Vec::new()
    }

    /// What is wrong with these flags together.
    #[must_use]
    pub fn contradiction(&self) -> Option<&'static str> {
        if self.sandbox() && matches!(self.command, Some(Command::Doctor(_))) {
            return Some("--sandbox brings an AWS of its own: there is nothing for doctor to look at");
        }
        let is_sandboxed = self.sources(Environment::default()).place == Place::Sandbox;
        (!is_sandboxed && !self.sandbox_images().is_empty())
            .then_some("--sandbox-images means nothing without --sandbox")
    }

    /// What the configuration is made from.
    #[must_use]
    pub fn sources(&self, environment: Environment) -> Sources {
        let place = match &self.command {
            _ if self.sandbox() => Place::Sandbox,
            #[cfg(feature = "sandbox")]
            Some(Command::Sandbox(_)) => Place::Sandbox,
            Some(Command::Run(_)) => Place::User,
            _ => Place::System,
        };
        Sources {
            file: self.global.config.clone(),
            system_file: PathBuf::from(SYSTEM_FILE),
            environment,
            flags: self.global.settings.given().clone(),
            place,
            sandbox_images: self.sandbox_images(),
            adopt: self.serve.adopt,
        }
    }
}
