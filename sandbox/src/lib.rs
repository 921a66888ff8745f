//! Sandbox.

pub mod runner;
