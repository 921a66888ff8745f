//! `doctor`: would a daemon with this configuration work? Looked at before serving, without changing anything.
//!
//! `machine` looks at this machine with the rooms' own eyes, `account` asks AWS through the same calls as the daemon,
//! `role_logs` looks for what functions have written, `rights` has every right that the daemon needs, `report` the findings and how they are printed.

mod account;
mod machine;
mod report;
mod rights;
mod role_logs;

use crate::aws::{Cloud, CloudSettings};
use crate::clock::Clock;
use crate::config::Config;

pub use report::{Finding, Report, Verdict};
pub use rights::{RIGHTS, Right, Trial};

/// Looks at everything. Takes as long as AWS takes to answer some ten small calls.
pub async fn examine(config: &Config, clock: &Clock) -> Report {
    let mut report = Report::default();
    machine::examine(config, &mut report).await;
    let settings = CloudSettings {
        region: config.region.clone(),
        endpoint_url: config.endpoint_url.clone(),
        static_credentials: None,
        api_share: config.api_share,
    };
    let cloud = Cloud::connect(&settings).await;
    account::examine(config, &cloud, clock, &mut report).await;
    report
}
