//! Docker's words.

pub mod client;
