//! What an environment sees of files: the image, read-only, and in it a /tmp, a /dev and a /proc of its own.

use std::fs::File;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{chdir, pivot_root, sethostname};

use super::Plan;
use super::inside::words;

/// The devices that an environment has.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
/// What programs look for beside them.
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];
const DEVICE_SPACE: &str = "mode=0755,size=64k";

/// Makes the image this process's root. What cannot be mounted in it is told as missing.
///
/// The image's own /tmp, /dev and /proc are directories, and no link leads to `plan.machine_files`: the store sees to
/// that.
pub(super) fn enter_root(plan: &Plan, missing: &mut Vec<String>) -> Result<(), String> {
    let root = plan.root.as_path();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(|error| words("private mounts", error))?;
    bind(root, root).map_err(|error| words("the image's root", error))?;
    seal(root, MsFlags::MS_NOSUID | MsFlags::MS_NODEV).map_err(|error| words("a read-only root", error))?;
    let tmp = format!("mode=1777,size={}m", plan.tmp_mb);
    tmpfs(&root.join("tmp"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, &tmp).map_err(|error| words("/tmp", error))?;
    let mut note = |what: &str, result: nix::Result<()>| {
        if let Err(error) = result {
            missing.push(words(what, error));
        }
    };
    // While the machine's /proc is still there: without it, a user namespace gets none.
    note("/proc", proc(&root.join("proc")));
    note("/dev", devices(&root.join("dev")));
    for (file, place) in &plan.machine_files {
        let place = root.join(place.strip_prefix("/").unwrap_or(place));
        if file.exists() {
            note(&file.display().to_string(), bind(file, &place).and_then(|()| seal(&place, MsFlags::MS_NOSUID)));
        }
    }
    note("the host's name", sethostname(&plan.hostname));
    leave_for(root).map_err(|error| words("pivot_root", error))
}

/// Stacks the new root over the old one, and takes the old one away.
fn leave_for(root: &Path) -> nix::Result<()> {
    chdir(root)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")
}

fn bind(from: &Path, to: &Path) -> nix::Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
}

/// Makes a bind mount read-only. What the mount that it shows forbids stays forbidden: nobody in a user namespace may
/// change that.
fn seal(place: &Path, more: MsFlags) -> nix::Result<()> {
    let has = statvfs(place)?.flags();
    let kept = [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    ];
    let kept = kept.into_iter().filter(|(flag, _)| has.contains(*flag)).map(|(_, flag)| flag).collect::<MsFlags>();
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | kept | more;
    mount(None::<&str>, place, None::<&str>, flags, None::<&str>)
}

fn tmpfs(place: &Path, flags: MsFlags, options: &str) -> nix::Result<()> {
    mount(Some("tmpfs"), place, Some("tmpfs"), flags, Some(options))
}

fn proc(place: &Path) -> nix::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), place, Some("proc"), flags, None::<&str>)
}

fn devices(place: &Path) -> nix::Result<()> {
    tmpfs(place, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, DEVICE_SPACE)?;
    for device in DEVICES {
        let file = place.join(device);
        File::create(&file).map_err(errno)?;
        bind(&Path::new("/dev").join(device), &file)?;
    }
    for (name, target) in DEVICE_LINKS {
        symlink(target, place.join(name)).map_err(errno)?;
    }
    seal(place, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC)
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
