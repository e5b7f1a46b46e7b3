#!/usr/bin/env bash
# Passes the tests: unit, integration, the status page in a browser, the alerts, and
# interoperability with real servers.
# Installs what it needs with apt-get when run as root on Debian. Fails if anything was skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

need() { # command package
    command -v "$1" >/dev/null && return
    if [ "$(id -u)" != 0 ]; then
        echo "tests/run.sh: $1 is missing; run as root, or install the package $2" >&2
        exit 1
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$2"
}

command -v cargo >/dev/null || {
    echo "tests/run.sh: cargo is missing: install Rust (rust-version in Cargo.toml)" >&2
    exit 1
}
if [ "$(id -u)" = 0 ] && ! { command -v cc && command -v chromedriver && command -v promtool; } >/dev/null; then
    apt-get update
fi
need cc build-essential
need make build-essential
need python3 python3
need chromium chromium
need chromedriver chromium-driver
need promtool prometheus

python3 tests/supply.py
cargo build --locked --bins --examples
cargo test --locked
"${CARGO_TARGET_DIR:-target}"/debug/examples/demo
# That the benchmark runs; what it measures here means nothing.
"${CARGO_TARGET_DIR:-target}"/debug/examples/bench --quick --runs 1 \
    'bulk/*/300/8/*' 'bulk/in/4000/1/many' 'bulk/out/64000*/1/*' 'ping-pong/300*' 'set-up/*' joining/out \
    idle/1000 start/small 'flat/pairs*' flat/peers-active flat/rules
python3 -m tests.page "${CARGO_TARGET_DIR:-target}"/debug/fedgate
promtool check rules examples/prometheus/fedgate.rules.yml
promtool test rules examples/prometheus/fedgate.test.yml
promtool check config --syntax-only examples/prometheus/prometheus.yml

if [ "$(id -u)" != 0 ]; then
    echo "tests/run.sh: the interoperability tests need root (network namespaces)" >&2
    exit 1
fi
FEDGATE_BIN="${CARGO_TARGET_DIR:-$PWD/target}/debug/fedgate" tests/interop.sh
