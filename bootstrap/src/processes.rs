//! The processes below this one: who has ended, and the end of all that a run has left.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command};
use std::time::Duration;

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getpid};

/// How often left-over processes are killed anew: each round ends a generation that was forked meanwhile.
const KILL_ROUNDS: usize = 100;
/// How long a round waits for a killed process to be gone.
const KILL_WAIT: Duration = Duration::from_millis(20);

/// The exit code of a program whose status cannot be known.
const LOST_EXIT_CODE: u8 = 255;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Exited(u8),
    Signalled(i32),
}

/// All processes below this one, daemons that they leave behind included.
pub(crate) struct Processes {
    mask: SigSet,
    signals: SignalFd,
}

impl Processes {
    /// Adopts orphans and listens to SIGCHLD, which stays blocked here.
    pub(crate) fn adopt() -> nix::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block()?;
        // Where this is refused, a daemonised process can outlive its run; it did so before.
        let _ = prctl::set_child_subreaper(true);
        // The token is in this process's memory, and the program is not to read it from there; a program that runs as
        // root would need this capability for it. Where it cannot be given up, it was never there.
        let _ = prctl::set_dumpable(false);
        let _ = caps::drop(None, CapSet::Bounding, Capability::CAP_SYS_PTRACE);
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { mask, signals })
    }

    /// Starts a program that has no signal blocked: it would inherit the mask.
    ///
    /// A SIGCHLD of this moment is lost, so look for ended processes before waiting for the next.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.mask.thread_unblock()?;
        let child = command.spawn();
        self.mask.thread_block()?;
        child
    }

    /// Readable when a process may have ended.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }

    /// Reaps orphans and says whether `leader` has ended. It stays a zombie, so that its process group's id
    /// cannot be somebody else's, until [`Processes::end_all`].
    pub(crate) fn reap_orphans(&self, leader: Pid) -> Option<Ended> {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        loop {
            match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT) {
                Ok(status) if status.pid() == Some(leader) => return ended(status),
                Ok(status) => {
                    // None: everybody is still running.
                    let orphan = status.pid()?;
                    let _ = waitpid(orphan, Some(WaitPidFlag::WNOHANG));
                }
                Err(Errno::EINTR) => {}
                // SIGCHLD was ignored when this process was started, so the kernel has reaped the leader.
                Err(_) => return Some(Ended::Exited(LOST_EXIT_CODE)),
            }
        }
    }

    /// Sends a signal to the process group of a leader that was not reaped.
    pub(crate) fn signal(&self, leader: Pid, signal: Signal) {
        // There may be nobody any more.
        let _ = killpg(leader, signal);
        if signal == Signal::SIGKILL {
            // It may have moved to another group.
            let _ = kill(leader, signal);
        }
    }

    /// Kills everything below this process, `leader`'s group first, and reaps it.
    pub(crate) fn end_all(&self, leader: Pid) {
        self.signal(leader, Signal::SIGKILL);
        for _ in 0..KILL_ROUNDS {
            for pid in descendants() {
                let _ = kill(pid, Signal::SIGKILL);
            }
            if self.reap_all() {
                return;
            }
        }
    }

    /// False: some are still there, after a short wait.
    fn reap_all(&self) -> bool {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return true,
            }
        }
        let timeout = PollTimeout::try_from(KILL_WAIT).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut [PollFd::new(self.fd(), PollFlags::POLLIN)], timeout);
        while let Ok(Some(_)) = self.signals.read_signal() {}
        false
    }
}

fn ended(status: WaitStatus) -> Option<Ended> {
    match status {
        // The kernel gives the low eight bits of what the program returned.
        WaitStatus::Exited(_, code) => Some(Ended::Exited(u8::try_from(code & 0xff).unwrap_or(u8::MAX))),
        WaitStatus::Signaled(_, signal, _) => Some(Ended::Signalled(signal as i32)),
        _ => None,
    }
}

/// Everything below this process. Empty if /proc shows another PID namespace's processes, or none.
fn descendants() -> Vec<Pid> {
    let own = getpid();
    let shows_us = std::fs::read_link("/proc/self").is_ok_and(|link| link.as_os_str() == own.to_string().as_str());
    let Some(entries) = shows_us.then(|| std::fs::read_dir("/proc").ok()).flatten() else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let parents: Vec<(i32, i32)> = pids
        .filter_map(|pid: i32| Some((pid, parent_in(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect();
    below(own.as_raw(), &parents).into_iter().map(Pid::from_raw).collect()
}

/// The parent in the text of /proc/PID/stat. The name, in parentheses, may contain anything.
fn parent_in(stat: &str) -> Option<i32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The descendants of `root`, from pairs of a process and its parent.
fn below(root: i32, parents: &[(i32, i32)]) -> Vec<i32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        // A process is listed once and has one parent, so none is found twice.
        found.extend(parents.iter().filter(|(pid, of)| *of == parent && *pid != root).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_found_at_any_depth() {
        let parents = [(1, 0), (10, 1), (11, 10), (12, 11), (20, 1), (13, 10)];
        assert_eq!(below(10, &parents), [11, 13, 12]);
        assert!(below(12, &parents).is_empty());
    }

    #[test]
    fn a_name_may_look_like_anything() {
        assert_eq!(parent_in("42 (a) R (b) S 7 42 42 0"), Some(7));
        assert_eq!(parent_in("42 (a"), None);
    }
}
