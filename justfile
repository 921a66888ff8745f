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

# Unit, CloudFormation template and Kubernetes manifest by their own tools: seconds.
deploy-lint:
    deploy/check.sh unit template manifest

# The same, and the image's build steps and the Debian package: minutes.
deploy-check:
    deploy/check.sh

ci: test fmt clippy lean deny docs clients deploy-lint
