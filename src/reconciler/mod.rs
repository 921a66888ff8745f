//! # Reconciler: convergence
//!
//! Brings AWS to what is wanted, and writes down what it saw: the only writer of facts. It never writes a wish and
//! never answers a client.

mod absorb;
mod backoff;
mod learn;
mod lines;
mod names;
mod plan;
mod queue;
mod verdict;
