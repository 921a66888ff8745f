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

# So many real `kill -9` of the real binary under a workload; the last line is the account of all runs.
kill9 kills="50" *seed:
    cargo test --quiet --test endurance -- kill9 {{kills}} {{seed}}

# So many minutes of mixed load with faults and kills; the last line is the verdict.
soak minutes="60" *seed:
    cargo test --quiet --test endurance -- soak {{minutes}} {{seed}}

ci: test fmt clippy lean deny docs clients
