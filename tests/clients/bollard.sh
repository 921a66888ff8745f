#!/usr/bin/env bash
# The tests of the crate bollard, as its source package has them, against the daemon on its sandbox. The package is the one
# that Cargo.lock names. Only two addresses are changed: the daemon is where DOCKER_HOST says. What is skipped is listed below
# with the reason; a name below that the package does not have is an error.
set -euo pipefail
cd "$(dirname "$0")/../.."

skips='
system    integration_test_events_until_forever  its `since` is in the future in the first 0.18 s of each second: no daemon answers then
container integration_test_image_push            registry: nothing is pushed, no image data is here
container integration_test_restart_container     a running invocation cannot be stopped, so not restarted: 409
container integration_test_kill_container        a running invocation cannot be stopped, so not removed right after: 409
container integration_test_top_processes         top: 501
container integration_test_container_changes     changes: 501
container integration_test_update_container      update: 501
container integration_test_pause_container       pause: 501
container integration_test_archive_containers    archive: 501
container integration_test_mount_volume_containers  volumes: 501
container integration_test_attach_container      stdin: nothing can be typed into a function
container integration_test_resize_container_tty  stdin: needs a shell that waits for its input
container integration_test_export_container      export: 501
image     integration_test_search_images         registry: nothing is searched
image     integration_test_create_image_wasm     import: 501
image     integration_test_commit_container      commit: 501
image     integration_test_build_image           build: 501
image     integration_test_export_image          save: 501
image     integration_test_export_images         save: 501
image     integration_test_issue_55              build: 501
image     integration_test_import_image          load: 501
image     integration_test_import_image_stream   load: 501
network   integration_test_create_network        networks: 501
network   integration_test_list_networks         networks: 501 (it makes one first)
network   integration_test_connect_network       networks: 501
network   integration_test_prune_networks        networks: 501 (it makes one first)
volume    integration_test_list_volumes          volumes: 501 (it makes one first)
volume    integration_test_create_volume         volumes: 501
volume    integration_test_prune_volumes         volumes: 501 (it makes one first)
plugin    integration_test_get_plugin_privileges  plugins: 501
plugin    integration_test_plugin_lifecycle      plugins: 501
plugin    integration_test_plugin_upgrade        plugins: 501
plugin    integration_test_plugin_push           plugins: 501
'
suites_run='version system container image network volume plugin race'
files_skipped='
config_test    swarm: 503
distribution   registry: 501
exec_test      exec: 501
export_test    build: 501
node_test      swarm: 503
podman_test    asks podman
secret_test    swarm: 503
service_test   swarm: 503
swarm_test     swarm: 501
task_test      swarm: 503
'

cargo build --quiet --workspace --bins --examples
suites="$PWD/target/suites"
mkdir -p "$suites"
package=$(cargo metadata --format-version 1 --locked | python3 -c '
import json, os, sys
found = [p for p in json.load(sys.stdin)["packages"] if p["name"] == "bollard"]
print(os.path.dirname(found[0]["manifest_path"]))')
source="$suites/$(basename "$package")"
# Every file of tests is run or named above.
for file in "$package"/tests/*.rs; do
    file=$(basename "$file" .rs)
    if ! grep -q "^$file " <<<"$files_skipped" && ! grep -qw "${file%_test}" <<<"$suites_run"; then
        echo "$file is neither run nor skipped"
        exit 1
    fi
done
# Kept, so that a second run has nothing to build.
if [ ! -d "$source" ]; then
    cp -r "$package" "$source.new"
    chmod -R u+w "$source.new"
    printf '\n[workspace]\n' >>"$source.new/Cargo.toml"
    sed -i 's/connect_with_unix_defaults/connect_with_defaults/' "$source.new"/tests/*.rs "$source.new"/tests/common/*.rs
    sed -i 's#"unix:///var/run/docker.sock"#\&std::env::var("DOCKER_HOST").unwrap()#' "$source.new/tests/version_test.rs"
    mv "$source.new" "$source"
fi

if [ "${1:-}" != inside ]; then
    # The images that the tests name. The web server runs as long as a test looks at it: it cannot be stopped.
    images="$suites/images"
    rm -rf "$images"
    mkdir "$images"
    printf '#!/bin/sh\nprintf "\\nHello from Docker!\\n"\n' >"$suites/hello"
    printf '#!/bin/sh\nexec sleep 3\n' >"$suites/run_uhttpd"
    tests/images/busybox.sh "$images/hello" hello-world:linux /hello="$suites/hello"
    tests/images/busybox.sh "$images/alpine" alpine
    tests/images/busybox.sh "$images/uhttpd" fussybeaver/uhttpd /usr/sbin/run_uhttpd="$suites/run_uhttpd"
    DAEMON_ARGS="--sandbox-images $images" exec tests/clients/with-daemon.sh tests/clients/bollard.sh inside
fi

export DISABLE_REGISTRY=1 CARGO_TARGET_DIR="$suites/cargo"
run() { cargo test --quiet --manifest-path "$source/Cargo.toml" --no-default-features --features http,pipe,time "$@"; }
total=0
for suite in $suites_run; do
    names=$(run --test "${suite}_test" -- --list 2>/dev/null | sed -n 's/: test$//p')
    arguments=()
    while read -r of name reason; do
        [ "$of" = "$suite" ] || continue
        grep -qx "$name" <<<"$names" || { echo "there is no test $name in $suite"; exit 1; }
        arguments+=(--skip "$name")
        echo "skipped $suite $name: $reason"
    done <<<"$skips"
    skipped=$((${#arguments[@]} / 2))
    count=$(($(wc -l <<<"$names") - skipped))
    [ "$count" -gt 0 ] || continue
    run --test "${suite}_test" -- --exact --test-threads 1 "${arguments[@]}"
    total=$((total + count))
done
while read -r file reason; do
    [ -z "$file" ] || echo "skipped $file.rs: $reason"
done <<<"$files_skipped"
echo "bollard: $total passed, 0 failed, $(grep -c . <<<"$skips") skipped in the files that are run"
