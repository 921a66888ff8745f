#!/usr/bin/env bash
# Every client against the daemon on its sandbox, one after the other. Installs what it needs below target/.
set -euo pipefail
cd "$(dirname "$0")/../.."

tests/clients/install.sh
cargo build --quiet --workspace --bins --examples
clients="$PWD/target/ci-tools/clients"
debian="$clients/debian/files/usr"
with_daemon=tests/clients/with-daemon.sh

echo '== the docker CLI by hand, kill -9 included'
tests/clients/docker-cli.sh

echo "== the newest docker CLI of Debian: $("$debian/bin/docker" --version)"
case "$("$debian/bin/docker" --version)" in
"Docker version 28."*) DOCKER_CLI="$debian/bin/docker" cargo test --quiet --workspace --test docker_cli ;;
*) echo 'SKIPPED: the words of the cases are those of docker 28' ;;
esac

echo '== docker-py'
"$with_daemon" "$clients/python/bin/python" tests/clients/docker_py.py

echo "== the calls of Airflow's DockerOperator"
"$with_daemon" "$clients/python/bin/python" tests/clients/airflow.py

echo '== docker compose'
PATH="$debian/bin:$PATH" CLI_PLUGINS="$debian/libexec/docker/cli-plugins" \
    "$with_daemon" "$clients/python/bin/python" tests/clients/compose.py

echo '== dockerode'
NODE_PATH="$clients/node/node_modules" "$with_daemon" node --test tests/clients/dockerode.cjs
