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
//! - it is ended in time before Lambda would kill everything without a word, also if nobody reads the log;
//! - nothing that it started is left when the next invocation is asked for: an environment in which something cannot be
//!   ended serves no other;
//! - it learns neither the run's token nor the request id, and prints nothing that reads as a line of Lambda's.
//!
//! It never prints the environment, the payload or a command.

pub mod lines;
pub mod protocol;

mod clock;
mod deadline;
mod environment;
mod image;
mod log;
mod order;
mod payload_file;
mod processes;
mod program;
mod runtime_api;
mod seen;
mod serve;
mod supervise;
mod wait;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

pub use image::{Image, InvalidArguments};
pub use lines::Lines;

/// The exit code of a start by hand, outside Lambda, or with arguments that make no sense.
const EXIT_USAGE: u8 = 64;
/// The exit code when the Runtime API cannot be used.
const EXIT_FAILURE: u8 = 1;

/// Serves invocations with this process's environment and these arguments, which are the image's own command; see
/// [`Image::from_arguments`].
///
/// Returns only if it cannot go on. It takes over the process: it blocks all signals, adopts orphans and ends every
/// process below this one after each run, so call it from the only thread.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    tell(&serve::serve(environment::read(), Image::from_arguments(arguments)))
}

/// The same for a caller that knows the image, with these variables instead of the process's own.
#[must_use]
pub fn run_image(image: Image, variables: impl IntoIterator<Item = (OsString, OsString)>) -> ExitCode {
    tell(&serve::serve(environment::of(variables.into_iter().collect()), Ok(image)))
}

fn tell(end: &serve::Failure) -> ExitCode {
    // Nobody is left to tell if stderr is gone, too.
    let _ = writeln!(std::io::stderr(), "sockerless-bootstrap: {end}");
    ExitCode::from(match end {
        serve::Failure::NotInLambda | serve::Failure::Arguments(_) => EXIT_USAGE,
        serve::Failure::Processes(_) | serve::Failure::RuntimeApi(_) | serve::Failure::Unclean(_) => EXIT_FAILURE,
    })
}
