#!/bin/bash
# Makes the Debian package, and installs it as a new user would: on a machine of its own (a container
# with systemd, Debian 12), beside each of Debian's servers, word for word as README.md and the
# guides in examples/ say, until messages go both ways.
#
#   tests/package.sh                         compiles fedgate
#   FEDGATE_BIN=/path/to/fedgate tests/package.sh
#                                            takes a binary compiled for Debian 12 or older
#   tests/package.sh 'machine-ejabberd*'     only these scenarios; they are listed by
#                                            RIG_MACHINE=/ tests/interop.sh --list
#
# Runs as root on Debian 12, on packages of Debian's and cargo-deb (installed when missing).
# FEDGATE_CACHE (default /var/tmp/fedgate-package) keeps the machine and cargo-deb; remove it to start
# afresh.

set -euo pipefail
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
cd "$(dirname "$0")/.."
cache=${FEDGATE_CACHE:-/var/tmp/fedgate-package}
root=$cache/root

[ "$(id -u)" = 0 ] || { echo "package.sh: must be run as root" >&2; exit 64; }
[ -z "${FEDGATE_BIN:-}" ] || [ -x "$FEDGATE_BIN" ] || { echo "package.sh: $FEDGATE_BIN is not there" >&2; exit 64; }
[ -d "$cache" ] || mkdir -m 0700 "$cache"
[ -O "$cache" ] && [ ! -L "$cache" ] || { echo "package.sh: $cache belongs to somebody else" >&2; exit 64; }
exec 9> "$cache/lock"
flock -w 600 9 || { echo "package.sh: another run holds $cache" >&2; exit 1; }
work=$(mktemp -d /tmp/fedgate-package.XXXXXX)
trap 'rm -rf "$work"' EXIT
quietly() { "$@" > "$work/said" 2>&1 || { cat "$work/said"; exit 1; }; }

# --- tools ----------------------------------------------------------------------------------------
packages=(debootstrap lintian systemd-container)
if ! dpkg-query -W -f '${db:Status-Abbrev}\n' "${packages[@]}" 2>/dev/null | grep -c '^ii' | grep -qx ${#packages[@]}; then
    echo "installing ${packages[*]}"
    quietly apt-get update
    DEBIAN_FRONTEND=noninteractive quietly apt-get install -y --no-install-recommends "${packages[@]}"
fi
if ! command -v cargo-deb > /dev/null; then
    PATH=$cache/tools/bin:$PATH
    if ! command -v cargo-deb > /dev/null; then
        echo "installing cargo-deb"
        quietly cargo install --locked --root "$cache/tools" --target-dir "$work/cargo-deb" cargo-deb
    fi
fi

# --- the package ----------------------------------------------------------------------------------
if [ -z "${FEDGATE_BIN:-}" ]; then
    echo "compiling fedgate"
    cargo build --release --locked --bin fedgate
    FEDGATE_BIN=${CARGO_TARGET_DIR:-target}/release/fedgate
fi
install -D "$FEDGATE_BIN" "$work/target/release/fedgate"
CARGO_TARGET_DIR=$work/target quietly examples/debian/build --no-build --output "$work/fedgate.deb"
dpkg-deb --show --showformat '${Package} ${Version} for ${Architecture}, needs ${Depends}\n' "$work/fedgate.deb"
# What only Debian's own archive asks for is left out.
quietly lintian --allow-root --fail-on error \
    --suppress-tags no-changelog,copyright-not-using-common-license-for-apache2 "$work/fedgate.deb"

# --- the machine ----------------------------------------------------------------------------------
if [ ! -e "$cache/machine-is-ready" ]; then
    echo "making the machine"
    rm -rf "$root"
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' 'Component: main' | head -n 1)
    eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
    http_proxy=${http_proxy:-} quietly timeout 600 debootstrap --variant=minbase \
        --include=bind9-dnsutils,ca-certificates,dbus,iproute2,nftables,patch,systemd-sysv \
        bookworm "$root" "${mirror:-http://deb.debian.org/debian}"
    apt-config dump | grep -iE '^Acquire::(Check|Retries|https?::(Proxy|Timeout))' > "$root/etc/apt/apt.conf.d/90machine" || true
    printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"
    quietly chroot "$root" apt-get update
    DEBIAN_FRONTEND=noninteractive quietly chroot "$root" apt-get install -y --no-install-recommends \
        ejabberd jabberd2 lua-unbound prosody
    rm "$root/usr/sbin/policy-rc.d"
    quietly chroot "$root" systemctl disable ejabberd epmd prosody \
        jabberd jabberd-c2s jabberd-router jabberd-s2s jabberd-sm

    # The servers as somebody has set them up for legacy.test: clients log in without TLS.
    (
        cd "$root/etc/jabberd2"
        sed -i "s|<id [^>]*>localhost.localdomain</id>|<id>legacy.test</id>|; s|<module>sqlite</module>|<module>pipe</module>|
            s|/usr/sbin/pipe-auth.pl|/usr/local/bin/let-in|" c2s.xml
        sed -i 's|<id>localhost.localdomain</id>|<id>legacy.test</id>|; s|<driver>sqlite</driver>|<driver>db</driver>|
            /<!--$/ { N; N; s|<!--\n *<auto-create/>\n *-->|<auto-create/>| }' sm.xml
        printf '#!/bin/sh\necho OK USER-EXISTS CHECK-PASSWORD FREE\nwhile read -r word rest; do [ "$word" != FREE ] || exit; echo OK; done\n' \
            > "$root/usr/local/bin/let-in"
        chmod +x "$root/usr/local/bin/let-in"
        sed -i 's/^  - localhost$/  - legacy.test/; s/starttls_required: true/starttls_required: false/' "$root/etc/ejabberd/ejabberd.yml"
        rm "$root"/etc/prosody/conf.d/*
        # libunbound answers test. by itself (RFC 6761) unless told not to
        sed -i 's/^VirtualHost "localhost"/c2s_require_encryption = false\nallow_unencrypted_plain_auth = true\nunbound = { resolvconf = true, options = { ["local-zone:"] = "test. transparent" } }\nVirtualHost "legacy.test"/' \
            "$root/etc/prosody/prosody.cfg.lua"
    )
    touch "$cache/machine-is-ready"
fi
install -m 0644 "$work/fedgate.deb" "$root/var/tmp/fedgate.deb"

# --- the scenarios --------------------------------------------------------------------------------
[ $# -gt 0 ] || set -- 'machine*'
RIG_MACHINE=$root FEDGATE_BIN=$work/target/release/fedgate tests/interop.sh "$@"
