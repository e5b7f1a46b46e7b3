#!/bin/bash
# Tries Dockerfile, docker-compose.yml and docker-compose.redirect.yml: builds the images, brings each
# demonstration up, lets a jabberd2 user and a Prosody user talk through fedgate, and takes everything
# down again.
#
#   tests/compose.sh                         compiles fedgate in the Dockerfile's build stage
#   FEDGATE_BIN=/path/to/fedgate tests/compose.sh
#                                            takes a binary compiled for Debian 12 or older
#
# Runs as root on Debian 12, on packages of Debian's alone (installed when missing): Docker's engine
# is started here, on a socket of its own, and no image registry is asked. The base image is made
# with debootstrap, from the mirror and with the settings that this machine's apt uses. While the
# containers run, the engine lives in a network namespace of its own, so nothing is left of bridges
# and packet filters, and no port of the machine is taken.
#
# FEDGATE_CACHE (default /var/tmp/fedgate-compose) keeps the base image and the built layers: the
# second run takes about a minute. Remove the directory to start afresh.

set -euo pipefail
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
cd "$(dirname "$0")/.."
source=$PWD
cache=${FEDGATE_CACHE:-/var/tmp/fedgate-compose}

[ "$(id -u)" = 0 ] || { echo "compose.sh: must be run as root" >&2; exit 64; }
[ -z "${FEDGATE_BIN:-}" ] || [ -x "$FEDGATE_BIN" ] || { echo "compose.sh: $FEDGATE_BIN is not there" >&2; exit 64; }
[ -d "$cache" ] || mkdir -m 0700 "$cache"
[ -O "$cache" ] && [ ! -L "$cache" ] || { echo "compose.sh: $cache belongs to somebody else" >&2; exit 64; }
exec 9> "$cache/lock"
flock -w 600 9 || { echo "compose.sh: another run holds $cache" >&2; exit 1; }

work=$(mktemp -d /tmp/fedgate-compose.XXXXXX)
export DOCKER_HOST=unix://$work/docker.sock DOCKER_CONFIG=$work/config DOCKER_BUILDKIT=1 COMPOSE_DOCKER_CLI_BUILD=1
export COMPOSE_PROJECT_NAME=fedgate-test BASE=fedgate-test-base RUST_BASE=
engine='' up=no passed=0 failed=0
file=docker-compose.yml

compose() { timeout --foreground "$1" docker-compose -f "$source/$file" -f "$work/$file" "${@:2}"; }
docker() { timeout --foreground 120 docker "$@"; }

# check NAME COMMAND...: counts, and shows what a failed command said.
check() {
    local name=$1
    shift
    if "$@" > "$work/said" 2>&1; then
        passed=$((passed + 1))
        echo "ok    $name"
    else
        failed=$((failed + 1))
        echo "FAIL  $name"
    fi
    sed 's/^/        /' "$work/said"
}

# engine_start NET: "host" to build, which needs the package mirror; "own" to run.
engine_start() {
    local engine_flags=(--host "$DOCKER_HOST" --data-root "$cache/docker" --exec-root "$work/docker"
        --pidfile "$work/docker.pid" --containerd "$work/containerd.sock"
        --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /fedgate-test)
    local unshare_flags=(--mount --pid --mount-proc --fork --kill-child)
    if [ "$1" = own ]; then
        unshare_flags+=(--net)
    else
        engine_flags+=(--bridge none --iptables=false --ip6tables=false --ip-forward=false)
    fi
    cat > "$work/containerd.toml" <<EOF
version = 2
root = "$cache/containerd"
state = "$work/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "$work/containerd.sock"
EOF
    # The shell is init of a PID namespace: when it ends, nothing that it started is left.
    unshare "${unshare_flags[@]}" sh -c '
        ip link set lo up
        containerd --config "$0" & containerd=$!
        dockerd "$@" & dockerd=$!
        trap "kill $dockerd" TERM
        wait $dockerd || wait $dockerd
        kill $containerd
        wait $containerd
    ' "$work/containerd.toml" "${engine_flags[@]}" >> "$work/engine.log" 2>&1 9>&- &
    engine=$!
    for _ in $(seq 60); do
        if docker info > "$work/info" 2>&1; then return; fi
        kill -0 "$engine" 2>/dev/null || break
        sleep 0.5
    done
    echo "compose.sh: the engine does not start" >&2
    tail -n 30 "$work/engine.log" >&2
    exit 1
}

# The engine's init, as this machine numbers it.
engine_init() { cat "/proc/$engine/task/$engine/children"; }

engine_stop() {
    [ -n "$engine" ] || return 0
    kill -TERM $(engine_init) 2>/dev/null || true
    for _ in $(seq 60); do
        kill -0 "$engine" 2>/dev/null || break
        sleep 0.5
    done
    kill -KILL "$engine" 2>/dev/null || true # takes the rest along (--kill-child)
    wait "$engine" 2>/dev/null || true
    engine=''
    # Empty ones only: rmdir takes no others.
    find /sys/fs/cgroup -depth -type d \( -path '*/fedgate-test*' -o -path '*/docker/buildkit' -o -name docker \) \
        -exec rmdir {} + 2>/dev/null || true
}

down() {
    compose 120 down --volumes --remove-orphans --timeout 10 > "$work/down" 2>&1 || cat "$work/down"
    up=no
}

finish() {
    local code=$?
    trap - EXIT
    set +e
    if [ "$up" = yes ]; then
        if [ "$code" != 0 ] || [ "$failed" != 0 ]; then
            compose 60 logs --no-color --tail 60
        fi
        down
    fi
    engine_stop
    rm -rf "$work"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

# --- packages -------------------------------------------------------------------------------------
packages=(debootstrap bind9-dnsutils docker-compose docker.io iproute2 util-linux)
if ! dpkg-query -W -f '${db:Status-Abbrev}\n' "${packages[@]}" 2>/dev/null | grep -c '^ii' | grep -qx ${#packages[@]}; then
    echo "installing ${packages[*]}"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"; } \
        > "$work/apt" 2>&1 || { cat "$work/apt"; exit 1; }
fi

# --- base image: Debian as this machine's apt gets it ---------------------------------------------
engine_start host
if ! docker image inspect "$BASE" > /dev/null 2>&1; then
    echo "making the base image"
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' 'Component: main' | head -n 1)
    eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
    http_proxy=${http_proxy:-} timeout 600 debootstrap --variant=minbase bookworm "$work/root" \
        "${mirror:-http://deb.debian.org/debian}" > "$work/debootstrap" 2>&1 || { cat "$work/debootstrap"; exit 1; }
    apt-config dump | grep -iE '^Acquire::(Check|Retries|https?::(Proxy|Timeout))' > "$work/root/etc/apt/apt.conf.d/90machine" || true
    # As in the official images: services are not started, documentation is left out.
    printf '#!/bin/sh\nexit 101\n' > "$work/root/usr/sbin/policy-rc.d"
    chmod +x "$work/root/usr/sbin/policy-rc.d"
    printf 'path-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\n' > "$work/root/etc/dpkg/dpkg.cfg.d/docker"
    rm -rf "$work/root"/var/cache/apt/archives/*.deb "$work/root"/var/lib/apt/lists/* "$work/root"/usr/share/{doc,man}/*
    tar -C "$work/root" --numeric-owner -c . | docker import --change 'CMD ["bash"]' - "$BASE" > /dev/null
    rm -rf "$work/root"
fi

# --- what stands in for the rust image, or the binary ---------------------------------------------
mkdir "$work/context"
if [ -n "${FEDGATE_BIN:-}" ]; then
    cp "$FEDGATE_BIN" "$work/context/fedgate"
    cp Dockerfile "$work/context/"
    context=$work/context binary=prebuilt
else
    context=$source binary=build
    RUST_BASE=fedgate-test-rust:$(rustc --version | awk '{print $2}')
    if ! docker image inspect "$RUST_BASE" > /dev/null 2>&1; then
        echo "making the rust image out of this machine's toolchain"
        sysroot=$(rustc --print sysroot)
        mkdir -p "$work/rust/toolchain"
        cp -a "$sysroot/bin" "$sysroot/lib" "$work/rust/toolchain/"
        cp -L /etc/ssl/certs/ca-certificates.crt "$work/rust/" # the crates' mirror may have a root of its own
        cp "${CARGO_HOME:-$HOME/.cargo}"/config* "$work/rust/toolchain/" 2>/dev/null || true
        cat > "$work/rust/Dockerfile" <<'EOF'
ARG BASE
FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends build-essential ca-certificates cmake git && rm -rf /var/lib/apt/lists/*
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY toolchain /usr/local/cargo
ENV CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
EOF
        timeout 600 docker build -q --network host --build-arg BASE -t "$RUST_BASE" "$work/rust" > /dev/null
        rm -rf "$work/rust"
    fi
fi

# What differs here from the files as they are: builds use the machine's network to reach its mirror.
cat > "$work/docker-compose.yml" <<EOF
services:
  fedgate: { build: { context: "$context", network: host, args: { BINARY: $binary } } }
  jabberd2: { build: { network: host } }
  prosody: { build: { network: host } }
  dns: { build: { network: host } }
  client: { build: { network: host } }
EOF
{
    cat "$work/docker-compose.yml"
    echo "  host: { build: { context: \"$context\", network: host, args: { BINARY: $binary } } }"
} > "$work/docker-compose.redirect.yml"
echo "building the images"
build() {
    file=$1
    for service in "${@:2}"; do
        compose 3000 build "$service" > "$work/build" 2>&1 || { cat "$work/build"; exit 1; }
    done
}
build docker-compose.yml fedgate jabberd2 prosody dns client
build docker-compose.redirect.yml host jabberd2
docker image prune -f > /dev/null # what the builds before this one left
engine_stop

# --- up -------------------------------------------------------------------------------------------
engine_start own

id() { compose 30 ps -q "$1"; }
is() { [ "$1" = "$2" ] || { echo "$1, not $2"; return 1; }; }
healthy() {
    local status
    for _ in $(seq 30); do
        status=$(docker inspect -f '{{.State.Health.Status}}' "$(id "$1")")
        [ "$status" != healthy ] || return 0
        sleep 1
    done
    echo "$status"
    return 1
}
# A tool of this machine, in the network of a container.
inside() {
    local pid
    pid=$(docker inspect -f '{{.State.Pid}}' "$(id "$1")")
    timeout 20 nsenter -t "$(engine_init | tr -d ' ')" -m -p nsenter -t "$pid" -n "${@:2}"
}
steered() {
    local answer
    answer=$(inside jabberd2 dig +short +time=2 +tries=2 @127.0.0.11 _xmpp-server._tcp.modern.example SRV)
    echo "$answer"
    is "$(echo "$answer" | awk '{print $3}')" 5268
}

start() { # FILE CONFIGURATION
    file=$1
    echo "$file"
    check "the demonstration's configuration is in order" docker run --rm --network none --read-only \
        -v "$source/docker/fedgate/$2:/etc/fedgate/conf.d:ro" fedgate check-config --config /etc/fedgate/conf.d
    up=yes
    local before=$failed
    check "the containers start" compose 300 up -d --no-build --no-color
    [ "$failed" = "$before" ] || { echo "$passed passed, $failed failed"; exit 1; }
    for service in $(compose 30 config --services | grep -v client); do
        check "$service is healthy" healthy "$service"
    done
    check "fedgate runs as a user, on a read-only file system" \
        is "$(docker inspect -f '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}' "$(id fedgate)")" '64123:64123 true [ALL]'
}
talk() {
    check "both users log in" compose 60 run --rm client --login-only --timeout 40
    check "messages arrive both ways" compose 120 run --rm client --timeout 90
}

start docker-compose.yml conf.d
size=$(docker image inspect -f '{{.Size}}' fedgate)
check "its image is small: $((size / 1000000)) MB" test "$size" -lt 60000000
check "jabberd2's resolver sends every domain to fedgate" steered
talk
check "fedgate ends in order on SIGTERM" docker stop -t 15 "$(id fedgate)"
check "with exit code 0" is "$(docker inspect -f '{{.State.ExitCode}}' "$(docker ps -aq --filter label=com.docker.compose.service=fedgate)")" 0
down

start docker-compose.redirect.yml redirect.d
check "what holds the network has no privilege left" \
    is "$(inside host sh -c 'for task in /proc/[0-9]*; do grep -qs "^sleep" $task/comm && grep CapEff $task/status; done' | awk '{print $2}')" 0000000000000000
check "jabberd2 finds the peer itself" \
    is "$(inside jabberd2 dig +short +time=2 +tries=2 @127.0.0.11 _xmpp-server._tcp.modern.example SRV | awk '{print $4}')" xmpp.modern.example.
talk
check "through fedgate" sh -c 'echo "$1" | grep -q "stream negotiated.*legacy.example→modern.example"' - "$(compose 30 logs --no-color fedgate)"
# The namespace goes with the container that holds it; with the next one the redirect is there again.
check "the host starts again" compose 120 up -d --no-build --no-color --force-recreate
check "with the redirect" healthy host
check "and fedgate" healthy fedgate
check "and jabberd2" healthy jabberd2
talk

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
