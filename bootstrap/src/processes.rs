//! The processes below this one: who has ended, and the end of all that a run has left.

use std::collections::{HashMap, HashSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getpgrp, getpid};

use crate::clock;
use crate::wait::{self, Ended};

/// How long a round of kills waits for the killed to be gone before the next one looks for what was forked meanwhile.
const KILL_WAIT: Duration = Duration::from_millis(2);

/// How many processes are reaped, and how many signals read, before the caller looks at its clock again: those who make
/// more of them without end would hold it otherwise.
const PER_TURN: usize = 256;

/// The exit code of a program whose status cannot be known.
const LOST_EXIT_CODE: u8 = 255;
/// The signals that this process still takes: they report its own faults, and the kernel does not block them anyway.
const FAULTS: [Signal; 7] =
    [Signal::SIGABRT, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGSEGV, Signal::SIGSYS, Signal::SIGTRAP];

/// What is left of the processes below this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remains {
    /// How the leader ended, if it was reaped now.
    pub(crate) leader: Option<Ended>,
    /// False: some processes cannot be ended.
    pub(crate) clean: bool,
}

/// What a turn of reaping has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The leader has ended.
    Ended(Ended),
    /// The leader runs, and nobody else has ended.
    Done,
    /// The leader runs, and others may have ended that were not reaped yet: come again, without waiting.
    More,
}

/// All processes below this one, daemons that they leave behind included.
pub(crate) struct Processes {
    mask: SigSet,
    signals: SignalFd,
}

impl Processes {
    /// Adopts orphans and blocks all signals, of which it reads SIGCHLD: what a program sends to its parent does not end
    /// the parent.
    pub(crate) fn adopt() -> nix::Result<Self> {
        let mut mask = SigSet::all();
        FAULTS.into_iter().for_each(|fault| mask.remove(fault));
        mask.thread_block()?;
        catch(&mask);
        // Where this is refused, a daemonised process can outlive its run; it did so before.
        let _ = prctl::set_child_subreaper(true);
        // The token and the request id are in this process's memory, and the program is not to read them from there; a
        // program that runs as root would need this capability for it. Where it cannot be given up, it was never there.
        let _ = prctl::set_dumpable(false);
        let _ = caps::drop(None, CapSet::Bounding, Capability::CAP_SYS_PTRACE);
        keep_descriptors();
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { mask, signals })
    }

    /// Starts a program that has no signal blocked: it would inherit the mask. What comes meanwhile is caught.
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

    fn discard_signals(&self) {
        discard(|| matches!(self.signals.read_signal(), Ok(Some(_))));
    }

    /// Reaps orphans and says whether `leader` has ended. It stays a zombie, so that its process group's id
    /// cannot be somebody else's, until [`Processes::end_all`].
    pub(crate) fn reap_orphans(&self, leader: Pid) -> Turn {
        self.discard_signals();
        match wait::has_ended(leader) {
            Ok(Some((_, ended))) => Turn::Ended(ended),
            // SIGCHLD was ignored when this process was started, so the kernel has reaped the leader.
            Err(Errno::ECHILD) => Turn::Ended(Ended::Exited(LOST_EXIT_CODE)),
            Ok(None) | Err(_) => reap_turn(leader, wait::any_ended),
        }
    }

    /// Sends a signal to the process group of a leader that was not reaped.
    pub(crate) fn signal(&self, leader: Pid, signal: Signal) {
        if killpg(leader, signal).is_err() {
            // It is alone, in another group; or there is nobody any more.
            let _ = kill(leader, signal);
        }
    }

    /// Kills everything below this process, `leader`'s group first, and reaps it; gives up at `until`.
    ///
    /// Nothing is reaped before all are dead: a killed process keeps its place among the processes that this user may
    /// have, so a program that forks without end runs out of places.
    pub(crate) fn end_all(&self, leader: Option<Pid>, until: Instant) -> Remains {
        if let Some(leader) = leader {
            self.signal(leader, Signal::SIGKILL);
        } else if wait::any_ended() == Err(Errno::ECHILD) {
            // Orphans come to this process, so without a child there is no descendant.
            return Remains { leader: None, clean: true };
        }
        let mut ended = None;
        loop {
            let found = kill_descendants();
            if found == 0 {
                match reap_all(leader, &mut ended) {
                    Err(Errno::ECHILD) => return Remains { leader: ended, clean: true },
                    Ok(Turn::More) if clock::now() < until => continue,
                    // One is running, and not seen: /proc shows another PID namespace's processes, or none.
                    _ => {}
                }
            }
            if clock::now() >= until {
                return Remains { leader: ended, clean: false };
            }
            let timeout = PollTimeout::try_from(KILL_WAIT).unwrap_or(PollTimeout::ZERO);
            let _ = poll(&mut [PollFd::new(self.fd(), PollFlags::POLLIN)], timeout);
            self.discard_signals();
        }
    }
}

/// Reads until there is no more, or the turn is over: a program can queue real-time signals without end. What is left keeps
/// the descriptor readable.
fn discard(mut read: impl FnMut() -> bool) {
    for _ in 0..PER_TURN {
        if !read() {
            return;
        }
    }
}

/// Reaps orphans as `any_ended` names them, until the leader is named or the turn is over.
fn reap_turn(leader: Pid, mut any_ended: impl FnMut() -> nix::Result<Option<(Pid, Ended)>>) -> Turn {
    for _ in 0..PER_TURN {
        match any_ended() {
            Ok(Some((pid, ended))) if pid == leader => return Turn::Ended(ended),
            Ok(Some((orphan, _))) => {
                // It is this process's child and has ended, so nobody else can reap it.
                let _ = wait::reap(orphan);
            }
            Err(Errno::ECHILD) => return Turn::Ended(Ended::Exited(LOST_EXIT_CODE)),
            Ok(None) | Err(_) => return Turn::Done,
        }
    }
    Turn::More
}

/// Reaps what has ended, but no more than a turn's, and remembers the leader's end. `ECHILD`: nobody is left.
fn reap_all(leader: Option<Pid>, ended: &mut Option<Ended>) -> nix::Result<Turn> {
    for _ in 0..PER_TURN {
        let Some((pid, end)) = wait::any_ended()? else { return Ok(Turn::Done) };
        if Some(pid) == leader {
            *ended = Some(end);
        }
        // It is this process's child and has ended, so nobody else can reap it.
        let _ = wait::reap(pid);
    }
    Ok(Turn::More)
}

/// Gives these signals a handler, so that they end nothing while they are not blocked. A program starts with the default
/// again. SIGCHLD is harmless as it is, and SIGPIPE is ignored.
#[expect(unsafe_code, reason = "nix knows no real-time signals")]
fn catch(mask: &SigSet) {
    extern "C" fn ignore(_: libc::c_int) {}
    let handler = ignore as extern "C" fn(libc::c_int);
    let left_out = |signal| [libc::SIGCHLD, libc::SIGPIPE].contains(&signal);
    for signal in (1..=libc::SIGRTMAX()).filter(|signal| !left_out(*signal)) {
        // SAFETY: the mask is initialised, and the number is that of a signal.
        let caught = unsafe { libc::sigismember(mask.as_ref(), signal) } == 1;
        if caught {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed();
            // SAFETY: zeros are a sigaction with an empty mask; the handler touches nothing, so it may run at any moment.
            unsafe {
                (*action.as_mut_ptr()).sa_sigaction = handler as libc::sighandler_t;
                (*action.as_mut_ptr()).sa_flags = libc::SA_RESTART;
                // Refused for those that cannot be caught.
                libc::sigaction(signal, action.as_ptr(), std::ptr::null_mut());
            }
        }
    }
}

/// No program gets a file descriptor that this process was started with, such as one that Lambda's own processes write
/// log events to, but for the three standard ones.
fn keep_descriptors() {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    let open: Vec<i32> = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for number in open.into_iter().filter(|number| *number > 2) {
        // One was the directory's, and is closed again.
        let _ = fcntl(borrowed(number), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    }
}

#[expect(unsafe_code, reason = "descriptors that were inherited have no owner here")]
fn borrowed(number: i32) -> BorrowedFd<'static> {
    // SAFETY: the number is not -1, and it is used for a single call that changes a flag of whatever is open under it,
    // or fails if nothing is.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// A process as /proc shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    pid: i32,
    parent: i32,
    group: i32,
    /// It has ended, and its parent has not reaped it.
    zombie: bool,
}

/// Kills everything below this process that runs, and says how many that were.
///
/// The kernel kills a process group at once, with what it is about to fork, so groups come first; but only those that
/// have no member elsewhere.
fn kill_descendants() -> usize {
    let own = getpid();
    if own.as_raw() == 1 {
        // All others in this PID namespace are below its first process.
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    }
    let all = entries();
    let below = below(own.as_raw(), &all);
    let (ours, others): (Vec<&Entry>, Vec<&Entry>) = all.iter().partition(|entry| below.contains(&entry.pid));
    let mut foreign: HashSet<i32> = others.into_iter().map(|entry| entry.group).collect();
    foreign.extend([getpgrp().as_raw(), 0, 1]);
    let running = || ours.iter().filter(|entry| !entry.zombie);
    let groups: HashSet<i32> = running().map(|entry| entry.group).filter(|group| !foreign.contains(group)).collect();
    for group in groups {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    // Zombies, too: of a process whose first thread has ended, the others may run.
    for entry in &ours {
        let _ = kill(Pid::from_raw(entry.pid), Signal::SIGKILL);
    }
    running().count()
}

/// All processes. None if /proc shows another PID namespace's processes.
fn entries() -> Vec<Entry> {
    let own = getpid().to_string();
    let shows_us = std::fs::read_link("/proc/self").is_ok_and(|link| link.as_os_str() == own.as_str());
    let Some(entries) = shows_us.then(|| std::fs::read_dir("/proc").ok()).flatten() else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| entry_in(pid, &std::fs::read(format!("/proc/{pid}/stat")).ok()?)).collect()
}

/// What the text of /proc/PID/stat says. The name, in parentheses, may contain any byte.
fn entry_in(pid: i32, stat: &[u8]) -> Option<Entry> {
    let end_of_name = stat.iter().rposition(|byte| *byte == b')')?;
    let mut words = std::str::from_utf8(stat.get(end_of_name + 1..)?).ok()?.split_ascii_whitespace();
    let state = words.next()?;
    let (parent, group) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Entry { pid, parent, group, zombie: matches!(state, "Z" | "X") })
}

/// The descendants of `root`.
fn below(root: i32, all: &[Entry]) -> HashSet<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in all {
        children.entry(entry.parent).or_default().push(entry.pid);
    }
    let mut found = HashSet::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        let below = children.remove(&parent).unwrap_or_default();
        found.extend(&below);
        parents.extend(below);
    }
    found.remove(&root);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_found_at_any_depth() {
        let entry = |(pid, parent)| Entry { pid, parent, group: pid, zombie: false };
        let all = [(1, 0), (10, 1), (11, 10), (12, 11), (20, 1), (13, 10)].map(entry);
        assert_eq!(below(10, &all), HashSet::from([11, 12, 13]));
        assert!(below(12, &all).is_empty());
    }

    /// As if somebody made them faster than they are reaped.
    #[test]
    fn endless_orphans_end_the_turn_and_the_leader_is_found_among_them() {
        // Nobody's children, so that none is reaped.
        let (leader, orphan) = (Pid::from_raw(i32::MAX), Pid::from_raw(i32::MAX - 1));
        let mut named = 0;
        let endless = || {
            named += 1;
            Ok(Some((orphan, Ended::Exited(0))))
        };
        assert_eq!(reap_turn(leader, endless), Turn::More);
        assert_eq!(named, PER_TURN);
        let mut names = [orphan, orphan, leader].into_iter();
        let mut next = || Ok(names.next().map(|pid| (pid, Ended::Exited(3))));
        assert_eq!(reap_turn(leader, &mut next), Turn::Ended(Ended::Exited(3)));
        assert_eq!(reap_turn(leader, &mut next), Turn::Done);
    }

    #[test]
    fn endless_signals_end_the_turn() {
        let mut count = 0;
        discard(|| {
            count += 1;
            true
        });
        assert_eq!(count, PER_TURN);
        let mut few = [true, true, false, true].into_iter();
        discard(|| few.next().unwrap());
        assert_eq!(few.next(), Some(true));
    }

    #[test]
    fn process_name_may_contain_any_byte() {
        let found = Entry { pid: 42, parent: 7, group: 43, zombie: false };
        assert_eq!(entry_in(42, b"42 (a) R (b) S 7 43 42 0"), Some(found));
        assert_eq!(entry_in(42, b"42 (\xff\xfe) Z 7 43 42 0"), Some(Entry { zombie: true, ..found }));
        assert_eq!(entry_in(42, b"42 (a"), None);
    }
}
