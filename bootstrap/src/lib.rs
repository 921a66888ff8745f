//! The program in front of any image so that it runs on AWS Lambda.
//!
//! It asks the Lambda Runtime API for an invocation, runs the program that the invocation names, passes the
//! program's output on line by line, and answers with how the program ended; then it asks for the next. It has
//! no async runtime and no threads: one `poll` loop watches the program while it runs.
//!
//! What it promises for each invocation:
//!
//! - a program runs at most once for a token, also if Lambda delivers an invocation twice;
//! - its exit is on the log, after all of its output, before it is answered to Lambda;
//! - it is ended in time before Lambda would kill everything without a word;
//! - nothing that it started is left when the next invocation is asked for.
//!
//! It never prints the environment, the payload or a command.

pub mod protocol;

mod clock;
mod deadline;
mod environment;
mod lines;
mod log;
mod order;
mod payload_file;
mod processes;
mod program;
mod runtime_api;
mod seen;
mod serve;
mod supervise;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

/// The exit code of a start by hand, outside Lambda.
const EXIT_USAGE: u8 = 64;
/// The exit code when the Runtime API cannot be used.
const EXIT_FAILURE: u8 = 1;

/// Serves invocations with `arguments`, program first, as the command of orders that name none.
///
/// Returns only if it cannot go on. It takes over the process: it blocks SIGCHLD, adopts orphans and ends every
/// process below this one after each run, so call it from the only thread.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let end = serve::serve(environment::read(), arguments);
    // Nobody is left to tell if stderr is gone, too.
    let _ = writeln!(std::io::stderr(), "sockerless-bootstrap: {end}");
    ExitCode::from(match end {
        serve::Failure::NotInLambda => EXIT_USAGE,
        serve::Failure::Processes(_) | serve::Failure::RuntimeApi(_) => EXIT_FAILURE,
    })
}
