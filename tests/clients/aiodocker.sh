#!/usr/bin/env bash
# The tests of aiodocker, as its source package on PyPI has them, against the daemon on its sandbox. Only their image is changed:
# it is `host`, where python is this machine's python3. What is skipped is listed below with the reason; a name below that the package does not have is an
# error. Its tests that ask no daemon, and those of exec, networks, volumes and swarms as a whole, are not run.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=0.27.0
files="test_containers test_docker_close test_events test_images test_integration test_system"
skips='
test_containers::test_run_failing_start_container   start does not wait for the program: a missing one ends with 127
test_containers::test_restart                       a running invocation cannot be stopped, so not restarted: 409
test_containers::test_top                           top: 501
test_containers::test_top_with_ps_args              top: 501
test_containers::test_commit                        commit: 501
test_containers::test_commit_with_changes           commit: 501
test_containers::test_pause_unpause                 pause: 501
test_containers::test_capture_log_oneshot           output is late: one look after a second is too early
test_containers::test_stop_with_graceful_timeout    a running invocation cannot be stopped
test_containers::test_stop_with_short_http_timeout  a running invocation cannot be stopped
test_containers::test_prune_containers_nothing_to_remove  lists are never null here
test_images::test_build_from_remote_file            build: 501
test_images::test_build_from_remote_tar             build: 501
test_images::test_push_image                        registry: nothing is pushed
test_images::test_push_image_stream                 registry: nothing is pushed
test_images::test_delete_image                      registry: it starts one
test_images::test_build_from_tar                    build: 501
test_images::test_build_from_tar_stream             build: 501
test_images::test_export_image                      save: 501
test_images::test_import_image                      load: 501
test_images::test_pups_image_auth                   registry: it starts one
test_images::test_build_image_invalid_platform      build: 501
test_images::test_prune_images                      build: 501
test_images::test_prune_images_without_filters      lists are never null here
test_images::test_prune_builds_with_options         lists are never null here
test_images::test_prune_builds_default_options      lists are never null here
test_integration::test_stdio_stdin                  attach by websocket: 501
test_integration::test_attach_tty                   stdin: nothing can be typed into a function
test_integration::test_wait_timeout                 stdin: needs a shell that waits for its input
test_integration::test_events                       it may subscribe after the creation that it waits for: ours is quick
test_integration::test_put_archive                  archive: 501
test_integration::test_get_archive                  archive: 501
test_integration::test_port                         ports: nothing can connect to a function
'

cargo build --quiet --workspace --bins --examples
suites="$PWD/target/suites"
venv="$PWD/target/venv/aiodocker"
mkdir -p "$suites"
if [ ! -d "$suites/aiodocker-$version" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet hatchling hatch-vcs "aiodocker==$version" testcontainers async-timeout \
        pytest==9.0.3 pytest-asyncio==1.3.0 pytest-timeout
    "$venv/bin/pip" download --quiet --no-deps --no-binary :all: --no-build-isolation --dest "$suites" "aiodocker==$version"
    tar xzf "$suites/aiodocker-$version.tar.gz" -C "$suites"
fi
tests="$suites/aiodocker-$version/tests"
sed -i 's/return "python:3.1[34]-alpine"/return "host"/' "$tests/conftest.py"
sed -i 's/"python"/"python3"/' "$tests"/*.py

if [ "${1:-}" != inside ]; then
    exec tests/clients/with-daemon.sh tests/clients/aiodocker.sh inside
fi

cd "$suites/aiodocker-$version"
pytest() { "$venv/bin/python" -m pytest -o addopts= -o filterwarnings= -p no:cacheprovider --timeout 90 "$@"; }
mapfile -t paths < <(printf 'tests/%s.py\n' $files)
pytest --collect-only -q "${paths[@]}" >"$SHARED/collected" 2>&1 || { tail -20 "$SHARED/collected"; exit 1; }
names=$(sed -n 's/^tests\/\(.*\)\.py::\([a-z_0-9]*\).*/\1::\2/p' "$SHARED/collected" | sort -u)
arguments=()
while read -r name reason; do
    [ -n "$name" ] || continue
    grep -qx "$name" <<<"$names" || { echo "there is no test $name"; exit 1; }
    arguments+=(--deselect "tests/${name%%::*}.py::${name##*::}")
    echo "skipped $name: $reason"
done <<<"$skips"
pytest -q "${arguments[@]}" "${paths[@]}"
