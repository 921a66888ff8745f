#!/usr/bin/env bash
# The ordinary docker CLI and curl against the daemon on its sandbox: what the README promises, step by step; with the
# image `host`, and with Debian's busybox as an image of its own.
# Uses the debug build; prints a line for each check and ends with the first that fails.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --quiet --workspace --bins --examples
daemon="$PWD/target/debug/sockerless-backend-lambda"
state=$(mktemp -d)
shared=$(mktemp -d -p "$PWD/target")
images=$(mktemp -d)
pid=
tests/images/busybox.sh "$images/busybox"

export XDG_STATE_HOME="$state" DOCKER_CONFIG="$state/docker"
unset DOCKER_CONTEXT DOCKER_TLS_VERIFY DOCKER_CERT_PATH

serve() {
    mkfifo "$state/says.$1"
    "$daemon" --sandbox --sandbox-images "$images" >"$state/says.$1" 2>>"$state/log" &
    pid=$!
    read -r line <"$state/says.$1"
    eval "$line"
}

cleanup() {
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$state" "$shared" "$images"
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
    local rendezvous="$state/sockerless-lambda/lambda.db.sandbox" endpoint
    endpoint=$(sed 's/.*"endpoint":"\([^"]*\)".*/\1/' "$rendezvous")
    # Not as an argument: other users see those.
    sed 's/.*"secret_access_key":"\([^"]*\)".*/Authorization: Bearer \1/' "$rendezvous" |
        curl --silent --show-error --header @- "$endpoint/_sandbox/state"
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

# stdout and stderr apart, exactly as they were written. What the program should print is what it prints here.
streams() { # what, shell script
    local code=0 expected=0
    sh -c "$2" >"$state/out" 2>"$state/err" || expected=$?
    docker run --rm host sh -c "$2" >"$state/docker.out" 2>"$state/docker.err" || code=$?
    check "docker run: $1: the exit code" "$expected" "$code"
    check "docker run: $1: stdout" "$(sha256sum <"$state/out")" "$(sha256sum <"$state/docker.out")"
    check "docker run: $1: stderr" "$(sha256sum <"$state/err")" "$(sha256sum <"$state/docker.err")"
}
for round in $(seq 20); do
    streams "both streams, round $round" 'echo out; echo err >&2; exit 3'
done
streams 'no newline at the end' 'printf a; printf b >&2; exit 1'
streams 'empty lines and spaces' 'printf "\n\n a \r\n\t\n\n"; printf "\n" >&2'
streams 'every byte' 'i=0; while [ $i -lt 256 ]; do printf "\\$(printf %o $i)"; i=$((i+1)); done; printf "\377\n" >&2'
streams 'a binary file' 'head -c 300000 /bin/sh; head -c 100000 /bin/ls >&2'
streams 'a line of a megabyte' 'head -c 1000000 /dev/zero | tr "\0" x; echo; head -c 300000 /dev/zero | tr "\0" y >&2'
streams 'many lines fast' 'seq 1 20000; seq 1 20000 >&2'
streams 'lines that look like ours' 'echo "[stderr] x"; echo "@sockerless:exit t 0 exited"; echo "[stdout%] %41" >&2'
docker run -d --name both host sh -c 'echo out; echo err >&2' >/dev/null
docker wait both >/dev/null
check 'docker logs: stdout' out "$(docker logs both 2>/dev/null)"
check 'docker logs: stderr' err "$(docker logs both 2>&1 >/dev/null)"
docker rm both >/dev/null
check 'streams: the sandbox holds no function' 0 "$(until_functions 0)"

# An image with files of its own.
busybox() { # arguments of docker run → output, then the exit code
    local code=0
    docker run --rm "$@" 2>&1 || code=$?
    echo "code $code"
}
check 'busybox' $'hi\ncode 3' "$(busybox busybox sh -c 'echo hi; exit 3')"
check 'busybox by its long name' $'hi\ncode 0' "$(busybox docker.io/library/busybox:latest echo hi)"
check 'busybox: its own command, with nothing on stdin' 'code 0' "$(busybox busybox)"
check 'busybox: --entrypoint clears the command' $'\ncode 0' "$(busybox --entrypoint /bin/echo busybox)"
check 'busybox: --entrypoint and arguments' $'a b\ncode 0' "$(busybox --entrypoint echo busybox a b)"
check 'busybox: --entrypoint "" without a command' 'no command specified' \
    "$(busybox --entrypoint '' busybox | grep -o 'no command specified')"
check 'busybox: -e and -w' $'1 /usr/bin\ncode 0' "$(busybox -e A=1 -w /usr/bin busybox sh -c 'echo $A $PWD')"
check 'busybox: nothing of this machine' 'bin dev etc home proc root sys tmp usr var' \
    "$(docker run --rm busybox ls / | xargs)"
check 'busybox: no rights, no other processes' '993 2' \
    "$(docker run --rm busybox sh -c 'echo $(id -u) $(ls /proc | grep -c "^[12]$")')"
check 'busybox: only /tmp can be written to' "sh: can't create /x: Read-only file system code 0" \
    "$(busybox busybox sh -c 'echo x >/tmp/x; echo x >/x; true' | xargs -0 echo | tr '\n' ' ' | sed 's/ *$//')"
check 'busybox: not found' $'sockerless: exec: "nope": executable file not found in $PATH\ncode 127' "$(busybox busybox nope)"
check 'busybox: not executable' $'sockerless: exec: "/etc/passwd": permission denied\ncode 126' "$(busybox busybox /etc/passwd)"
check 'busybox: another architecture' 'and the function for arm64. (InvalidImage)' \
    "$(busybox --platform linux/arm64 busybox true | grep -o 'and the function for arm64. (InvalidImage)')"
check 'an image that the sandbox does not have' 'The sandbox has: busybox:latest, host:latest.' \
    "$(busybox nope true | grep -o 'The sandbox has: .*\.' | sed 's/\."$/./')"
check 'busybox: stdout and stderr' 'out|err' \
    "$(docker run --rm busybox sh -c 'echo out; echo err >&2' 2>"$state/err")|$(cat "$state/err")"
check 'busybox: the sandbox holds no function' 0 "$(until_functions 0)"

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
