//! The store from outside: what is promised of a file on a disk, of commits, and of each wish and fact.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod all_rows;
mod commits;
mod containers;
mod counts;
mod cuts;
mod extracted;
mod facts;
mod files;
mod handles;
mod in_place;
mod mended;
mod quarantine;
mod support;
