//! Environments whose root is an image's own files.
//!
//! ```text
//!  runner ──plan──► helper: new user (if not root), mount, PID, IPC and UTS namespaces
//!         ◄─report──   └──► first process: mounts, pivot_root, rights given up
//!                             ├── front: the bootstrap, in this very process
//!                             └── no front: the image's own program
//! ```
//!
//! The helper is a process of its own because only one with a single thread may enter a user namespace, and because the
//! front must not need anything of the image: it was loaded, with its libraries, before the root was changed.
//!
//! What is isolated: all of the above, a root that cannot be written to, a /tmp, a minimal /dev and a /proc of its own,
//! and the user, who has no rights. What is not: the network, as functions in AWS have one, too, and the Runtime API is
//! on it.

mod inside;
mod mounts;
mod rights;
mod start;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use inside::{Front, enter};
pub(super) use start::{Entered, start};

/// What the helper is told.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    /// The image's files.
    root: PathBuf,
    /// Files of this machine, and where they belong in the image.
    machine_files: Vec<(PathBuf, PathBuf)>,
    /// The size of /tmp.
    tmp_mb: u32,
    hostname: String,
    working_dir: String,
    entrypoint: Vec<String>,
    command: Vec<String>,
    /// Whether the front is started, and not the image's program.
    front: bool,
    env: BTreeMap<String, String>,
}

/// What the helper tells, one line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Report {
    /// Everything is ready.
    Ready(Isolation),
    /// Nothing will run.
    Failed { step: Step, reason: String },
}

/// What could not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    Isolate,
    WorkingDir,
    Exec,
}

/// How well an environment is isolated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// In a user namespace, because the sandbox is not root.
    pub user_namespace: bool,
    /// What should have been isolated and is not, and why.
    pub missing: Vec<String>,
}
