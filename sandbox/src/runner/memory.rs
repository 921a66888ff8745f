//! The memory of an environment: its limit, and the most that was used.
//!
//! A memory cgroup of its own where one can be made below the sandbox's; version 1 and version 2 are both known.
//! Elsewhere the processes are looked at from time to time, which a short burst can escape.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Pid;

use super::tree::{resident_bytes, tree};

/// Bytes in the unit of `memory_mb`.
const MIB: u64 = 1024 * 1024;
/// How a cgroup's name begins; the sandbox's process id follows.
const PREFIX: &str = "sockerless-sandbox-";
/// How often to try to remove a cgroup whose processes were killed, and how long to wait in between.
const REMOVE_ATTEMPTS: usize = 50;
const REMOVE_PERIOD: Duration = Duration::from_millis(2);

/// Watches the memory of one environment.
pub(super) struct Memory {
    limit: u64,
    cgroup: Option<Cgroup>,
    peak: u64,
    over: bool,
}

impl Memory {
    /// `name` tells this environment from all others.
    pub(super) fn new(name: &str, memory_mb: u32) -> Self {
        let limit = u64::from(memory_mb) * MIB;
        Self { limit, cgroup: Cgroup::create(name, limit), peak: 0, over: false }
    }

    /// Where a new process writes `0` to be counted.
    pub(super) fn entrance(&self) -> Option<File> {
        let cgroup = self.cgroup.as_ref()?;
        OpenOptions::new().write(true).open(cgroup.path.join("cgroup.procs")).ok()
    }

    /// Looks at the processes now. True: the limit was reached, and something was or has to be killed.
    pub(super) fn look(&mut self, root: Pid) -> bool {
        match &self.cgroup {
            Some(cgroup) => {
                self.peak = self.peak.max(cgroup.peak());
                self.over |= cgroup.kills() > 0;
            }
            None => {
                let used = tree(root).into_iter().map(resident_bytes).sum();
                self.peak = self.peak.max(used);
                self.over |= used > self.limit;
            }
        }
        self.over
    }

    /// The most that was seen, in MiB, rounded up.
    pub(super) fn peak_mb(&self) -> u32 {
        u32::try_from(self.peak.min(self.limit).div_ceil(MIB)).unwrap_or(u32::MAX)
    }
}

/// A directory that is removed when nothing is in it any more.
struct Cgroup {
    path: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    V1,
    V2,
}

impl Cgroup {
    fn create(name: &str, limit: u64) -> Option<Self> {
        let (parent, kind) = own_cgroup()?;
        sweep(&parent);
        if matches!(kind, Kind::V2) {
            // Refused while the parent has processes of its own; then memory.max is missing, too, and that is seen below.
            let _ = std::fs::write(parent.join("cgroup.subtree_control"), "+memory");
        }
        let path = parent.join(format!("{PREFIX}{}-{name}", std::process::id()));
        std::fs::create_dir(&path).ok()?;
        let cgroup = Self { path, kind };
        cgroup.limit(limit).then_some(cgroup)
    }

    fn limit(&self, limit: u64) -> bool {
        let set = |file: &str, value: &str| {
            let path = self.path.join(file);
            path.exists() && std::fs::write(path, value).is_ok()
        };
        match self.kind {
            Kind::V1 => {
                let limited = set("memory.limit_in_bytes", &limit.to_string());
                // Absent where the kernel does not count swap.
                set("memory.memsw.limit_in_bytes", &limit.to_string());
                limited
            }
            Kind::V2 => {
                set("memory.swap.max", "0");
                set("memory.oom.group", "1");
                set("memory.max", &limit.to_string())
            }
        }
    }

    fn peak(&self) -> u64 {
        let file = match self.kind {
            Kind::V1 => "memory.max_usage_in_bytes",
            Kind::V2 => "memory.peak",
        };
        std::fs::read_to_string(self.path.join(file)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    /// How many processes the kernel has killed because the limit was reached.
    fn kills(&self) -> u64 {
        let file = match self.kind {
            Kind::V1 => "memory.oom_control",
            Kind::V2 => "memory.events",
        };
        let text = std::fs::read_to_string(self.path.join(file)).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Cgroup {
    #[expect(clippy::disallowed_methods, reason = "the kernel does not tell when the last process has left a cgroup")]
    fn drop(&mut self) {
        for _ in 0..REMOVE_ATTEMPTS {
            if std::fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(REMOVE_PERIOD);
        }
        tracing::warn!(path = %self.path.display(), "a cgroup cannot be removed; the next sandbox will try again");
    }
}

/// Removes the empty cgroups that sandboxes have left which were killed.
fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            // One that still has processes stays.
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

/// The directory of the memory cgroup that this process is in.
fn own_cgroup() -> Option<(PathBuf, Kind)> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let (path, kind) = own_cgroup_in(&text)?;
    let root = match kind {
        Kind::V1 => "/sys/fs/cgroup/memory",
        Kind::V2 => "/sys/fs/cgroup",
    };
    let directory = PathBuf::from(format!("{root}{path}"));
    // Inside a container, the path may be the host's, and the container's cgroup the root.
    Some((if directory.is_dir() { directory } else { PathBuf::from(root) }, kind))
}

/// From the text of /proc/self/cgroup: `ID:CONTROLLERS:PATH`, and `0::PATH` for version 2.
fn own_cgroup_in(text: &str) -> Option<(&str, Kind)> {
    let lines = || {
        text.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            Some((parts.next()?, parts.next()?, parts.next()?))
        })
    };
    let v1 = lines().find(|(_, controllers, _)| controllers.split(',').any(|one| one == "memory"));
    let v2 = || lines().find(|(id, controllers, _)| *id == "0" && controllers.is_empty());
    v1.map(|(_, _, path)| (path, Kind::V1)).or_else(|| v2().map(|(_, _, path)| (path, Kind::V2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_cgroup_the_processes_are_looked_at() {
        let memory = |limit| Memory { limit, cgroup: None, peak: 0, over: false };
        let mut roomy = memory(u64::MAX);
        assert!(!roomy.look(Pid::this()));
        assert!(roomy.peak_mb() > 0);
        assert!(memory(MIB).look(Pid::this()));
    }

    #[test]
    fn the_cgroup_is_found_in_either_version() {
        let mixed = "9:name=systemd:/a\n4:memory,x:/b:c\n0::/d\n";
        assert!(matches!(own_cgroup_in(mixed), Some(("/b:c", Kind::V1))));
        assert!(matches!(own_cgroup_in("1:cpu:/a\n0::/d\n"), Some(("/d", Kind::V2))));
        assert!(own_cgroup_in("1:cpu:/a\n").is_none());
    }
}
