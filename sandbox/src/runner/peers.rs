//! Decides who may call a Runtime API. In AWS each environment has a loopback device of its own; here all share the
//! machine's, so a program that finds the port could take another function's invocations, or answer them.
//!
//! A caller must prove that it belongs to the environment, in one of two ways:
//!
//! - Its socket is open in a process of the environment, as /proc shows it.
//! - It knows the environment's [`Secret`]. The bootstrap hides from other processes what it has open, and only a
//!   sandbox with CAP_SYS_PTRACE sees it nevertheless. Any other sandbox puts a secret into the address that it gives to
//!   the bootstrap, which keeps the address from the programs that it runs.
//!
//! That the user is the right one proves nothing: without root, all environments have the same.
//!
//! Caveat: where environments share /proc, a program of the same user can read the secret in the moment before the
//! bootstrap hides itself, as it could read the sandbox's own memory. PID namespaces prevent both.

use std::fs;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::unistd::Pid;
use sha2::{Digest as _, Sha256};

use super::tree::tree;

/// How often it is looked for: a process that is just being adopted is in nobody's tree for a moment.
const LOOKS: usize = 5;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Sockets by IP version, as the kernel lists them.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// The number of CAP_SYS_PTRACE.
const SYS_PTRACE: u32 = 19;
/// Random bytes of a secret: as many as nobody can try.
const SECRET_BYTES: usize = 16;

/// Whose calls are served.
pub(super) enum Callers {
    /// Everybody's.
    Anyone,
    /// Those of this process and of the processes below it.
    Inside(Pid),
    /// Those that present the secret.
    Knowing(Secret),
}

/// The first part of the paths under which one environment's bootstrap calls its Runtime API.
pub(super) struct Secret(String);

impl Secret {
    /// A new one.
    pub(super) fn random() -> io::Result<Self> {
        let mut bytes = [0; SECRET_BYTES];
        fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The address of a Runtime API to which paths are appended.
    pub(super) fn address(&self, listener: SocketAddr) -> String {
        format!("{listener}/{}", self.0)
    }

    /// What follows the secret in a path; `None`: it is missing or wrong.
    pub(super) fn strip<'a>(&self, path: &'a str) -> Option<&'a str> {
        let (first, _) = path.strip_prefix('/')?.split_once('/')?;
        // Digests are compared, so that the time of the comparison reveals nothing.
        (Sha256::digest(first) == Sha256::digest(&self.0)).then(|| path.get(first.len() + 1..))?
    }
}

/// Whether this thread may look into processes that keep others from looking.
pub(super) fn sees_hidden_processes() -> bool {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> SYS_PTRACE & 1 == 1)
}

/// Whether the client's end of a connection is held by `root` or a process below it.
pub(super) async fn is_inside(root: Pid, client: SocketAddr, own: SocketAddr) -> bool {
    for _ in 0..LOOKS {
        let look = tokio::task::spawn_blocking(move || holds(root, client, own)).await;
        if look.unwrap_or(false) {
            return true;
        }
        tokio::time::sleep(PAUSE).await;
    }
    false
}

/// What a process has open, and this one cannot see, proves nothing.
fn holds(root: Pid, client: SocketAddr, own: SocketAddr) -> bool {
    let Some(inode) = TABLES.iter().find_map(|table| find(&fs::read_to_string(table).ok()?, client, own)) else {
        return false;
    };
    let link = format!("socket:[{inode}]");
    tree(root).into_iter().any(|pid| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.into_iter().any(|open| fs::read_link(open.path()).is_ok_and(|to| to.as_os_str() == link.as_str()))
    })
}

/// The inode of the socket that is connected from `client` to `own`.
fn find(table: &str, client: SocketAddr, own: SocketAddr) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (from, to) = (words.get(1)?, words.get(2)?);
        if names(from, client) && names(to, own) { words.get(9)?.parse().ok() } else { None }
    })
}

/// Whether the kernel's `0100007F:1F90` is this address.
fn names(text: &str, address: SocketAddr) -> bool {
    let Some((ip, port)) = text.split_once(':') else { return false };
    let IpAddr::V4(v4) = address.ip().to_canonical() else { return false };
    let word = format!("{:08X}", u32::from_ne_bytes(v4.octets()));
    let mapped = format!("{:016X}{:08X}{word}", 0, u32::from_ne_bytes([0, 0, 0xff, 0xff]));
    u16::from_str_radix(port, 16) == Ok(address.port()) && (ip == word || ip == mapped)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn address_is_read_as_the_kernel_writes_it() {
        let table = "head\n   0: 0100007F:1F90 0100007F:0050 01 00000000:00000000 00:00000000 00000000  993        0 77 1\n\
                     1: 0000000000000000FFFF00000100007F:1F91 0000000000000000FFFF00000100007F:0050 01 0:0 0:0 0 0 0 78 1";
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        if cfg!(target_endian = "little") {
            assert_eq!(find(table, at(0x1f90), at(0x50)), Some(77));
            assert_eq!(find(table, at(0x1f91), at(0x50)), Some(78));
        }
        assert_eq!(find(table, at(0x1f92), at(0x50)), None);
    }

    #[test]
    fn socket_of_this_process_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap();
        let connection = TcpStream::connect(own).unwrap();
        let client = connection.local_addr().unwrap();
        assert!(holds(Pid::this(), client, own));
        let mapped = TcpStream::connect(("::ffff:127.0.0.1", own.port())).unwrap();
        assert!(holds(Pid::this(), SocketAddr::new(client.ip(), mapped.local_addr().unwrap().port()), own));
        assert!(!holds(Pid::from_raw(i32::MAX), client, own), "another process's");
        assert!(!holds(Pid::this(), own, client), "the other end");
    }

    #[test]
    fn path_without_its_secret_is_refused() {
        let (secret, other) = (Secret::random().unwrap(), Secret::random().unwrap());
        let path = |secret: &Secret| format!("/{}/2018-06-01/runtime/invocation/next", secret.0);
        assert_eq!(secret.strip(&path(&secret)), Some("/2018-06-01/runtime/invocation/next"));
        assert_eq!(secret.strip(&path(&other)), None);
        for path in ["", "/", "//", "/2018-06-01/runtime/invocation/next", &format!("/{}", secret.0)] {
            assert_eq!(secret.strip(path), None, "{path}");
        }
    }
}
