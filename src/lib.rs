//! Run containers without servers: the Docker Engine API on AWS Lambda.

pub mod aws;
pub mod cli;
pub mod clock;
pub mod config;
pub mod health;
pub mod state;
pub mod telemetry;
pub mod terminal;
