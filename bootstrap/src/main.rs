//! The static binary that goes into images; the daemon's own binary can do the same.

use std::process::ExitCode;

fn main() -> ExitCode {
    sockerless_bootstrap::run(std::env::args_os().skip(1).collect())
}
