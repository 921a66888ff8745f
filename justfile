# One line a recipe; `.ci/run` runs `just ci`.

# The README's test command.
test:
    cargo test --workspace

fmt:
    cargo fmt --all --check

clippy:
    cargo clippy --workspace --all-targets -- -D warnings

# Without the embedded sandbox, as for a machine that only ever talks to AWS.
lean:
    cargo clippy --no-default-features --lib --bins -- -D warnings

deny:
    cargo deny --all-features check bans licenses sources

docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

# The ordinary docker CLI and curl against the daemon on its sandbox, `kill -9` included.
clients:
    tests/clients/docker-cli.sh

# Every crash point and every fault of every scenario, optimised; the last line is `plans: N, failed: N`. A text in
# SOCKERLESS_CRASH_PLANS chooses the plans with it in their names.
crash-plans:
    #!/usr/bin/env bash
    set -uo pipefail
    told=$(mktemp)
    trap 'rm -f "$told"' EXIT
    cargo test --release --test crash -- --nocapture | tee "$told"
    status=$?
    grep '^plans: ' "$told" || status=1
    exit $status

ci: test fmt clippy lean deny docs clients
