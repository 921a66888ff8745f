//! Starts a process with namespaces of its own.
//!
//! A new mount namespace with a /tmp of its own (in memory, as large as the function asks for), and a new PID namespace whose
//! first process is the bootstrap: when it ends, for whatever reason, the kernel kills everything else in it.
//! Where that is not possible, there is a directory named by TMPDIR instead.
//!
//! Namespaces belong to a thread until a process is forked, so each environment has a thread of its own, which
//! lives as long as the environment: the kernel kills the process when the thread that started it is gone.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::setsid;

/// The private directory.
const TMP: &str = "/tmp";

/// Gives the calling thread, and what it starts from now on, namespaces of its own.
pub(super) fn enter_namespaces(tmp_mb: u32) -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = format!("mode=1777,size={tmp_mb}m");
    mount(Some("tmpfs"), TMP, Some("tmpfs"), flags, Some(options.as_str()))
}

/// The program as an open file: its path may lead into the /tmp that is about to be hidden.
pub(super) struct Executable {
    path: PathBuf,
    hidden: Option<File>,
}

impl Executable {
    pub(super) fn open(path: &OsStr) -> io::Result<Self> {
        // Not the canonical path: a program may look at the name by which it was called.
        let path = std::path::absolute(path)?;
        let real = std::fs::canonicalize(&path)?;
        let is_hidden = path.starts_with(TMP) || real.starts_with(TMP);
        let hidden = if is_hidden { Some(File::open(&real)?) } else { None };
        Ok(Self { path, hidden })
    }

    /// To be run while this is open.
    pub(super) fn command(&self) -> Command {
        match &self.hidden {
            Some(file) => {
                let mut command = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()));
                command.arg0(&self.path);
                command
            }
            None => Command::new(&self.path),
        }
    }
}

/// Starts the command in a session of its own, counted by the cgroup behind `entrance`. It is killed when the calling thread ends.
#[expect(unsafe_code, reason = "only a forked process can mount its own /proc and enter its cgroup before it runs")]
pub(super) fn spawn(command: &mut Command, entrance: Option<File>, namespaces: bool) -> io::Result<Child> {
    let prepare = move || {
        if let Some(entrance) = &entrance {
            nix::unistd::write(entrance, b"0")?;
        }
        set_pdeathsig(Signal::SIGKILL)?;
        // What it starts is known by its session, if it ends first.
        setsid()?;
        if namespaces {
            // The thread's /proc shows the processes of the namespace outside.
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)?;
        }
        Ok(())
    };
    // SAFETY: the closure makes four system calls with short constant arguments, for which nix uses the stack; it
    // neither allocates nor takes a lock, so it may run in the child of a process that has other threads.
    unsafe { command.pre_exec(prepare) }.spawn()
}
