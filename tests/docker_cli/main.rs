//! The real docker CLI against the daemon on its sandbox: every command, its output and its exit status.
//!
//! What is run, what must come of it, and the verdict that the documentation shows are one list: the files in `cases/`
//! (`script.rs` tells how they are read). The table in docs/clients.md is made of them:
//! `UPDATE_TABLE=1 cargo test --test docker_cli table` writes it. `DOCKER_CLI=/path/to/docker` tries another CLI, of any
//! version.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, tells what it skips, and waits on this machine's clock"
)]

mod daemon;
mod help;
mod pattern;
mod play;
mod script;
mod table;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

/// The CLI's words and columns differ a little between its major versions.
const MAJOR: u32 = 28;
/// Cases at once: most of their time is spent waiting for programs in the sandbox.
const AT_ONCE: usize = 4;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let cli = find_cli();
    if let Err(reason) = &cli {
        eprintln!("docker_cli: SKIPPED: {reason}");
    }
    let without = cli.is_err();
    let mut trials = Vec::new();
    for trial in trials_of(&cli.unwrap_or_default()) {
        trials.push(trial.with_ignored_flag(without));
    }
    let sections = script::read_all();
    let expected = table::render(&sections);
    trials.push(Trial::test("the table in docs/clients.md is the one of the cases", move || table::check(&expected)));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// What is tried with a CLI.
fn trials_of(cli: &Path) -> Vec<Trial> {
    let sections = script::read_all();
    let documented: Vec<String> = sections.iter().flat_map(|section| section.commands.clone()).collect();
    let program = cli.to_owned();
    let complete = Trial::test("every command of this CLI is in the table", move || help::check(&program, &documented));
    let played = sections.into_iter().map(|section| {
        let name = format!("{}: {}", section.group, section.commands.join(", "));
        let program = cli.to_owned();
        Trial::test(name, move || play::section(&program, &section))
    });
    std::iter::once(complete).chain(played).collect()
}

/// The CLI under test: the one that DOCKER_CLI names, or the one in PATH, if the cases are written for its version.
fn find_cli() -> Result<PathBuf, String> {
    if let Some(wanted) = std::env::var_os("DOCKER_CLI") {
        return Ok(wanted.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("docker")).find(|file| file.is_file());
    let found = found.ok_or("there is no docker CLI in PATH")?;
    let version = Command::new(&found).arg("--version").output().map_err(|error| error.to_string())?;
    let version = String::from_utf8_lossy(&version.stdout);
    match version.starts_with(&format!("Docker version {MAJOR}.")) {
        true => Ok(found),
        false => Err(format!("the words of the cases are those of docker {MAJOR}, not of {}", version.trim())),
    }
}

/// What a trial gives back.
type Outcome = Result<(), Failed>;
