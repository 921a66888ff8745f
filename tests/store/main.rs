//! The store from outside: what is promised of a file on a disk, of commits, and of each wish and fact.

mod commits;
mod containers;
mod facts;
mod files;
mod support;
