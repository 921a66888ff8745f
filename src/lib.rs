//! Run containers without servers: the Docker Engine API on AWS Lambda.

pub mod api;
pub mod aws;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod doctor;
pub mod health;
pub mod open_files;
pub mod reconcile_once;
pub mod reconciler;
pub mod run;
#[cfg(feature = "sandbox")]
pub mod sandbox_process;
pub mod service_manager;
pub mod signals;
pub mod state;
pub mod telemetry;
pub mod terminal;
pub mod traces;
pub mod watchdog;
