"""Network namespaces: one per machine of the rig, on a bridge that itself lives in a namespace,
so that nothing of the host's network is touched. Names carry the rig's process id."""

import asyncio
import itertools
import os
import re
import shutil
import subprocess
from pathlib import Path

PREFIX = "fgrig"
ETC_NETNS = Path("/etc/netns")
NETNS = Path("/run/netns")


class CommandFailed(Exception):
    """A command of the set-up went wrong."""


def command(*words: str, stdin: str | None = None) -> str:
    """Runs a short command to its end and returns its output; raises `CommandFailed`."""
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(words)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


class Node:
    """One network namespace with its addresses and its own resolv.conf."""

    def __init__(self, namespace: str, port: str) -> None:
        self.namespace = namespace
        self.port = port  # on the bridge

    def resolve_with(self, *servers: str) -> None:
        """Name servers of the processes started in this node from now on."""
        directory = ETC_NETNS / self.namespace
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "resolv.conf").write_text(
            "".join(f"nameserver {server}\n" for server in servers)
        )

    def inside(self, *words: str, uid: int | None = None) -> list[str]:
        """The command line that runs `words` in this node, killed when the rig dies."""
        privileges: tuple[str, ...] = ()
        if uid is not None:
            privileges = (f"--reuid={uid}", f"--regid={uid}", "--clear-groups")
            privileges += ("--bounding-set=-all",)
        return [
            "ip", "netns", "exec", self.namespace,
            "setpriv", "--pdeathsig=KILL", *privileges, "--", *words,
        ]  # fmt: skip

    def run(self, *words: str, stdin: str | None = None) -> str:
        """Runs a short command in this node."""
        return command(*self.inside(*words), stdin=stdin)

    def nft(self, ruleset: str) -> None:
        """Loads an nftables ruleset in this node."""
        self.run("nft", "-f", "-", stdin=ruleset)

    async def listens(self, port: int) -> bool:
        """Whether any socket of this node listens on a TCP port."""
        listing = await asyncio.to_thread(self.run, "ss", "-Hltn", f"sport = :{port}")
        return bool(listing.strip())


class Network:
    """The bridge and all nodes of one run."""

    def __init__(self) -> None:
        self._prefix = f"{PREFIX}{os.getpid()}"
        self._hub = f"{self._prefix}-hub"
        self._names: list[str] = []
        self._ports = itertools.count()

    def open(self) -> None:
        """Makes the bridge, after clearing what runs that were killed have left."""
        sweep()
        self._namespace(self._hub)
        hub = ("ip", "-n", self._hub)
        command(*hub, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
        command(*hub, "link", "set", "br0", "up")

    def node(self, name: str, *addresses: str) -> Node:
        """A new node on the bridge."""
        namespace = f"{self._prefix}-{name}"
        self._namespace(namespace)
        port = f"p{next(self._ports)}"
        # the same address has the same MAC, so that nobody's neighbour table grows stale
        command(
            "ip", "-n", self._hub, "link", "add", port, "type", "veth",
            "peer", "name", "eth0", "address", _mac(addresses[0]), "netns", namespace,
        )  # fmt: skip
        command("ip", "-n", self._hub, "link", "set", port, "master", "br0", "up")
        for address in addresses:
            command("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
        command("ip", "-n", namespace, "link", "set", "eth0", "up")
        node = Node(namespace, port)
        # fedgate's DNS responder has port 53 and runs as an ordinary user
        node.run("sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start")
        return node

    def remove(self, node: Node) -> None:
        """Takes one node away, if that has not been done."""
        if node.namespace in self._names:
            self._names.remove(node.namespace)
            # a socket that waits for its end keeps the namespace alive, which would go on answering
            # at its address
            command("ip", "-n", self._hub, "link", "delete", node.port)
            _delete(node.namespace)

    def close(self) -> None:
        """Takes everything away."""
        for name in reversed(self._names):
            _delete(name)
        self._names.clear()

    def _namespace(self, name: str) -> None:
        command("ip", "netns", "add", name)
        self._names.append(name)
        command("ip", "-n", name, "link", "set", "lo", "up")


def _mac(address: str) -> str:
    return "02:00:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def sweep() -> None:
    """Removes the namespaces of runs whose process is gone."""
    for directory in (NETNS, ETC_NETNS):
        for entry in directory.glob(f"{PREFIX}*") if directory.exists() else ():
            owner = re.match(rf"{PREFIX}(\d+)-", entry.name)
            if owner and not Path(f"/proc/{owner[1]}").exists():
                _delete(entry.name)


def _delete(namespace: str) -> None:
    if (NETNS / namespace).exists():
        command("ip", "netns", "delete", namespace)
    shutil.rmtree(ETC_NETNS / namespace, ignore_errors=True)
