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

# An image that speaks Lambda's Runtime API itself: payloads in, results out.
native:
    tests/clients/native.sh

# Requests made from the OpenAPI document, for so many minutes.
schemathesis minutes="10":
    tests/clients/schemathesis.sh {{minutes}}

# The tests that others wrote for their Docker clients.
suites:
    tests/clients/bollard.sh
    tests/clients/aiodocker.sh

ci: test fmt clippy lean deny docs clients native (schemathesis "1") suites
