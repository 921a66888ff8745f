# One line a recipe; `.ci/run` runs `just ci`. All of them select the whole workspace: of one package alone, dependencies
# have other features and are built once more.

# The README's test command.
test:
    tests/all.sh

fmt:
    cargo fmt --all --check

clippy:
    cargo clippy --workspace --all-targets -- -D warnings

# Without the embedded sandbox, as for a machine that only ever talks to AWS.
lean:
    cargo clippy --no-default-features --lib --bins -- -D warnings

# Traces: what the feature adds, with a collector on this machine. The rest is the same program, and is not tested twice.
# async-trait is held at 0.1.89 in Cargo.lock: a later one asks more of syn 3, and everything is built once more for it.
otlp:
    cargo clippy --workspace --features sockerless-backend-lambda/otlp --lib --bins --test daemon -- -D warnings
    cargo test --workspace --features sockerless-backend-lambda/otlp --lib --test daemon -- traces::

deny:
    cargo deny --all-features check bans licenses sources

docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

# Random stories of users, crashes and faults against the plan and the model of AWS under virtual time.
stories count="1000000":
    SOCKERLESS_STORIES={{count}} cargo test --release --workspace --lib stories -- --nocapture

_stories-ci:
    SOCKERLESS_STORIES=20000 cargo test --workspace --lib stories -- --nocapture

# Every crash point and every fault of every scenario, optimised; the last line is `plans: N, failed: N`. A text in
# SOCKERLESS_CRASH_PLANS chooses the plans with it in their names.
crash-plans:
    #!/usr/bin/env bash
    set -uo pipefail
    output=$(mktemp)
    trap 'rm -f "$output"' EXIT
    cargo test --release --workspace --test crash -- --nocapture | tee "$output"
    status=$?
    grep '^plans: ' "$output" || status=1
    exit $status

# Random stories of hostile tenants beside honest containers, optimised; the last line is `hostile: N, failed: N`. A base
# seed plays the stories of an earlier run.
hostile count="1000000" seed="":
    #!/usr/bin/env bash
    set -uo pipefail
    output=$(mktemp)
    trap 'rm -f "$output"' EXIT
    export SOCKERLESS_HOSTILE={{count}}
    if [ -n "{{seed}}" ]; then export SOCKERLESS_HOSTILE_SEED={{seed}}; fi
    cargo test --release --workspace --test hostile hostile_content -- --nocapture | tee "$output"
    status=$?
    grep '^hostile: ' "$output" || status=1
    exit $status

_hostile-ci:
    SOCKERLESS_HOSTILE=10000 cargo test --workspace --test hostile hostile_content -- --nocapture

# The faults that the series has found, made again one at a time in a copy of the tree: each must be noticed.
hostile-mutations:
    tests/guards/run.py hostile-number hostile-depth hostile-claim hostile-flood

# Clients that others wrote against the daemon on its sandbox: the docker CLI, compose, docker-py, dockerode.
clients:
    tests/clients/run.sh

# A number of real `kill -9` of the real binary under a workload; the last line is the account of all runs.
kill9 kills="50" *seed:
    cargo test --quiet --workspace --test endurance -- kill9 {{kills}} {{seed}}

# Minutes of mixed load with faults and kills; the last line is the verdict.
soak minutes="60" *seed:
    cargo test --quiet --workspace --test endurance -- soak {{minutes}} {{seed}}

# Each guard taken away in a copy of the tree: its test must fail. The last line is `guards: N, survived: N`; names choose some.
guards *names:
    tests/guards/run.py {{names}}

# Unit, CloudFormation template and Kubernetes manifest by their own tools: seconds.
deploy-lint:
    deploy/check.sh unit template manifest

# The same, and the image's build steps and the Debian package: minutes.
deploy-check:
    deploy/check.sh

# What `cargo test` leaves out of the attacks: TCP clients that vanish from a silent attachment, which the kernel finds out,
# and a hundred followers. Both wait for minutes.
attack:
    cargo test --workspace --test api --test attack -- --ignored

# Memory with as many containers as the store keeps, ten times what `cargo test` takes; the last line of the test has the figures.
memory containers="100000":
    SOCKERLESS_MEMORY_CONTAINERS={{containers}} cargo test --workspace --test memory -- --nocapture

# An image that speaks Lambda's Runtime API itself: payloads in, results out.
native:
    tests/clients/native.sh

# Requests made from the OpenAPI document, for a number of minutes.
schemathesis minutes="10":
    tests/clients/schemathesis.sh {{minutes}}

# The tests that others wrote for their Docker clients.
suites:
    tests/clients/bollard.sh
    tests/clients/aiodocker.sh

# Mostly waits: for programs, for clients, for the kernel.
_ci-waiting: attack clients native (schemathesis "1") suites

# Mostly computes.
_ci-computing: fmt clippy lean docs _stories-ci _hostile-ci otlp deny deploy-lint

# Both side by side; the output of the first is shown when both have ended.
_ci-rest:
    #!/usr/bin/env bash
    set -uo pipefail
    output=$(mktemp)
    trap 'rm -f "$output"' EXIT
    just _ci-waiting >"$output" 2>&1 &
    just _ci-computing
    computing=$?
    wait $!
    waiting=$?
    cat "$output"
    echo "_ci-computing: exit code $computing, _ci-waiting: exit code $waiting"
    exit $((computing | waiting))

ci: test _ci-rest
