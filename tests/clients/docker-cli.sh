#!/usr/bin/env bash
# The ordinary docker CLI and curl against the daemon on its sandbox: what the README promises, step by step.
# Uses the debug build; prints a line for each check and ends with the first that fails.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --quiet
daemon="$PWD/target/debug/sockerless-backend-lambda"
state=$(mktemp -d)
shared=$(mktemp -d -p "$PWD/target")
pid=

export XDG_STATE_HOME="$state" DOCKER_CONFIG="$state/docker"
unset DOCKER_CONTEXT DOCKER_TLS_VERIFY DOCKER_CERT_PATH

serve() {
    mkfifo "$state/says.$1"
    "$daemon" --sandbox ${2:-} >"$state/says.$1" 2>>"$state/log" &
    pid=$!
    read -r line <"$state/says.$1"
    eval "$line"
}

cleanup() {
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$state" "$shared"
}
trap cleanup EXIT

passed=0
check() { # what, expected, actual
    if [ "$2" != "$3" ]; then
        printf 'FAILED %s\n  expected: %s\n  actual:   %s\n' "$1" "$2" "$3"
        tail -20 "$state/log"
        printf '%d passed, 1 failed\n' "$passed"
        exit 1
    fi
    passed=$((passed + 1))
    printf 'ok     %s\n' "$1"
}

internal() { curl --silent --show-error --unix-socket "${DOCKER_HOST#unix://}" "$@"; }
sandbox() {
    local endpoint
    endpoint=$(sed 's/.*"endpoint":"\([^"]*\)".*/\1/' "$state/sockerless-lambda/lambda.db.sandbox")
    curl --silent --show-error "$endpoint/_sandbox/state"
}
functions() { sandbox | grep -o '"tags"' | wc -l | tr -d ' '; }
until_functions() { # how many
    for _ in $(seq 200); do
        [ "$(functions)" != "$1" ] || break
        sleep 0.05
    done
    functions
}

# One program, run and forgotten.
set +e
out=$("$daemon" run --sandbox host sh -c 'echo hello from lambda; exit 3')
code=$?
set -e
check 'run: the output' 'hello from lambda' "$out"
check 'run: the exit code' 3 "$code"

serve 1
check 'the line that tells where it listens' "unix://$state/sockerless-lambda/docker.sock" "$DOCKER_HOST"
check 'the socket is for owner and group' 660 "$(stat -c %a "${DOCKER_HOST#unix://}")"

docker run -d --name job host sh -c 'echo out; sleep 2; exit 7' >/dev/null
check 'docker ps' 'job host Up' "$(docker ps --format '{{.Names}} {{.Image}} {{.Status}}' | sed 's/Up .*/Up/')"
check 'docker wait' 7 "$(docker wait job)"
check 'docker logs' out "$(docker logs job)"
check 'docker logs -t' 'T out' "$(docker logs -t job | sed 's/^[0-9-]*T[0-9:.]*Z/T/')"
check 'docker inspect' 'exited 7 /job' "$(docker inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.Name}}' job)"
check 'docker ps -a' 'job Exited (7)' "$(docker ps -a --format '{{.Names}} {{.Status}}' | sed 's/) .*/)/')"
docker rm job >/dev/null
check 'docker rm: the sandbox holds no function' 0 "$(until_functions 0)"

# The same by the internal API.
base=http://sockerless/internal/v1
json='Content-Type: application/json'
check 'internal: capabilities' '"backend":"lambda"' "$(internal "$base/capabilities" | grep -o '"backend":"lambda"')"
created=$(internal -H "$json" -d '{"Image":"host","Cmd":["sh","-c","echo out; sleep 1; exit 7"]}' "$base/containers?name=job")
check 'internal: create' 64 "$(printf %s "$created" | sed 's/.*"Id":"\([0-9a-f]*\)".*/\1/' | tr -d '\n' | wc -c | tr -d ' ')"
check 'internal: start' 204 "$(internal -o /dev/null -w '%{http_code}' -X POST "$base/containers/job/start")"
check 'internal: wait' '{"StatusCode":7}' "$(internal -X POST "$base/containers/job/wait")"
check 'internal: exec is refused' 501 "$(internal -o /dev/null -w '%{http_code}' -H "$json" -d '{}' "$base/containers/job/exec")"
check 'internal: remove' 204 "$(internal -o /dev/null -w '%{http_code}' -X DELETE "$base/containers/job")"
check 'internal: the sandbox holds no function' 0 "$(until_functions 0)"

# kill -9 in the middle of a run, for both kinds.
life=1
for kind in RequestResponse Event; do
    docker run -d --name "job-$kind" -l "sockerless.lambda.invocation-type=$kind" host \
        sh -c "echo ran >> $shared/$kind; sleep 3; exit 7" >/dev/null
    until [ -s "$shared/$kind" ]; do sleep 0.05; done
    kill -9 "$pid"
    wait "$pid" 2>/dev/null || true
    life=$((life + 1))
    serve "$life"
    check "kill -9, $kind: docker wait" 7 "$(docker wait "job-$kind")"
    check "kill -9, $kind: it ran once" 1 "$(wc -l <"$shared/$kind" | tr -d ' ')"
    docker rm "job-$kind" >/dev/null
done
check 'kill -9: the sandbox holds no function' 0 "$(until_functions 0)"

kill "$pid"
code=0
wait "$pid" || code=$?
pid=
check 'SIGTERM ends the daemon' 0 "$code"
printf '%d passed, 0 failed\n' "$passed"
