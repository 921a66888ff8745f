//! From what is known to Docker's JSON. PURE.

mod conditions;
mod container;
mod event;
mod image;
mod state;
mod stats;
mod system;
mod time;

pub(super) use container::{dead_inspect, dead_item, inspect, list_item, network_of};
pub(super) use event::event;
pub(super) use image::{image_detail, image_history, image_item};
pub(super) use state::{DEAD, exit_error, status_word};
pub(super) use stats::stats;
pub(super) use system::{capabilities, go_arch, info, internal_info, network, version};
