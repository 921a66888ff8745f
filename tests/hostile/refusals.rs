//! Which requests may be answered with 501: what Lambda has nothing for. Every other server error is a fault.

use super::client::Raw;

/// The paths behind the version, with `*` for one part and `**` for any number.
const UNSUPPORTED: &[&str] = &[
    // Bodies that ask for what a function cannot have.
    "containers",
    "containers/create",
    "containers/*/stats",
    "containers/*/attach",
    "containers/*/attach/ws",
    "containers/*/resize",
    "containers/*/exec",
    "containers/*/pause",
    "containers/*/unpause",
    "containers/*/update",
    "containers/*/top",
    "containers/*/changes",
    "containers/*/export",
    "containers/*/archive",
    "exec/**",
    // Imports.
    "images/create",
    "images/load",
    "images/**/push",
    "images/**/get",
    "images/search",
    "commit",
    "build",
    "build/cancel",
    "build/prune",
    "distribution/**",
    "session",
    "grpc",
    "networks/**",
    "volumes/**",
    "plugins/**",
    "swarm/init",
    "swarm/join",
];

/// Whether a request for this path asks for something that is not supported.
pub(crate) fn may_be_unsupported(path: &str) -> bool {
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let is_version =
        |part: &str| part.strip_prefix('v').is_some_and(|digits| digits.starts_with(|c: char| c.is_ascii_digit()));
    if parts.first() == Some(&"internal") {
        parts.remove(0);
    }
    if parts.first().is_some_and(|part| is_version(part)) {
        parts.remove(0);
    }
    UNSUPPORTED.iter().any(|pattern| matches(&pattern.split('/').collect::<Vec<_>>(), &parts))
}

fn matches(pattern: &[&str], parts: &[&str]) -> bool {
    match (pattern, parts) {
        ([], []) => true,
        (["**", rest @ ..], _) => (0..=parts.len()).any(|skipped| matches(rest, &parts[skipped..])),
        (["*", pattern @ ..], [_, parts @ ..]) => matches(pattern, parts),
        ([word, pattern @ ..], [part, parts @ ..]) => word == part && matches(pattern, parts),
        _ => false,
    }
}

#[test]
fn what_may_be_unsupported() {
    let is = |target: &str| may_be_unsupported(&Raw::plain("POST", target, "").method_and_path().1);
    for path in ["/v1.51/containers/a/exec", "/internal/v1/networks/x/y", "/images/a/b/push?x=1", "/volumes", "/build"]
    {
        assert!(is(path), "{path}");
    }
    for path in ["/containers/a/start", "/info", "/containers/json", "/images/json", "/swarm", "/containers/a/exec/b"] {
        assert!(!is(path), "{path}");
    }
}
