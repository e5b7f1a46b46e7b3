"""The DNS of the rig: Knot serves the signed zone `test.`, Unbound validates it against its key."""

from pathlib import Path

from .net import Network, Node, command
from .plan import HOSTS, KNOT, STARTTLS, UNBOUND
from .process import Process

KNOT_CONFIG = """
server:
    rundir: "{dir}/run"
    listen: {address}@53
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "{dir}/db"
log:
  - target: stderr
    any: info
policy:
  - id: signed
    algorithm: ecdsap256sha256
    nsec3: off
zone:
  - domain: test.
    file: "{dir}/test.zone"
    zonefile-load: difference
    journal-content: all
    zonefile-sync: -1
    dnssec-signing: on
    dnssec-policy: signed
"""

UNBOUND_CONFIG = """
server:
    directory: "{dir}"
    chroot: ""
    username: ""
    pidfile: ""
    do-daemonize: no
    use-syslog: no
    logfile: ""
    verbosity: 1
    num-threads: 1
    interface: {address}
    access-control: 10.77.0.0/24 allow
    do-ip6: no
    # names come and go: no denial may be put together from those that were heard before
    aggressive-nsec: no
    module-config: "validator iterator"
    trust-anchor-file: "{anchor}"
    # the private world holds nothing but test.
    local-zone: "." static
    local-zone: "test." transparent
    cache-max-negative-ttl: 1
    cache-max-ttl: 5
    infra-host-ttl: 1
    qname-minimisation: no
remote-control:
    control-enable: no
stub-zone:
    name: "test."
    stub-addr: {knot}
"""


class Dns:
    """The authoritative server and the validating resolver, in one node with two addresses."""

    def __init__(self, network: Network, directory: Path) -> None:
        self._directory = directory
        self.node: Node = network.node("dns", KNOT, UNBOUND)
        self.anchor = directory / "anchor"
        self._processes: list[Process] = []

    async def start(self) -> None:
        """Writes and signs the zone and starts both servers."""
        await self._start_knot()
        await self._start_unbound()

    async def stop(self) -> None:
        for process in reversed(self._processes):
            await process.stop()

    def silence(self) -> None:
        """From now on no query to the resolver is answered."""
        self.node.nft(
            "table ip silence {\n chain input {\n  type filter hook input priority 0\n"
            f"  ip daddr {UNBOUND} meta l4proto {{ udp, tcp }} th dport 53 drop\n }}\n}}\n"
        )

    async def kill(self) -> None:
        """Ends the resolver without its help."""
        resolver = self._processes.pop()
        resolver.kill()
        await resolver.ended(5)

    async def revive(self) -> None:
        """Starts it again."""
        await self._start_unbound()

    def speak(self) -> None:
        """Ends the silence."""
        self.node.nft("delete table ip silence\n")

    def publish(self, domain: str, host: str) -> None:
        """Adds a domain to the zone while the servers run."""
        service, port = STARTTLS
        self.set(f"{service}.{domain}", "SRV", f"10 10 {port} {host}.")

    def withdraw(self, domain: str) -> None:
        """Takes a published domain away again."""
        service, _ = STARTTLS
        self.unset(f"{service}.{domain}")

    def set(self, name: str, kind: str, data: str) -> None:
        """Adds a record, signed like the others."""
        self._change("zone-set", f"{name}.", "5", kind, data)

    def replace(self, name: str, kind: str, *data: str, new: bool = False) -> None:
        """Other records in place of all those of a name, at once; `new` if it has none."""
        changes: list[tuple[str, ...]] = [] if new else [("zone-unset", f"{name}.")]
        changes += [("zone-set", f"{name}.", "5", kind, text) for text in data]
        self._commit(changes)

    def unset(self, name: str) -> None:
        """Takes all records of a name away."""
        self._change("zone-unset", f"{name}.")

    def _change(self, verb: str, *record: str) -> None:
        self._commit([(verb, *record)])

    def _commit(self, changes: list[tuple[str, ...]]) -> None:
        control = ("knotc", "-s", str(self._directory / "knot" / "run" / "knot.sock"))
        self.node.run(*control, "zone-begin", "test.")
        for verb, *record in changes:
            self.node.run(*control, verb, "test.", *record)
        self.node.run(*control, "zone-commit", "test.")

    def ask(self, name: str, kind: str) -> str:
        """The resolver's answer as kdig prints it, with header flags."""
        return self.node.run("kdig", f"@{UNBOUND}", "+adflag", "+timeout=3", name, kind)

    async def _start_knot(self) -> None:
        home = self._directory / "knot"
        for part in ("run", "db"):
            (home / part).mkdir(parents=True)
        (home / "test.zone").write_text(_zone())
        config = home / "knot.conf"
        config.write_text(KNOT_CONFIG.format(dir=home, address=KNOT))
        keymgr = ("keymgr", "-c", str(config), "test.")
        for options in (("ksk=yes", "zsk=no"), ("ksk=no", "zsk=yes")):
            command(*keymgr, "generate", "algorithm=ecdsap256sha256", *options)
        self.anchor.write_text(command(*keymgr, "dnskey"))
        await self._run("knot", ["knotd", "-c", str(config)], KNOT)

    async def _start_unbound(self) -> None:
        config = self._directory / "unbound.conf"
        config.write_text(
            UNBOUND_CONFIG.format(
                dir=self._directory, address=UNBOUND, anchor=self.anchor, knot=KNOT
            )
        )
        await self._run("unbound", ["unbound", "-d", "-p", "-c", str(config)], UNBOUND)

    async def _run(self, name: str, words: list[str], address: str) -> None:
        log = self._directory / f"{name}.log"
        process = await Process.start(name, self.node.inside(*words), log)
        self._processes.append(process)

        async def answers() -> bool:
            query = f"kdig +short +timeout=1 +retry=0 @{address} test. SOA"
            return "10 20" in self.node.run("sh", "-c", f"{query} || true")

        await process.ready(answers, 20)


def _zone() -> str:
    lines = [
        "$ORIGIN test.",
        "$TTL 5",
        "@ SOA ns hostmaster 1 10 20 3600 1",
        "@ NS ns",
        f"ns A {KNOT}",
    ]
    for host in HOSTS:
        lines.append(f"{host.name}. A {host.address}")
        for domain in host.domains:
            for service, port in host.services:
                lines.append(f"{service}.{domain}. SRV 10 10 {port} {host.name}.")
    return "\n".join(lines) + "\n"
