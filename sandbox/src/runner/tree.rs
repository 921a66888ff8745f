//! Processes and their descendants, as /proc shows them.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often a tree is looked at again while it is being stopped: a fork that was under way adds a process.
const ROUNDS: usize = 20;

/// `root` and everything below it.
pub(super) fn tree(root: Pid) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return vec![root] };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let parents: Vec<(i32, i32)> = pids
        .filter_map(|pid: i32| Some((pid, parent_in(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect();
    let mut found = vec![root.as_raw()];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.into_iter().map(Pid::from_raw).collect()
}

/// Kills `root` and everything below it, and says what that was. All are stopped first, so that none can fork while
/// others are killed.
pub(super) fn kill_tree(root: Pid) -> Vec<Pid> {
    let mut stopped = Vec::new();
    for _ in 0..ROUNDS {
        let found = tree(root);
        if found == stopped {
            break;
        }
        for pid in found.iter().filter(|pid| !stopped.contains(pid)) {
            let _ = kill(*pid, Signal::SIGSTOP);
        }
        stopped = found;
    }
    for pid in &stopped {
        let _ = kill(*pid, Signal::SIGKILL);
    }
    stopped
}

/// False: it is gone, or a zombie that its parent has not looked after.
pub(super) fn is_running(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, after_name)| !after_name.starts_with(['Z', 'X']))
}

/// What a process holds in memory, in bytes; 0 if it is gone.
pub(super) fn resident_bytes(pid: Pid) -> u64 {
    let pages = std::fs::read_to_string(format!("/proc/{pid}/statm"))
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
    pages.unwrap_or(0) * u64::try_from(page).unwrap_or(4096)
}

/// The parent in the text of /proc/PID/stat. The name, in parentheses, may contain anything.
fn parent_in(stat: &str) -> Option<i32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_in_its_own_tree_and_its_parents() {
        let own = Pid::this();
        assert_eq!(tree(own).first(), Some(&own));
        assert!(tree(Pid::parent()).contains(&own));
        assert!(resident_bytes(own) > 0);
        assert!(is_running(own));
        assert!(!is_running(Pid::from_raw(i32::MAX)));
        assert_eq!(parent_in("42 (a) R (b) S 7 42 42 0"), Some(7));
    }
}
