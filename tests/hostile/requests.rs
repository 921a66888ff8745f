//! Requests of a hostile client.

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde_json::json;
use sockerless_lambda::api::{Endpoint, MAX_BODY_BYTES, MAX_JSON_DEPTH, endpoints};

use super::body;
use super::client::{Raw, Then, Via};
use super::output::NUMBERS;
use super::rng::Rng;

/// More than a body may have, in bytes.
const LARGE_BODY_BYTES: usize = MAX_BODY_BYTES + 1_024 * 1_024;
/// One body in so many of those that may be large is.
const LARGE_ONE_IN: usize = 20;
/// More than the head of a request may have, in bytes.
const LARGE_HEAD_BYTES: usize = 100 * 1_024;
const CREATE: &str = "/containers/create";

/// The kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Deep,
    Large,
    WrongTypes,
    TwiceThere,
    OddNumbers,
    OddLabels,
    OddName,
    Headers,
    LargeHead,
    Origin,
    Host,
    Method,
    Chunked,
    Cut,
    Encoded,
    NotUtf8,
    Path,
    Query,
    Upgrade,
    Garbage,
    Vanishes,
    KeepAlive,
    Pipelined,
    Metrics,
    Route,
    OwnContainer,
}

/// All of them.
pub(crate) const KINDS: [Kind; 26] = [
    Kind::Deep,
    Kind::Large,
    Kind::WrongTypes,
    Kind::TwiceThere,
    Kind::OddNumbers,
    Kind::OddLabels,
    Kind::OddName,
    Kind::Headers,
    Kind::LargeHead,
    Kind::Origin,
    Kind::Host,
    Kind::Method,
    Kind::Chunked,
    Kind::Cut,
    Kind::Encoded,
    Kind::NotUtf8,
    Kind::Path,
    Kind::Query,
    Kind::Upgrade,
    Kind::Garbage,
    Kind::Vanishes,
    Kind::KeepAlive,
    Kind::Pipelined,
    Kind::Metrics,
    Kind::Route,
    Kind::OwnContainer,
];

/// A request that follows from its kind and seed.
#[derive(Clone, Debug)]
pub(crate) struct Attack {
    pub(crate) kind: Kind,
    pub(crate) seed: u64,
    /// The container that it may name.
    pub(crate) of: String,
}

/// What a request is made of.
struct Parts {
    via: Via,
    method: String,
    target: String,
    host: String,
    headers: String,
    body: Vec<u8>,
    /// `None`: the length of the body.
    length: Option<String>,
    then: Then,
    demands: Option<u16>,
}

impl Parts {
    fn post(target: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self {
            via: Via::Unix,
            method: "POST".to_owned(),
            target: target.into(),
            host: "localhost".to_owned(),
            headers: "Content-Type: application/json\r\n".to_owned(),
            body: body.into(),
            length: None,
            then: Then::Read,
            demands: None,
        }
    }

    fn of(method: &str, target: impl Into<String>) -> Self {
        Self { method: method.to_owned(), ..Self::post(target, "") }
    }

    fn raw(self) -> Raw {
        let Self { via, method, target, host, headers, body, length, then, demands } = self;
        let length = length.unwrap_or_else(|| format!("Content-Length: {}\r\n", body.len()));
        let head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{length}{headers}\r\n");
        Raw { via, bytes: [head.as_bytes(), &body].concat(), then, demands }
    }
}

impl Attack {
    /// The request.
    pub(crate) fn raw(&self) -> Raw {
        let mut rng = Rng::stream(self.seed, 8);
        let rng = &mut rng;
        let parts = match self.kind {
            Kind::Garbage => return garbage(rng),
            Kind::KeepAlive | Kind::Pipelined => return self.several(rng),
            Kind::Metrics => {
                let path = *rng.pick(&["/metrics", "/healthz", "/readyz", "/ui", "/ui/state", CREATE, "/info", "/%00"]);
                Parts { via: Via::Metrics, ..Parts::of(word(rng, &["GET", "POST", "HEAD", "BREW"]), path) }
            }
            Kind::Deep => deep(rng),
            Kind::Large => large(rng, &self.of),
            Kind::WrongTypes => Parts::post(self.create(rng), body::object(rng, body::MEMBERS, 3)),
            Kind::TwiceThere => twice_there(rng, &self.of),
            Kind::OddNumbers => odd_numbers(rng, &self.of),
            Kind::OddLabels => {
                let labels = body::labels(rng);
                Parts::post(self.create(rng), format!("{{\"Image\":\"host\",\"Labels\":{labels}}}"))
            }
            Kind::OddName => odd_name(rng),
            Kind::Headers | Kind::LargeHead | Kind::Origin | Kind::Host | Kind::Upgrade => self.head(rng),
            Kind::Method => Parts::of(word(rng, &["BREW", "get", "PATCH", "TRACE", "OPTIONS", "HEAD", "X"]), path(rng)),
            Kind::Chunked | Kind::Cut | Kind::Vanishes => self.broken(rng),
            Kind::Encoded => encoded(rng),
            Kind::NotUtf8 => {
                let bytes: Vec<u8> = (0..rng.below(300)).map(|_| u8::try_from(rng.below(256)).unwrap()).collect();
                Parts::post(CREATE, bytes)
            }
            Kind::Path => Parts::of(word(rng, &["GET", "POST", "DELETE"]), path(rng)),
            Kind::Query => Parts::of("GET", query(rng)),
            Kind::Route => route(rng, &self.of),
            Kind::OwnContainer => own_container(rng, &self.of),
        };
        parts.raw()
    }

    fn create(&self, rng: &mut Rng) -> String {
        if rng.one_in(2) { CREATE.to_owned() } else { format!("{CREATE}?name={}-{}", self.of, rng.below(10)) }
    }

    fn valid_body(&self) -> String {
        json!({ "Image": "host", "Cmd": ["true"], "Labels": { "of": self.of } }).to_string()
    }

    /// Several requests on one connection, some of them wrong. Each is sent before the answer to the one before has come.
    fn several(&self, rng: &mut Rng) -> Raw {
        let via = *rng.pick(&[Via::Unix, Via::Tcp, Via::Tls]);
        let count = 2 + rng.below(20);
        let is_plain = self.kind == Kind::Pipelined;
        let mut bytes = Vec::new();
        for no in 1..=count {
            let connection = if no == count { "close" } else { "keep-alive" };
            let head = |method: &str, path: &str, length: usize| {
                format!(
                    "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\
                     Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
                )
            };
            if is_plain || rng.one_in(2) {
                bytes.extend(head("GET", "/_ping", 0).into_bytes());
            } else {
                let body = if rng.one_in(2) { self.valid_body() } else { body::object(rng, body::MEMBERS, 2) };
                bytes.extend(head("POST", &self.create(rng), body.len()).into_bytes());
                bytes.extend(body.into_bytes());
            }
        }
        Raw { via, bytes, then: Then::Answers, demands: is_plain.then_some(200) }
    }

    /// Requests that are odd in their heads only.
    fn head(&self, rng: &mut Rng) -> Parts {
        let mut parts = Parts::post(self.create(rng), self.valid_body());
        if rng.one_in(2) {
            parts = Parts::of("GET", "/containers/json?all=1");
        }
        match self.kind {
            Kind::Origin => {
                let origin =
                    *rng.pick(&["https://evil.example", "null", "http://localhost", "", "http://localhost:1\u{e9}"]);
                let kind = *rng.pick(&["text/plain", "application/x-www-form-urlencoded", "application/json"]);
                parts.headers = format!("Origin: {origin}\r\nContent-Type: {kind}\r\n");
                parts.via = *rng.pick(&[Via::Tcp, Via::Tls, Via::Unix, Via::Metrics]);
                let is_own = origin == "http://localhost" && parts.via != Via::Tls;
                parts.demands = (!is_own).then_some(403);
            }
            Kind::Host => {
                let hosts = [
                    ("evil.example", Some(403)),
                    ("", Some(400)),
                    ("localhost:99999", Some(400)),
                    ("[::1", Some(400)),
                    ("127.0.0.1", None),
                    ("a b", Some(400)),
                    ("x\u{0}y", Some(400)),
                    ("@", Some(400)),
                    ("evil.example:80", Some(403)),
                ];
                let (host, demands) = *rng.pick(&hosts);
                parts.host = host.to_owned();
                parts.via = *rng.pick(&[Via::Tcp, Via::Tls, Via::Unix, Via::Metrics]);
                // No browser reaches the socket.
                parts.demands = demands.filter(|_| parts.via != Via::Unix);
            }
            Kind::Upgrade => {
                let to = *rng.pick(&["tcp", "websocket", "h2c", "", "tcp, tcp"]);
                parts.target = format!("/containers/{}/attach?stream=1&stdin=1&stdout=1&logs=1", self.of);
                parts.headers = format!("Connection: Upgrade\r\nUpgrade: {to}\r\nHTTP2-Settings: x\r\n");
            }
            Kind::LargeHead => {
                let value = "h".repeat(LARGE_HEAD_BYTES / 10);
                parts.headers = (0..10 + rng.below(4)).map(|no| format!("X-{no}: {value}\r\n")).collect();
            }
            _ => parts.headers = headers(rng),
        }
        parts
    }

    /// Requests whose bodies do not end as they say.
    fn broken(&self, rng: &mut Rng) -> Parts {
        let body = self.valid_body();
        let post = Parts::post(self.create(rng), body.clone());
        let chunked = Some("Transfer-Encoding: chunked\r\n".to_owned());
        match (self.kind, rng.below(5)) {
            (Kind::Vanishes, _) => Parts { then: Then::Vanish, ..post },
            (Kind::Cut, 0) => {
                Parts { length: Some(format!("Content-Length: {}\r\n", body.len() + 9)), then: Then::Close, ..post }
            }
            (Kind::Cut, 1) => Parts { length: Some("Content-Length: 18446744073709551616\r\n".to_owned()), ..post },
            (Kind::Cut, 2) => Parts { length: Some("Content-Length: -1\r\n".to_owned()), ..post },
            (Kind::Cut, 3) => {
                let both = format!("Content-Length: 3\r\nContent-Length: {}\r\n", body.len());
                Parts { length: Some(both), then: Then::Close, ..post }
            }
            (Kind::Cut, _) => Parts { length: Some(format!("Content-Length: {}\r\n", body.len() + 9)), ..post },
            (_, 0) => {
                Parts { length: chunked, body: format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into(), ..post }
            }
            (_, 1) => Parts {
                length: chunked,
                body: format!("{:x}\r\n{body}", body.len() + 9).into(),
                then: Then::Close,
                ..post
            },
            (_, 2) => Parts { length: chunked, body: b"ffffffffffffffffff\r\nx".to_vec(), then: Then::Close, ..post },
            (_, 3) => Parts {
                length: chunked,
                body: format!("{:x};{}\r\n{body}\r\n0\r\n\r\n", body.len(), "e".repeat(20_000)).into(),
                ..post
            },
            (_, _) => {
                let both = format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", body.len());
                Parts { length: Some(both), then: Then::Close, ..post }
            }
        }
    }
}

/// Around what a reader of JSON takes, and far beyond.
fn deep(rng: &mut Rng) -> Parts {
    let depth = match rng.below(4) {
        0 => 1 + rng.below(40),
        1..=2 => 120 + rng.below(11),
        _ => 1 + rng.below(100_000),
    };
    let nested = body::nested(rng, depth);
    let (around, body) = match rng.below(5) {
        0 => (2, format!("{{\"Image\":\"host\",\"Healthcheck\":{{\"X\":{nested}}}}}")),
        1 => (2, format!("{{\"Image\":\"host\",\"HostConfig\":{{\"X\":{nested}}}}}")),
        2 => (1, format!("{{\"Image\":\"host\",\"X\":{nested}}}")),
        3 => {
            (3, format!("{{\"Image\":\"host\",\"NetworkingConfig\":{{\"EndpointsConfig\":{{\"bridge\":{nested}}}}}}}"))
        }
        _ => (0, nested),
    };
    let target = *rng.pick(&[CREATE, CREATE, CREATE, "/internal/v1/containers/create", "/auth", "/networks/create"]);
    let demands = (target == CREATE && depth + around > MAX_JSON_DEPTH).then_some(400);
    Parts { demands, ..Parts::post(target, body) }
}

fn large(rng: &mut Rng, of: &str) -> Parts {
    let bytes = if rng.one_in(LARGE_ONE_IN) { LARGE_BODY_BYTES - rng.below(2) * 1_200_000 } else { 80_000 };
    let fill = rng.pick(&["x", "\\u0000", "\\n"]).repeat(bytes / 6);
    let member = *rng.pick(&["Cmd", "Env", "Labels", "WorkingDir", "X"]);
    let value = match member {
        "Cmd" | "Env" => format!("[\"A={fill}\"]"),
        "Labels" => format!("{{\"a\":\"{fill}\"}}"),
        _ => format!("\"{fill}\""),
    };
    Parts::post(format!("{CREATE}?name={of}-large"), format!("{{\"Image\":\"host\",\"{member}\":{value}}}"))
}

fn twice_there(rng: &mut Rng, of: &str) -> Parts {
    let (one, two) = (body::value(rng, 2), body::value(rng, 2));
    let member = *rng.pick(body::MEMBERS);
    let body =
        format!("{{\"Image\":\"host\",\"{member}\":{one},\"{member}\":{two},\"Image\":\"host\",\"image\":\"x\"}}");
    Parts::post(format!("{CREATE}?name={of}-twice"), body)
}

fn odd_numbers(rng: &mut Rng, of: &str) -> Parts {
    let (name, number) = (rng.below(10), body::number(rng));
    let host = ["Memory", "NanoCpus", "CpuShares", "ShmSize", "MemorySwap", "PidsLimit"];
    let body = match rng.below(3) {
        0 => format!("{{\"Image\":\"host\",\"HostConfig\":{{\"{}\":{number}}}}}", rng.pick(&host)),
        1 => format!("{{\"Image\":\"host\",\"StopTimeout\":{number}}}"),
        _ => format!(
            "{{\"Image\":\"host\",\"HostConfig\":{{\"RestartPolicy\":{{\"Name\":\"on-failure\",\"MaximumRetryCount\":{number}}}}}}}"
        ),
    };
    Parts::post(format!("{CREATE}?name={of}-n{name}"), body)
}

fn odd_name(rng: &mut Rng) -> Parts {
    let names =
        ["", "/", "a/b", "..", "\u{0}", "\u{1f433}", "a b", "-x", "A", "sha256:00", "h\r\nX: y", "_", "\u{feff}x"];
    let name = if rng.one_in(4) { "n".repeat(1 + rng.below(5_000)) } else { (*rng.pick(&names)).to_owned() };
    Parts::post(format!("{CREATE}?name={}", escaped(&name)), json!({ "Image": "host" }).to_string())
}

fn headers(rng: &mut Rng) -> String {
    let lines = [
        "X-Registry-Auth: !!\r\n",
        "X-Registry-Auth: eyJ1c2VybmFtZSI6MX0=\r\n",
        "X-Request-Id: \u{e9}\u{7f}\r\n",
        "Traceparent: 00-00000000000000000000000000000000-0000000000000000-00\r\n",
        "Expect: 100-continue\r\n",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/json; charset=utf-16\r\n",
        "Content-Encoding: gzip\r\n",
        "Range: bytes=0-\r\n",
        "If-None-Match: *\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Authorization: Basic eA==\r\n",
        "X-Forwarded-For: 127.0.0.1\r\n",
        "Accept: application/vnd.docker.multiplexed-stream\r\n",
    ];
    let many = if rng.one_in(6) { "X: y\r\n".repeat(200) } else { String::new() };
    (0..rng.below(4)).map(|_| *rng.pick(&lines)).collect::<String>() + &many
}

fn encoded(rng: &mut Rng) -> Parts {
    let utf16: Vec<u8> = "{\"Image\":\"host\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let bodies: [Vec<u8>; 4] = [
        utf16,
        b"\x1f\x8b\x08\x00\x00".to_vec(),
        "\u{feff}{\"Image\":\"host\"}".into(),
        b"{\"Image\":\"\\ud800\"}".to_vec(),
    ];
    let encoding = *rng.pick(&["gzip", "deflate", "identity", "br, gzip"]);
    let headers = format!("Content-Type: application/json\r\nContent-Encoding: {encoding}\r\n");
    Parts { headers, ..Parts::post(CREATE, rng.pick(&bodies).clone()) }
}

fn garbage(rng: &mut Rng) -> Raw {
    let heads: [&[u8]; 7] = [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /info HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET http://evil.example/info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ];
    let mut bytes = rng.pick(&heads).to_vec();
    bytes.extend((0..rng.below(100)).map(|_| u8::try_from(rng.below(256)).unwrap()));
    Raw { via: *rng.pick(&[Via::Unix, Via::Tcp, Via::Tls]), bytes, then: Then::Close, demands: None }
}

fn word<'a>(rng: &mut Rng, of: &[&'a str]) -> &'a str {
    rng.pick::<&str>(of)
}

fn escaped(text: &str) -> String {
    percent_encode(text.as_bytes(), NON_ALPHANUMERIC).to_string()
}

fn path(rng: &mut Rng) -> String {
    let parts = [
        "containers",
        "images",
        "%2E%2E",
        "..",
        "%00",
        "%ff%fe",
        "%",
        "%zz",
        "json",
        "v1.51",
        "v9.99",
        "internal",
        "v1",
        "",
        "{id}",
        "a%2Fb:1",
        "%F0%9F%90%B3",
        "volumes",
        "networks",
        "exec",
        "build",
        "swarm",
        "_ping",
    ];
    let mut path: String = (0..1 + rng.below(5)).map(|_| format!("/{}", rng.pick(&parts))).collect();
    if rng.one_in(10) {
        path.push_str(&"p".repeat(9_000));
    }
    path
}

fn query(rng: &mut Rng) -> String {
    let keys =
        ["all", "limit", "since", "until", "before", "filters", "tail", "size", "name", "signal", "t", "fromImage"];
    let filters = [
        "{\"status\":[\"x\"]}",
        "{\"until\":[\"1\",\"2\"]}",
        "{\"label\":{\"a\":true}}",
        "{",
        "[]",
        "{\"name\":[\"(\"]}",
        "{\"name\":[\"a{1000}{1000}\"]}",
        "{\"before\":[\"nobody\"]}",
        "{\"id\":[\"\"]}",
        "{\"exited\":[\"1e999\"]}",
        "null",
    ];
    let target = *rng.pick(&[
        "/containers/json",
        "/images/json",
        "/events?since=0&until=1",
        "/internal/v1/containers",
        "/networks",
        "/volumes",
        "/info",
        "/system/df",
    ]);
    let pairs: Vec<String> = (0..1 + rng.below(4))
        .map(|_| {
            let key = *rng.pick(&keys);
            let value = if key == "filters" { escaped(word(rng, &filters)) } else { escaped(word(rng, NUMBERS)) };
            format!("{key}={value}")
        })
        .collect();
    let mark = if target.contains('?') { '&' } else { '?' };
    format!("{target}{mark}{}", pairs.join("&"))
}

/// Any line of the daemon's own table, about a container of the same tenant. Not the prunes: they reach everybody's.
fn route(rng: &mut Rng, of: &str) -> Parts {
    let all: Vec<Endpoint> = endpoints().filter(|endpoint| !endpoint.template.ends_with("/prune")).collect();
    let endpoint = rng.pick(&all);
    let own = [of, of, "nobody", "host", "%00", "json", "%ff"];
    let filled: Vec<String> = endpoint
        .template
        .split('/')
        .map(|part| if part.starts_with('{') { (*rng.pick(&own)).to_owned() } else { part.to_owned() })
        .collect();
    let prefix = if endpoint.internal { "/internal/v1" } else { *rng.pick(&["", "/v1.24", "/v1.41", "/v1.51"]) };
    let method = endpoint.method.unwrap_or("GET");
    let body = if method == "GET" || rng.one_in(3) { String::new() } else { body::object(rng, body::MEMBERS, 2) };
    let number = escaped(word(rng, NUMBERS));
    let queries =
        [String::new(), format!("?t={number}"), format!("?signal={number}&force=1"), "?follow=1&stdout=1".to_owned()];
    Parts {
        method: method.to_owned(),
        ..Parts::post(format!("{prefix}{}{}", filled.join("/"), rng.pick(&queries)), body)
    }
}

/// What a client may do with its own container, at any time.
fn own_container(rng: &mut Rng, of: &str) -> Parts {
    let acts = [
        ("POST", "start"),
        ("POST", "stop?t=0"),
        ("POST", "kill?signal=SIGKILL"),
        ("POST", "restart?t=0"),
        ("POST", "wait"),
        ("POST", "pause"),
        ("POST", "rename?name=honest"),
        ("POST", "attach?stream=1&stdout=1"),
        ("GET", "logs?stdout=1&stderr=1&follow=1"),
        ("GET", "json"),
        ("GET", "stats"),
        ("GET", "top"),
        ("GET", "changes"),
        ("GET", "archive?path=/etc/passwd"),
    ];
    if rng.one_in(8) {
        return Parts::of("DELETE", format!("/containers/{of}?force=1"));
    }
    let (method, act) = *rng.pick(&acts);
    Parts::of(method, format!("/containers/{of}/{act}"))
}
