#!/usr/bin/env bash
# with-daemon.sh COMMAND…: runs a command with DOCKER_HOST set to a daemon on a sandbox of its own. Fails if the command
# fails, or if a function is left in the sandbox once all containers are removed. CLI_PLUGINS: a folder of plug-ins for
# the docker CLI; DAEMON_ARGS: more arguments for the daemon.
set -euo pipefail
cd "$(dirname "$0")/../.."

daemon="$PWD/target/debug/sockerless-backend-lambda"
[ -x "$daemon" ] || cargo build --quiet --workspace --bins --examples
state=$(mktemp -d)
# Programs have a /tmp of their own: what a test and its programs both see is here.
SHARED=$(mktemp -d -p "$PWD/target")
export SHARED
export XDG_STATE_HOME="$state" DOCKER_CONFIG="$state/docker"
unset DOCKER_CONTEXT DOCKER_TLS_VERIFY DOCKER_CERT_PATH

sandbox() { # path, arguments of curl
    local rendezvous="$state/sockerless-lambda/lambda.db.sandbox" path="$1" endpoint
    shift
    endpoint=$(sed 's/.*"endpoint":"\([^"]*\)".*/\1/' "$rendezvous")
    # Not as an argument: other users see those.
    sed 's/.*"secret_access_key":"\([^"]*\)".*/Authorization: Bearer \1/' "$rendezvous" |
        curl --silent --show-error --header @- "$@" "$endpoint/_sandbox/$path"
}

mkdir "$DOCKER_CONFIG"
[ -z "${CLI_PLUGINS:-}" ] || ln -s "$CLI_PLUGINS" "$DOCKER_CONFIG/cli-plugins"

mkfifo "$state/says"
"$daemon" --sandbox ${DAEMON_ARGS:-} >"$state/says" 2>"$state/log" &
pid=$!
export DAEMON_LOG="$state/log"
cleanup() {
    # The sandbox outlives its daemon as long as something runs in it.
    sandbox stop --data '{"when_idle":false}' >/dev/null || true
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    rm -rf "$state" "$SHARED"
}
trap cleanup EXIT
read -r line <"$state/says"
eval "$line"

api() { # method, path
    curl --silent --show-error --unix-socket "${DOCKER_HOST#unix://}" -X "$1" "http://daemon$2"
}
functions() {
    sandbox state | grep -o '"tags"' | wc -l | tr -d ' '
}

code=0
"$@" || code=$?
if [ "$code" -ne 0 ]; then
    tail -40 "$state/log"
    exit "$code"
fi
for id in $(api GET '/containers/json?all=1' | grep -o '"Id":"[0-9a-f]*"' | cut -d '"' -f 4); do
    api DELETE "/containers/$id?force=1"
done
for _ in $(seq 300); do
    [ "$(functions)" != 0 ] || exit 0
    sleep 0.1
done
echo "$(functions) functions are left in the sandbox" >&2
exit 1
