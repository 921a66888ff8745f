//! Identifies the caller of a Runtime API. In AWS each environment has a loopback device of its own; here all share the machine's, so
//! a program that finds the port could take another function's invocations, or answer them. A call counts only if its socket is
//! held by a process of the environment.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::unistd::Pid;

use super::tree::tree;

/// How often it is looked for: a process that is just being adopted is in nobody's tree for a moment.
const LOOKS: usize = 5;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Sockets by IP version, as the kernel lists them.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// Whether the client's end of a connection is held by `root` or a process below it.
///
/// Processes that keep others from looking (the bootstrap does) may not be open to a sandbox without rights; then their
/// user must be that of the socket.
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

fn holds(root: Pid, client: SocketAddr, own: SocketAddr) -> bool {
    let Some(socket) = TABLES.iter().find_map(|table| find(&fs::read_to_string(table).ok()?, client, own)) else {
        return false;
    };
    let link = format!("socket:[{}]", socket.inode);
    tree(root).into_iter().any(|pid| match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(open) => {
            open.flatten().any(|open| fs::read_link(open.path()).is_ok_and(|to| to.as_os_str() == link.as_str()))
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => user_of(pid) == Some(socket.user),
        Err(_) => false,
    })
}

/// The user whose rights a process has.
fn user_of(pid: Pid) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    users.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// A socket as the kernel lists it.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    user: u32,
    inode: u64,
}

/// The socket that is connected from `client` to `own`.
fn find(table: &str, client: SocketAddr, own: SocketAddr) -> Option<Socket> {
    table.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (from, to) = (words.get(1)?, words.get(2)?);
        if !names(from, client) || !names(to, own) {
            return None;
        }
        Some(Socket { user: words.get(7)?.parse().ok()?, inode: words.get(9)?.parse().ok()? })
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
            assert_eq!(find(table, at(0x1f90), at(0x50)), Some(Socket { user: 993, inode: 77 }));
            assert_eq!(find(table, at(0x1f91), at(0x50)), Some(Socket { user: 0, inode: 78 }));
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
        assert!(user_of(Pid::this()) == Some(nix::unistd::geteuid().as_raw()));
    }
}
