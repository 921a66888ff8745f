#!/usr/bin/env bash
# All tests: those of `cargo test --workspace`, in half the time. Cargo runs one test program after the other, and many of them
# wait most of the time: these run beside those that compute. Their output is shown when they have ended.
set -uo pipefail
shopt -s nullglob
cd "$(dirname "$0")/.."

# The test programs that mostly wait, the longest first. All others compute.
waiting=" memory endurance daemon docker_cli api unknown run attack bootstrap "

wait_too=()
compute=()
for file in {.,bootstrap,sandbox}/tests/{*.rs,*/main.rs}; do
    name=${file#*/tests/}
    name=${name%/main.rs}
    name=${name%.rs}
    if [[ $waiting == *" $name "* ]]; then wait_too+=(--test "$name"); else compute+=(--test "$name"); fi
done

output=$(mktemp)
trap 'rm -f "$output"' EXIT

cargo test --workspace --no-run || exit
cargo test --workspace --no-fail-fast "${wait_too[@]}" >"$output" 2>&1 &
background=$!
cargo test --workspace --no-fail-fast --lib --bins "${compute[@]}"
computing=$?
wait $background
waited=$?
cat "$output"
cargo test --workspace --doc --quiet || exit
echo "exit code of the tests that wait: $waited, of those that compute: $computing"
exit $((waited | computing))
