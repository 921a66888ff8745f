//! Namespaces, and the rights that are given up.

use std::fs;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, getegid, geteuid, setgroups, setresgid, setresuid};

use super::inside::words;

/// Who programs run as on Lambda, whatever user their image asks for.
const USER: u32 = 993;
const GROUP: u32 = 990;
/// Open files of a process, as on Lambda.
const MAX_FILES: u64 = 1_024;

/// The namespaces that this process has entered.
pub(super) struct Namespaces {
    pub(super) user_namespace: bool,
    /// Those that it could not enter, and why.
    pub(super) missing: Vec<String>,
}

/// Enters new namespaces; those of processes begin with the next fork. Without one of mounts nothing is possible.
pub(super) fn enter_namespaces() -> Result<Namespaces, String> {
    let user_namespace = match unshare(CloneFlags::CLONE_NEWNS) {
        Ok(()) => false,
        Err(as_it_is) => {
            enter_user_namespace().map_err(|error| {
                format!(
                    "this machine gives no mount namespace to this user ({}), nor a user namespace in which one could \
                     be had ({error}); run the sandbox as root, or allow user namespaces",
                    as_it_is.desc().to_lowercase()
                )
            })?;
            true
        }
    };
    let mut missing = Vec::new();
    for (flag, name) in [
        (CloneFlags::CLONE_NEWPID, "processes"),
        (CloneFlags::CLONE_NEWIPC, "shared memory and message queues"),
        (CloneFlags::CLONE_NEWUTS, "the host's name"),
    ] {
        if let Err(error) = unshare(flag) {
            missing.push(words(name, error));
        }
    }
    Ok(Namespaces { user_namespace, missing })
}

/// A namespace in which this user, and nobody else, is there: under the number that programs have on Lambda.
fn enter_user_namespace() -> Result<(), String> {
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|error| error.desc().to_lowercase())?;
    let write = |file: &str, text: String| fs::write(file, text).map_err(|error| format!("{file}: {error}"));
    // Without it, nobody could leave a group that keeps files from him.
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("{USER} {user} 1"))?;
    write("/proc/self/gid_map", format!("{GROUP} {group} 1"))
}

/// Becomes the user without rights. In a user namespace the next program has none anyway: only its root would.
pub(super) fn give_up(user_namespace: bool, missing: &mut Vec<String>) {
    umask(Mode::from_bits_truncate(0o022));
    let mut note = |what: &str, result: nix::Result<()>| {
        if let Err(error) = result {
            missing.push(words(what, error));
        }
    };
    note("the number of open files", limit_files());
    if !user_namespace {
        note("the user", become_user());
    }
    note("programs that change the user", prctl::set_no_new_privs());
}

fn become_user() -> nix::Result<()> {
    let (user, group) = (Uid::from_raw(USER), Gid::from_raw(GROUP));
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)
}

fn limit_files() -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let limit = hard.min(MAX_FILES);
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit)
        .or_else(|error| if error == Errno::EPERM { Ok(()) } else { Err(error) })
}
