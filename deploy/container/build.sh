#!/bin/sh
# What the image is made of: build.sh DESTINATION makes the daemon and the root that it runs in.
# The Dockerfile runs it in its first stage; anywhere else it needs Rust and a C compiler.
set -eu
destination=$1
cd "$(dirname "$0")/../.."

# CARGO_PROFILE: dev makes it quick to try.
profile=${CARGO_PROFILE:-release}
# Without the embedded sandbox: an image that talks to AWS needs none.
cargo build --locked --profile "$profile" --no-default-features --bin sockerless-backend-lambda
case $profile in dev) built=debug ;; *) built=$profile ;; esac

root=$destination
install -d "$root/usr/bin" "$root/etc/sockerless" "$root/etc/ssl/certs"
install -m 0755 "${CARGO_TARGET_DIR:-target}/$built/sockerless-backend-lambda" "$root/usr/bin/"
# The authorities that AWS's certificates are verified with.
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
# What the image needs to be different. The environment counts for more; a file that is mounted here takes its place.
cat >"$root/etc/sockerless/lambda.yaml" <<'END'
lambda:
  listen:
    - unix:///run/sockerless/docker.sock
  database: /var/lib/sockerless/lambda.db
  log_format: json
END
chmod 0644 "$root/etc/sockerless/lambda.yaml"
printf 'sockerless:x:65532:65532::/var/lib/sockerless:/usr/sbin/nologin\n' >"$root/etc/passwd"
printf 'sockerless:x:65532:\n' >"$root/etc/group"
# Only these two can be written, and only by the daemon's user.
install -d -m 0700 "$root/var/lib/sockerless"
install -d -m 0750 "$root/run/sockerless"
chown -R 65532:65532 "$root/var/lib/sockerless" "$root/run/sockerless"
