//! Which requests a listener takes, judged by `Host` and `Origin` alone, before the path is looked at. PURE.
//!
//! A browser runs code of other sites on the machines and in the networks that the listeners are for, and nothing else
//! stands between such code and this API:
//! - A page of another site sends requests here (cross-site request forgery). A browser names the page's origin in
//!   `Origin`; programs that are no browsers send none. A foreign origin is refused on every path, with every method.
//! - A site makes its own name resolve to a loopback address (DNS rebinding); its requests are of the same origin then.
//!   On a loopback listener `Host` must therefore be an IP address, `localhost` or a name of `allowed_hosts`. So it must on
//!   a listener on all addresses, which is reached through loopback too, and through every other address of the machine;
//!   but not if it speaks TLS, as no browser takes its certificate for the name of a site. Listeners on one address
//!   beyond loopback are reached by names that are not known here.
//!
//! No answer has an `Access-Control-Allow-…` header, so no browser lets a page of another site read one.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName, Request, Version, header};

use super::error::ApiError;
use super::limits;
use crate::state::model::text::bounded;

/// The port of `http` where none is named.
const HTTP_PORT: u16 = 80;
/// The port of `https` where none is named.
const HTTPS_PORT: u16 = 443;

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entrance {
    /// A Unix socket: no browser reaches it, and clients name any host.
    Socket,
    /// A TCP listener.
    Tcp {
        /// Where it listens.
        reach: Reach,
        /// It speaks TLS.
        tls: bool,
    },
}

/// From where a TCP listener can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// From this machine.
    Loopback,
    /// Through every address of this machine, those of loopback included.
    AllAddresses,
    /// Through one address beyond loopback.
    OneAddress,
}

impl Entrance {
    /// Of a TCP listener.
    pub(super) fn tcp(address: SocketAddr, tls: bool) -> Self {
        let ip = address.ip().to_canonical();
        let reach = match (ip.is_loopback(), ip.is_unspecified()) {
            (true, _) => Reach::Loopback,
            (_, true) => Reach::AllAddresses,
            (false, false) => Reach::OneAddress,
        };
        Self::Tcp { reach, tls }
    }
}

/// Whether the request may be answered at all.
///
/// # Errors
/// 400 for a `Host` that is missing, given twice or malformed; 403 for a host or an origin that is foreign.
pub(super) fn check<B>(request: &Request<B>, entrance: Entrance, allowed_hosts: &[String]) -> Result<(), ApiError> {
    let host = match entrance {
        Entrance::Socket => host_on_socket(request.headers()),
        Entrance::Tcp { reach, tls } => {
            let host = host_on_tcp(request, reach == Reach::Loopback, tls)?;
            let is_guarded = reach == Reach::Loopback || (reach == Reach::AllAddresses && !tls);
            if let (true, Some(host)) = (is_guarded, host)
                && !host.is_of_this_machine(allowed_hosts)
            {
                return Err(ApiError::ForeignHost(shown(host.name)));
            }
            host
        }
    };
    check_origin(request.headers(), entrance, host)
}

/// A host of a request or an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Host<'a> {
    /// A name, an IPv4 address, or an IPv6 address without its brackets.
    name: &'a str,
    port: Option<u16>,
}

impl<'a> Host<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (name, rest) = match text.strip_prefix('[') {
            Some(inside) => inside.split_once(']').filter(|(address, _)| address.parse::<Ipv6Addr>().is_ok())?,
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let is_part_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if name.is_empty() || !(text.starts_with('[') || name.bytes().all(is_part_of_name)) {
            return None;
        }
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            _ => return None,
        };
        Some(Self { name, port })
    }

    /// Whether no site can make this name resolve to an address of this machine. An IP address resolves to nothing else: it
    /// is the connection's own address, or the one that was translated to it on the way.
    fn is_of_this_machine(self, allowed: &[String]) -> bool {
        self.name.eq_ignore_ascii_case("localhost")
            || self.name.parse::<IpAddr>().is_ok()
            || allowed.iter().any(|name| name.eq_ignore_ascii_case(self.name))
    }

    fn is_same(self, other: Self, default_port: u16) -> bool {
        self.name.eq_ignore_ascii_case(other.name)
            && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

/// Bad ones count as absent: only an origin is compared with it.
fn host_on_socket(headers: &HeaderMap) -> Option<Host<'_>> {
    single(headers, &header::HOST).ok().flatten().and_then(Host::parse)
}

/// The host of a request: RFC 9112 wants exactly one in HTTP/1.1. A target in absolute form names it once more.
fn host_on_tcp<B>(request: &Request<B>, loopback: bool, tls: bool) -> Result<Option<Host<'_>>, ApiError> {
    let given = single(request.headers(), &header::HOST).map_err(|_| bad("it must be given once, and be a name"))?;
    let Some(given) = given else {
        // Health checks of load balancers are sent in HTTP/1.0, without it.
        if !loopback && request.version() == Version::HTTP_10 {
            return Ok(None);
        }
        return Err(bad("it is missing"));
    };
    let host = Host::parse(given).ok_or_else(|| bad("it is no name or IP address, with or without a port"))?;
    let target = request.uri().authority().map(|authority| Host::parse(authority.as_str()));
    let default_port = if tls { HTTPS_PORT } else { HTTP_PORT };
    if target.is_some_and(|target| target.is_none_or(|target| !target.is_same(host, default_port))) {
        return Err(bad("the request's target names another host"));
    }
    Ok(Some(host))
}

fn bad(reason: &str) -> ApiError {
    ApiError::BadRequest(format!("invalid Host header: {reason}"))
}

fn check_origin(headers: &HeaderMap, entrance: Entrance, host: Option<Host<'_>>) -> Result<(), ApiError> {
    let foreign = |text: &str| Err(ApiError::ForeignOrigin(shown(text)));
    let origin = match single(headers, &header::ORIGIN) {
        Ok(None) => return Ok(()),
        Ok(Some(origin)) => origin,
        Err(_) => return foreign("(several, or no text)"),
    };
    let Some((scheme, rest)) = origin.split_once("://") else { return foreign(origin) };
    let (is_scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (!matches!(entrance, Entrance::Tcp { tls: true, .. }), HTTP_PORT),
        "https" => (!matches!(entrance, Entrance::Tcp { tls: false, .. }), HTTPS_PORT),
        _ => return foreign(origin),
    };
    let is_same = Host::parse(rest).zip(host).is_some_and(|(origin, host)| origin.is_same(host, default_port));
    if is_scheme && is_same { Ok(()) } else { foreign(origin) }
}

/// A header's value is given twice, or is no ASCII text.
struct NotSingle;

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, NotSingle> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| NotSingle),
        (Some(_), Some(_)) => Err(NotSingle),
    }
}

fn shown(text: &str) -> String {
    bounded(text, limits::MAX_SHOWN_HEADER_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: Entrance = Entrance::Tcp { reach: Reach::Loopback, tls: false };
    const EVERYWHERE: Entrance = Entrance::Tcp { reach: Reach::AllAddresses, tls: false };
    const EVERYWHERE_TLS: Entrance = Entrance::Tcp { reach: Reach::AllAddresses, tls: true };
    const NETWORK: Entrance = Entrance::Tcp { reach: Reach::OneAddress, tls: false };
    const TLS: Entrance = Entrance::Tcp { reach: Reach::OneAddress, tls: true };

    fn status(entrance: Entrance, target: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let allowed = ["docker.internal".to_owned()];
        let checked = check(&request.body(()).unwrap(), entrance, &allowed);
        checked.map_or_else(|error| error.status().as_u16(), |()| 200)
    }

    #[test]
    fn hosts_of_a_loopback_listener() {
        for (host, expected) in [
            ("localhost", 200),
            ("LOCALHOST:2375", 200),
            ("127.0.0.1:2375", 200),
            ("127.9.9.9", 200),
            ("192.0.2.7:80", 200),
            ("[::1]:2375", 200),
            ("[::1]", 200),
            ("docker.internal", 200),
            ("Docker.Internal:1", 200),
            ("localhost:", 200),
            ("evil.example", 403),
            ("evil.example:2375", 403),
            ("localhost.evil.example", 403),
            ("127.0.0.1.evil.example", 403),
            ("evil.localhost", 403),
            ("localhost.", 403),
            ("0x7f.1", 403),
            ("docker.internal.evil.example", 403),
            ("", 400),
            (":2375", 400),
            ("localhost:x", 400),
            ("localhost:99999", 400),
            ("localhost:1:2", 400),
            ("localhost@evil.example", 400),
            ("user@localhost", 400),
            ("localhost/evil", 400),
            ("localhost, evil.example", 400),
            ("[::1", 400),
            ("[evil.example]", 400),
            ("[::1]evil.example", 400),
            ("::1", 400),
            ("loc\u{e4}lhost", 400),
        ] {
            assert_eq!(status(LOOPBACK, "/_ping", &[("host", host)]), expected, "{host}");
            assert_eq!(status(EVERYWHERE, "/_ping", &[("host", host)]), expected, "{host}");
            let on_network = if expected == 403 { 200 } else { expected };
            assert_eq!(status(NETWORK, "/_ping", &[("host", host)]), on_network, "{host}");
            assert_eq!(status(EVERYWHERE_TLS, "/_ping", &[("host", host)]), on_network, "{host}");
            assert_eq!(status(Entrance::Socket, "/_ping", &[("host", host)]), 200, "{host}");
        }
        assert_eq!(status(LOOPBACK, "/_ping", &[]), 400);
        assert_eq!(status(EVERYWHERE, "/_ping", &[]), 400, "only HTTP/1.0 may leave it out, as health checks do");
        assert_eq!(status(LOOPBACK, "/_ping", &[("host", "localhost"), ("host", "localhost")]), 400);
        assert_eq!(status(Entrance::Socket, "/_ping", &[]), 200);
    }

    #[test]
    fn a_target_in_absolute_form_is_a_host_too() {
        for (target, host, expected) in [
            ("http://localhost:1/_ping", "localhost:1", 200),
            ("http://evil.example/_ping", "localhost", 400),
            ("http://localhost/_ping", "evil.example", 400),
            ("http://evil.example/_ping", "evil.example", 403),
            ("http://user@localhost/_ping", "localhost", 400),
        ] {
            assert_eq!(status(LOOPBACK, target, &[("host", host)]), expected, "{target} {host}");
        }
        assert_eq!(status(LOOPBACK, "http://localhost/_ping", &[]), 400);
    }

    #[test]
    fn origins() {
        for (entrance, host, origin, expected) in [
            (LOOPBACK, "localhost:2375", "http://localhost:2375", 200),
            (LOOPBACK, "localhost:2375", "HTTP://LOCALHOST:2375", 200),
            (LOOPBACK, "localhost:2375", "https://localhost:2375", 403),
            (LOOPBACK, "localhost:2375", "http://localhost", 403),
            (LOOPBACK, "localhost:2375", "http://127.0.0.1:2375", 403),
            (LOOPBACK, "localhost", "http://localhost:80", 200),
            (LOOPBACK, "[::1]:2375", "http://[::1]:2375", 200),
            (LOOPBACK, "localhost:2375", "null", 403),
            (LOOPBACK, "localhost:2375", "", 403),
            (LOOPBACK, "localhost:2375", "file://", 403),
            (LOOPBACK, "localhost:2375", "http://localhost:2375.evil.example", 403),
            (LOOPBACK, "localhost:2375", "http://localhost:2375@evil.example", 403),
            (LOOPBACK, "localhost:2375", "moz-extension://localhost:2375", 403),
            (NETWORK, "docker.example:2375", "http://docker.example:2375", 200),
            (NETWORK, "docker.example:2375", "https://evil.example", 403),
            (TLS, "docker.example", "https://docker.example:443", 200),
            (TLS, "docker.example:443", "https://docker.example", 200),
            (TLS, "docker.example", "http://docker.example", 403),
            (Entrance::Socket, "docker", "https://evil.example", 403),
            (Entrance::Socket, "docker", "null", 403),
            (Entrance::Socket, "docker", "https://docker", 200),
        ] {
            let given = [("host", host), ("origin", origin)];
            assert_eq!(status(entrance, "/x", &given), expected, "{host} {origin}");
        }
        assert_eq!(status(Entrance::Socket, "/x", &[("origin", "http://docker")]), 403, "there is no host");
        let twice = [("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://localhost")];
        assert_eq!(status(LOOPBACK, "/x", &twice), 403);
    }

    #[test]
    fn addresses_of_this_machine() {
        for (address, reach) in [
            ("127.0.0.1:1", Reach::Loopback),
            ("127.1.2.3:1", Reach::Loopback),
            ("[::1]:1", Reach::Loopback),
            ("[::ffff:127.0.0.1]:1", Reach::Loopback),
            ("0.0.0.0:1", Reach::AllAddresses),
            ("[::]:1", Reach::AllAddresses),
            ("[::ffff:0.0.0.0]:1", Reach::AllAddresses),
            ("10.0.0.1:1", Reach::OneAddress),
            ("[fe80::1]:1", Reach::OneAddress),
        ] {
            let entrance = Entrance::tcp(address.parse().unwrap(), false);
            assert_eq!(entrance, Entrance::Tcp { reach, tls: false }, "{address}");
        }
    }
}
