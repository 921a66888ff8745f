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

# Clients that others wrote against the daemon on its sandbox: the docker CLI, compose, docker-py, dockerode.
clients:
    tests/clients/run.sh

ci: test fmt clippy lean deny docs clients
