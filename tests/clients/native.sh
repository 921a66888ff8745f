#!/usr/bin/env bash
# Inputs and results: an image that speaks Lambda's Runtime API itself gets the payload, and its answer is in inspect and is
# printed by `run --result`. Both ways to give a payload, both kinds of invocation, and an answer that is an error.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --quiet --workspace --bins --examples
daemon="$PWD/target/debug/sockerless-backend-lambda"
state=$(mktemp -d)
pid=
export XDG_STATE_HOME="$state"
cleanup() {
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$state"
}
trap cleanup EXIT

passed=0
check() { # what, expected, actual
    if [ "$2" != "$3" ]; then
        printf 'FAILED %s\n  expected: %s\n  actual:   %s\n' "$1" "$2" "$3"
        tail -20 "$state/log" || true
        printf '%d passed, 1 failed\n' "$passed"
        exit 1
    fi
    passed=$((passed + 1))
    printf 'ok     %s\n' "$1"
}

mkdir "$state/images"
tests/images/busybox.sh "$state/images/echo" echo-handler /bin/echo-handler=tests/images/echo-handler.sh
mkfifo "$state/says"
"$daemon" --sandbox --sandbox-images "$state/images" >"$state/says" 2>"$state/log" &
pid=$!
read -r line <"$state/says"
eval "$line"
# `run` hands its container to the daemon that has the state.
run() { "$daemon" run --sandbox --sandbox-images "$state/images" --protocol native "$@"; }
api() { curl --silent --show-error --unix-socket "${DOCKER_HOST#unix://}" "$@"; }
field() { python3 -c 'import json, sys; print(eval(sys.argv[1], {"a": json.load(sys.stdin)}))' "$1"; }

check 'run --payload --result' $'got {"x": [1, 2]}\n{"got":{"x": [1, 2]}}' \
    "$(run --payload '{"x": [1, 2]}' --result echo-handler)"
printf '{"from": "a file"}' >"$state/event.json"
check 'run --payload @FILE' $'got {"from": "a file"}\n{"got":{"from": "a file"}}' \
    "$(run --payload "@$state/event.json" --result echo-handler)"
check 'run without --result prints the log only' 'got "text"' "$(run --payload '"text"' echo-handler)"

set +e
out=$(run --payload '{"fail": true}' --result echo-handler 2>"$state/err")
code=$?
set -e
check 'an answer that is an error: the exit code' 1 "$code"
check 'an answer that is an error is the result' '{"errorType":"Function.Asked","errorMessage":"asked to fail"}' "${out##*$'\n'}"

labels='"sockerless.lambda.protocol":"native","sockerless.lambda.payload":"{\"n\": 7}"'
create() { # name, more labels
    api -X POST -H 'Content-Type: application/json' "http://d/containers/create?name=$1" \
        -d "{\"Image\":\"echo-handler\",\"Labels\":{$labels$2}}" | field 'a["Id"]' >/dev/null
    api -X POST "http://d/containers/$1/start"
    api -X POST "http://d/containers/$1/wait" | field 'a["StatusCode"]'
}
check 'the label: the exit code' 0 "$(create labelled '')"
check 'the label: the result in inspect' '{"got":{"n": 7}}' "$(api http://d/containers/labelled/json | field 'a["Sockerless"]["Result"]')"
check 'the label: the log' 'got {"n": 7}' "$(api 'http://d/v1.41/containers/labelled/logs?stdout=1' | tail -c +9)"
check 'by event: the exit code' 0 "$(create by-event ',"sockerless.lambda.invocation-type":"Event"')"
check 'by event: Lambda keeps no answer' None "$(api http://d/containers/by-event/json | field 'a["Sockerless"]["Result"]')"
check 'by event: the log' 'got {"n": 7}' "$(api 'http://d/v1.41/containers/by-event/logs?stdout=1' | tail -c +9)"
printf '%d passed, 0 failed\n' "$passed"
