#!/usr/bin/env bash
# Installs the clients that the tests here use into target/ci-tools/clients, each in the way of its own registry:
# docker-py from PyPI, dockerode from npm, the newest docker CLI and compose that Debian has, unpacked and not installed.
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
clients="$here/../../target/ci-tools/clients"
mkdir -p "$clients"
clients=$(cd "$clients" && pwd)

# changed NAME FILE…: whether the files are not those of the last installation.
changed() {
    local name=$1
    shift
    ! cat "$@" | cmp --silent - "$clients/$name.installed"
}
installed() {
    local name=$1
    shift
    cat "$@" >"$clients/$name.installed"
}

if changed python requirements.txt; then
    rm -rf "$clients/python"
    python3 -m venv "$clients/python"
    "$clients/python/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
    installed python requirements.txt
fi

if changed node package.json package-lock.json; then
    mkdir -p "$clients/node"
    cp package.json package-lock.json "$clients/node/"
    npm ci --silent --ignore-scripts --no-audit --no-fund --prefix "$clients/node"
    installed node package.json package-lock.json
fi

# Debian's own client fetches and checks the packages of another release, with lists and cache of our own.
if changed debian debian.sources; then
    root="$clients/debian"
    rm -rf "$root"
    mkdir -p "$root/lists/partial" "$root/cache/archives/partial" "$root/packages"
    apt=(-o "Dir::Etc::sourcelist=$here/debian.sources" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$root/lists" -o "Dir::Cache=$root/cache" -o APT::Sandbox::User=root
        -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)
    apt-get "${apt[@]}" update -qq
    (cd "$root/packages" && apt-get "${apt[@]}" download -qq docker-cli docker-compose)
    for package in "$root"/packages/*.deb; do
        dpkg --extract "$package" "$root/files"
    done
    rm -rf "$root/lists" "$root/cache" "$root/packages"
    "$root/files/usr/bin/docker" --version >/dev/null
    installed debian debian.sources
fi
