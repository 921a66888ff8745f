#!/usr/bin/env bash
# The OpenAPI document in other people's hands, against the daemon on its sandbox: a validator reads it, a generator makes a
# client of it that runs a container, and schemathesis makes requests of it, good and bad ones, for so many minutes. No server
# error that is not a documented refusal, and no answer that the document does not describe.
# Usage: schemathesis.sh [MINUTES]
set -euo pipefail
cd "$(dirname "$0")/../.."

minutes=${1:-10}
venv="$PWD/target/venv/schemathesis"
if [ ! -x "$venv/bin/schemathesis" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet schemathesis==4.32.5 jsonschema==4.26.0 openapi-spec-validator==0.9.0 \
        openapi-python-client==0.29.1
fi

cargo build --quiet --workspace --bins --examples
state=$(mktemp -d)
mkfifo "$state/says"
XDG_STATE_HOME="$state" target/debug/sockerless-backend-lambda --sandbox --listen tcp://127.0.0.1:0 \
    >"$state/says" 2>"$state/log" &
pid=$!
cleanup() {
    kill "$pid" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$state"
}
trap cleanup EXIT
read -r line <"$state/says"
eval "$line"
export DAEMON="http://${DOCKER_HOST#tcp://}"

curl --silent --show-error "$DAEMON/internal/v1/openapi.json" >"$state/openapi.json"
"$venv/bin/openapi-spec-validator" "$state/openapi.json"

# Streams of bytes are left out by the generator, which says so.
"$venv/bin/openapi-python-client" generate --path "$state/openapi.json" --meta none --output-path "$state/generated" \
    >"$state/generating" 2>&1
if grep -q 'Unable to process schema' "$state/generating"; then
    cat "$state/generating"
    exit 1
fi
PYTHONPATH="$state" PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" tests/clients/generated_client.py "$DAEMON"

checks=status_code_conformance,content_type_conformance,response_schema_conformance
checks=$checks,only_documented_server_errors,every_line_fits
hooks="$PWD/tests/clients"
# What it remembers of its failures goes where it runs.
cd "$state"
SCHEMATHESIS_HOOKS=schemathesis_hooks PYTHONPATH="$hooks" PYTHONDONTWRITEBYTECODE=1 \
    "$venv/bin/schemathesis" run "$state/openapi.json" --url "$DAEMON" --max-time $((minutes * 60)) --checks "$checks" \
    --request-timeout 30 --workers 2 --warnings off --suppress-health-check all
if grep -q 'a request failed\|panicked' "$state/log"; then
    grep 'a request failed\|panicked' "$state/log" | head
    exit 1
fi
