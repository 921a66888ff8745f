//! Enters the root of an image with the bootstrap as the front: what a sandbox of one's own gives to
//! `RunnerConfig::enter`. The sandbox starts it; by hand it ends at once.

use std::process::ExitCode;

use sockerless_bootstrap::Image;
use sockerless_sandbox::runner;

fn main() -> ExitCode {
    runner::enter(|front| {
        let image = Image { entrypoint: front.entrypoint, cmd: front.cmd };
        sockerless_bootstrap::run_image(image, front.variables)
    })
}
