//! Processes and their descendants, as /proc shows them.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often a tree is looked at again while it is being stopped: a fork that was under way adds a process.
const ROUNDS: usize = 20;

fn pids() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The text of /proc/PID/stat. The process's name in it may be any bytes.
fn stat(pid: i32) -> Option<String> {
    Some(String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/stat")).ok()?).into_owned())
}

/// `root` and everything below it.
pub(super) fn tree(root: Pid) -> Vec<Pid> {
    let parents: Vec<(i32, i32)> = pids().filter_map(|pid| Some((pid, parent_in(&stat(pid)?)?))).collect();
    let mut found = vec![root.as_raw()];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.into_iter().map(Pid::from_raw).collect()
}

/// Kills `root` and everything below it, and says what that was.
pub(super) fn kill_tree(root: Pid) -> Vec<Pid> {
    kill_all(|| tree(root))
}

/// Kills what a process has left that has ended and was not reaped: its children are somebody else's by then. They are
/// known by the session that it has begun, or by this entry of their environment; and so are those below them.
///
/// Caveat: a process that has begun a session of its own and was started with another environment is not found. Only a
/// PID namespace holds such a one.
pub(super) fn kill_left(leader: Pid, mark: Option<&[u8]>) -> Vec<Pid> {
    kill_all(|| {
        let marked = |pid: i32| {
            let environ = mark.and_then(|_| std::fs::read(format!("/proc/{pid}/environ")).ok()).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|entry| Some(entry) == mark)
        };
        let of_session = |pid: i32| session_of(pid) == Some(leader.as_raw());
        let mut found: Vec<Pid> = pids().filter(|pid| of_session(*pid) || marked(*pid)).map(Pid::from_raw).collect();
        for root in found.clone() {
            found.extend(tree(root));
        }
        // The sandbox itself may have been started with this entry.
        found.retain(|pid| *pid != leader && *pid != Pid::this());
        found.sort_unstable();
        found.dedup();
        found
    })
}

/// All are stopped first, so that none can fork while others are killed.
fn kill_all(find: impl Fn() -> Vec<Pid>) -> Vec<Pid> {
    let mut stopped = Vec::new();
    for _ in 0..ROUNDS {
        let found = find();
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
    let stat = stat(pid.as_raw()).unwrap_or_default();
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

/// The parent in the text of /proc/PID/stat.
fn parent_in(stat: &str) -> Option<i32> {
    word_in(stat, 1)
}

fn session_of(pid: i32) -> Option<i32> {
    word_in(&stat(pid)?, 3)
}

/// A number after the name, which is in parentheses and may contain anything.
fn word_in(stat: &str, index: usize) -> Option<i32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(index)?.parse().ok()
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
