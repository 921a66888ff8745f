# What steps may use beside docker itself.

# until_true COMMAND…: waits for a state; the step's own time limit ends what never comes.
until_true() {
    while ! "$@" >/dev/null 2>&1; do sleep 0.02; done
}

# until_line TEXT FILE
until_line() {
    until_true grep -q -e "$1" "$2"
}

# until_asked COUNT TEXT: waits until the daemon has begun to answer so many requests with this text in their path.
until_asked() {
    while [ "$(grep -c "request .*path=[^ ]*$2" ../log)" -lt "$1" ]; do sleep 0.02; done
}

# is STATUS NAME: whether the container is in this state.
is() {
    [ "$(docker inspect --type container -f '{{.State.Status}}' "$2")" = "$1" ]
}

# untimed: every time of the day on the input is shown as T.
untimed() {
    sed -E 's/[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9:]+)/T/g'
}

# has_begun NAME: whether its run was invoked, so that nothing can be cancelled any more.
has_begun() {
    docker inspect -f '{{range .Sockerless.Conditions}}{{.type}} {{.status}};{{end}}' "$1" | grep -q 'Invoked True'
}

# until_logged TEXT NAME: waits until the container has said it.
until_logged() {
    while ! docker logs "$2" 2>&1 | grep -q -e "$1"; do sleep 0.02; done
}

# reported NAME: whether what its last run used is known.
reported() {
    docker inspect -f '{{.Sockerless.Report.MaxMemoryUsedMB}}' "$1"
}

# now: this moment, exact enough for --since and --until.
now() {
    date -u +%FT%T.%NZ
}
