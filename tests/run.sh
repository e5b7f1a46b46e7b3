#!/usr/bin/env bash
# Passes the tests: unit, integration, and interoperability with real servers.
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
if [ "$(id -u)" = 0 ] && ! command -v cc >/dev/null; then
    apt-get update
fi
need cc build-essential

cargo build --locked --bins --examples
cargo test --locked
"${CARGO_TARGET_DIR:-target}"/debug/examples/demo

if [ "$(id -u)" != 0 ]; then
    echo "tests/run.sh: the interoperability tests need root (network namespaces)" >&2
    exit 1
fi
FEDGATE_BIN="${CARGO_TARGET_DIR:-$PWD/target}/debug/fedgate" tests/interop.sh
