#!/bin/sh
# Makes the Debian package in target/debian. Needs Rust, a C compiler and cargo-deb.
set -eu
cd "$(dirname "$0")/.."

# CARGO_PROFILE: dev makes it quick to try.
profile=${CARGO_PROFILE:-release}
case $profile in dev) built=debug ;; *) built=$profile ;; esac
cargo build --locked --profile "$profile" --bin sockerless-backend-lambda

binary=target/$built/sockerless-backend-lambda
mkdir -p target/deploy
"$binary" man >target/deploy/sockerless-backend-lambda.1
"$binary" completions bash >target/deploy/sockerless-backend-lambda.bash
# The unit lets the daemon write in these places only.
sed -e 's#unix:///var/run/sockerless-backend.sock#unix:///run/sockerless/docker.sock#' \
    -e 's#log_format: text#log_format: json#' deploy/config.example.yaml >target/deploy/lambda.yaml
grep -q unix:///run/sockerless/docker.sock target/deploy/lambda.yaml
case $profile in
    dev) cargo deb --no-build --strip --fast --profile dev ;;
    *) cargo deb --no-build --no-strip --profile "$profile" ;;
esac
