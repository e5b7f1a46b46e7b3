"""The Debian packages the rig stands on, installed when missing and when run as root."""

import os
import shutil
import subprocess
from pathlib import Path

PACKAGES = (
    "prosody",
    "lua-unbound",
    "ejabberd",
    "jabberd2",
    "knot",
    "knot-dnsutils",
    "unbound",
    "bind9-utils",
    "nginx-light",
    "openssl",
    "iproute2",
    "nftables",
    "util-linux",
    "faketime",
    "python3-slixmpp",
    "python3-cryptography",
)
POLICY = Path("/usr/sbin/policy-rc.d")


class Missing(Exception):
    """Packages are missing and cannot be installed."""


def ensure() -> None:
    """Installs what is missing, starting no service; raises `Missing` if it cannot."""
    missing = [name for name in PACKAGES if not _installed(name)]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Missing("missing Debian packages: " + " ".join(missing))
    print("installing", *missing, flush=True)
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        _apt("update", "-q")
        _apt("install", "-q", "-y", "--no-install-recommends", *missing)
    finally:
        if ours:
            POLICY.unlink()


def _installed(name: str) -> bool:
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status}", name]
    return subprocess.run(query, capture_output=True, text=True).stdout == "installed"


def _apt(*arguments: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(["apt-get", *arguments], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise Missing(f"apt-get {arguments[0]}: {done.stderr.strip()[-800:]}")
