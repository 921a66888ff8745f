#!/usr/bin/env bash
# Makes an OCI image layout with Debian's busybox-static, as `docker pull busybox` would bring it: busybox.sh DIRECTORY
#
# The image is called busybox:latest. With NAME[:TAG] as the second argument it is called that; further ones, PATH=FILE, are
# programs that are put there, of which the first is the image's command instead of sh. Takes the installed package, or else
# downloads it without installing it; BUSYBOX names another static busybox to take.
set -euo pipefail

target=$1
name=${2:-busybox}
tag=${name#*:}
[ "$tag" != "$name" ] || tag=latest
name=${name%%:*}
command=sh
namespace=library/
[ "${name#*/}" = "$name" ] || namespace=
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

busybox=${BUSYBOX:-}
if [ -z "$busybox" ] && dpkg -s busybox-static >/dev/null 2>&1; then
    busybox=$(command -v busybox)
fi
if [ -z "$busybox" ]; then
    (cd "$work" && apt-get download -qq -o APT::Sandbox::User=root busybox-static >/dev/null && dpkg-deb -x busybox-static_*.deb package)
    busybox=$(find "$work/package" -path "*/bin/busybox" -type f)
fi

# The root: one program with many names.
root="$work/root"
mkdir -p "$root/bin" "$root/etc" "$root/home" "$root/root" "$root/tmp" "$root/usr/bin" "$root/var"
chmod 1777 "$root/tmp"
install -m 755 "$busybox" "$root/bin/busybox"
for applet in $("$root/bin/busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
for given in "${@:3}"; do
    [ "$command" != sh ] || command=${given%%=*}
    install -D -m 755 "${given#*=}" "$root${given%%=*}"
done
ln -s ../../bin/env "$root/usr/bin/env"
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"

digest_of() { sha256sum "$1" | cut -d' ' -f1; }
blobs="$target/blobs/sha256"
put() { # file → digest
    local digest
    digest=$(digest_of "$1")
    cp "$1" "$blobs/$digest"
    printf %s "$digest"
}

mkdir -p "$blobs"
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C "$root" -cf "$work/layer.tar" .
diff_id=$(digest_of "$work/layer.tar")
gzip -n "$work/layer.tar"
layer=$(put "$work/layer.tar.gz")
case $(uname -m) in
    x86_64) architecture=amd64 ;;
    aarch64) architecture=arm64 ;;
    *) architecture=$(uname -m) ;;
esac

cat >"$work/config" <<END
{"architecture":"$architecture","os":"linux","config":{"Cmd":["$command"],"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
"rootfs":{"type":"layers","diff_ids":["sha256:$diff_id"]},"history":[{"created_by":"tests/images/busybox.sh"}]}
END
config=$(put "$work/config")
oci=application/vnd.oci.image
cat >"$work/manifest" <<END
{"schemaVersion":2,"mediaType":"$oci.manifest.v1+json",
"config":{"mediaType":"$oci.config.v1+json","digest":"sha256:$config","size":$(stat -c %s "$work/config")},
"layers":[{"mediaType":"$oci.layer.v1.tar+gzip","digest":"sha256:$layer","size":$(stat -c %s "$work/layer.tar.gz")}]}
END
manifest=$(put "$work/manifest")
cat >"$target/index.json" <<END
{"schemaVersion":2,"manifests":[{"mediaType":"$oci.manifest.v1+json","digest":"sha256:$manifest","size":$(stat -c %s "$work/manifest"),
"annotations":{"io.containerd.image.name":"docker.io/${namespace}$name:$tag","org.opencontainers.image.ref.name":"$tag"}}]}
END
printf '{"imageLayoutVersion":"1.0.0"}' >"$target/oci-layout"
