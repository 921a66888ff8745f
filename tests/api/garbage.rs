//! Whatever is sent, the daemon answers, and what it answers is never its own failure.

use crate::support::{Api, plain};

/// Every path of the interface, with names to be filled in; the spelling comes before it.
const PATHS: &[&str] = &[
    "/_ping",
    "/healthz",
    "/readyz",
    "/capabilities",
    "/info",
    "/version",
    "/events",
    "/system/df",
    "/auth",
    "/containers",
    "/containers/create",
    "/containers/json",
    "/containers/prune",
    "/containers/N",
    "/containers/N/json",
    "/containers/N/start",
    "/containers/N/stop",
    "/containers/N/kill",
    "/containers/N/restart",
    "/containers/N/rename",
    "/containers/N/wait",
    "/containers/N/logs",
    "/containers/N/stats",
    "/containers/N/attach",
    "/containers/N/attach/ws",
    "/containers/N/resize",
    "/containers/N/exec",
    "/containers/N/archive",
    "/exec/N/json",
    "/images/pull",
    "/images/create",
    "/images",
    "/images/json",
    "/images/inspect",
    "/images/N",
    "/images/N/json",
    "/images/N/history",
    "/images/tag",
    "/images/N/tag",
    "/images/prune",
    "/images/load",
    "/images/N/push",
    "/images/search",
    "/commit",
    "/build",
    "/build/prune",
    "/distribution/N/json",
    "/session",
    "/networks",
    "/networks/create",
    "/networks/N",
    "/networks/N/connect",
    "/networks/prune",
    "/volumes",
    "/volumes/N",
    "/volumes/prune",
    "/plugins",
    "/plugins/N/json",
    "/plugins/N/enable",
    "/swarm",
    "/nodes",
    "/services/N",
];
const SPELLINGS: &[&str] = &["", "/v1.24", "/v1.51", "/v1.52", "/internal/v1", "/internal/v2", "/v1"];
const METHODS: &[&str] = &["GET", "POST", "POST", "PUT", "DELETE", "HEAD", "PATCH"];
const NAMES: &[&str] =
    &["one", "two", "%2Fone", "%00", "%ff%fe", "a%2Fb:1", "..", "%F0%9F%90%B3", "sha256:00", "{id}", "x"];
const KEYS: &[&str] = &[
    "name",
    "all",
    "limit",
    "since",
    "until",
    "before",
    "filters",
    "tail",
    "stdout",
    "stderr",
    "follow",
    "timestamps",
    "signal",
    "t",
    "condition",
    "force",
    "fromImage",
    "tag",
    "repo",
    "logs",
    "stream",
    "h",
    "platform",
    "fromSrc",
];
const VALUES: &[&str] = &[
    "",
    "1",
    "0",
    "-1",
    "true",
    "x",
    "9223372036854775807",
    "-9223372036854775808",
    "99999999999999999999",
    "1e9",
    "1.9999999999",
    "%7B%22label%22%3A%5B%22a%22%5D%7D",
    "%7B%22name%22%3A%5B%22(%22%5D%7D",
    "%7B%22until%22%3A%5B%22x%22%5D%7D",
    "%5B%5D",
    "%7B",
    "null",
    "%00",
    "%ff",
    "one",
    "a%20b",
    "KILL",
    "removed",
    "next-exit",
    "linux%2Farm64",
    "%C3%A9",
    "10h",
    "alpine",
    "2026-11-23",
    "A:B:C",
    "%7B%22before%22%3A%5B%22one%22%5D%2C%22exited%22%3A%5B%22-5%22%5D%7D",
];
const BODIES: &[&str] = &[
    "",
    "{",
    "null",
    "[]",
    "1",
    "\"x\"",
    "{}",
    "{\"Image\":\"alpine\"}",
    "{\"Image\":null}",
    "{\"Image\":\"\"}",
    "{\"Image\":\"A B\"}",
    "{\"Image\":\"a\",\"HostConfig\":{\"Memory\":-1}}",
    "{\"Image\":\"a\",\"Cmd\":{}}",
    "{\"Image\":\"a\",\"HostConfig\":{\"Memory\":9223372036854775807}}",
    "{\"Image\":\"a\",\"Env\":[\"\"]}",
    "{\"Image\":\"a\",\"HostConfig\":{\"RestartPolicy\":{\"Name\":7}}}",
    "{\"Image\":\"a\",\"NetworkingConfig\":{\"EndpointsConfig\":1}}",
    "{\"Image\":\"a\",\"Labels\":{\"sockerless.lambda.payload\":\"{\"}}",
    "{\"Image\":\"a\",\"Cmd\":[\"\\u0000\"]}",
    "{\"Image\":\"a\",\"HostConfig\":{\"Mounts\":[null,1,\"x\",{\"Type\":[]}]}}",
    "{\"Reference\":7}",
    "{\"Reference\":\"::\"}",
    "{\"Image\":\"a\",\"HostConfig\":{\"Binds\":[\"\"]}}",
    "{\"a\":[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]}",
    "\u{feff}{}",
];

/// Numbers that look random and are the same every time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 40).unwrap()
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.next() % words.len()]
    }

    fn path(&mut self) -> String {
        let (spelling, path, name) = (self.pick(SPELLINGS), self.pick(PATHS), self.pick(NAMES));
        let mut path = format!("{spelling}{}?", path.replace('N', name));
        for _ in 0..self.next() % 4 {
            path.push_str(&format!("{}={}&", self.pick(KEYS), self.pick(VALUES)));
        }
        path
    }
}

#[tokio::test]
async fn nothing_that_is_sent_breaks_the_daemon() {
    let api = Api::new().await;
    api.ended("one", &plain(), 0).await;
    let mut numbers = Numbers(20_261_123);
    for round in 0..2_000 {
        let (method, path, body) = (numbers.pick(METHODS), numbers.path(), numbers.pick(BODIES));
        let mut connection = api.send_locally(method, &path, "", body).await;
        let head = connection.head().await;
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let is_ours = status >= 500 && status != 501 && status != 503;
        assert!(!is_ours, "{round}: {method} {path} {body}: {head}");
        if status == 503 {
            let is_documented = ["/readyz", "/swarm", "/nodes", "/services"].iter().any(|known| path.contains(known));
            assert!(is_documented, "{round}: {method} {path}: {head}");
        }
    }
    assert_eq!(api.get("/_ping").await.text(), "OK");
}

/// What is no HTTP costs its own connection only.
#[tokio::test]
async fn what_is_no_http_is_no_harm() {
    let api = Api::new().await;
    for (method, headers) in [("\u{1}\u{2}", ""), ("GET", "No colon\r\n"), ("GET", "Content-Length: x\r\n")] {
        let head = api.send(method, "/_ping", headers, "").await.head().await;
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    }
    let many: String = (0..200).map(|number| format!("X-{number}: x\r\n")).collect();
    let head = api.send("GET", "/_ping", &many, "").await.head().await;
    assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
    assert_eq!(api.get("/_ping").await.text(), "OK");
}
