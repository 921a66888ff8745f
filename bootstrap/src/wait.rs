//! Who has ended, and how: the kernel's own words. nix's `WaitStatus` has no real-time signals, and takes a death by one
//! for a failure of the call.

use std::mem::MaybeUninit;

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Exited(u8),
    /// By this signal, 1 to 64.
    Signalled(i32),
}

/// A child that has ended and was not reaped yet, without reaping it; `None`: all are still running.
///
/// # Errors
/// `ECHILD`: there are no children.
pub(crate) fn any_ended() -> nix::Result<Option<(Pid, Ended)>> {
    waitid(libc::P_ALL, 0, libc::WNOWAIT)
}

/// Whether this child has ended, without reaping it.
///
/// # Errors
/// `ECHILD`: there is no such child.
pub(crate) fn has_ended(child: Pid) -> nix::Result<Option<(Pid, Ended)>> {
    let id = libc::id_t::try_from(child.as_raw()).map_err(|_| Errno::ECHILD)?;
    waitid(libc::P_PID, id, libc::WNOWAIT)
}

/// Reaps a child if it has ended.
///
/// # Errors
/// `ECHILD`: there is no such child.
pub(crate) fn reap(child: Pid) -> nix::Result<Option<(Pid, Ended)>> {
    let id = libc::id_t::try_from(child.as_raw()).map_err(|_| Errno::ECHILD)?;
    waitid(libc::P_PID, id, 0)
}

#[expect(unsafe_code, reason = "nix refuses the statuses of real-time signals")]
fn waitid(kind: libc::idtype_t, id: libc::id_t, flags: libc::c_int) -> nix::Result<Option<(Pid, Ended)>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    loop {
        // SAFETY: the pointer is to a whole siginfo_t that lives until the call returns, and the kernel writes no more.
        let result = unsafe { libc::waitid(kind, id, info.as_mut_ptr(), libc::WEXITED | libc::WNOHANG | flags) };
        match Errno::result(result) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    // SAFETY: all bytes are initialised, and every pattern of bits is a siginfo_t: it consists of integers and pointers.
    let info = unsafe { info.assume_init() };
    // SAFETY: these are the members that waitid fills; if nobody has ended, they are zero as above.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let ended = match info.si_code {
        // The kernel gives the low eight bits of what the program returned.
        libc::CLD_EXITED => Ended::Exited(u8::try_from(status & 0xff).unwrap_or(u8::MAX)),
        // CLD_KILLED, CLD_DUMPED: without a core dump and with one.
        _ => Ended::Signalled(status),
    };
    Ok(Some((Pid::from_raw(pid), ended)))
}
