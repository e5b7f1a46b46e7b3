"""Zones of every DNSSEC state under `example.`, signed beforehand: signed, not signed, signed with
signatures that have expired, and signed with the records changed afterwards. Knot serves them, and
an Unbound that validates nothing resolves them, so that it is fedgate that has to."""

import re
from pathlib import Path

from .net import Network, Node, command
from .process import Process

ROOT = "example"
SECURE = f"secure.{ROOT}"
INSECURE = f"insecure.{ROOT}"  # not signed, and the zone above says so
EXPIRED = f"expired.{ROOT}"
ZONES = (SECURE, INSECURE, EXPIRED)
KNOT = "10.77.0.4"
UNBOUND = "10.77.0.5"
TTL = 300

KNOT_CONFIG = """
server:
    rundir: "{dir}"
    listen: {address}@53
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "{dir}/db"
log:
  - target: stderr
    any: info
"""

KNOT_ZONE = """
  - domain: {zone}.
    file: "{file}"
    zonefile-load: whole
    zonefile-sync: -1
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
    module-config: "iterator"
    local-zone: "." static
    local-zone: "{root}." transparent
    infra-host-ttl: 1
    qname-minimisation: no
remote-control:
    control-enable: no
stub-zone:
    name: "{root}."
    stub-addr: {knot}
"""


class Zones:
    """The zones while they are written, and then their servers in a node of their own."""

    def __init__(self, network: Network, directory: Path) -> None:
        self._directory = directory
        self._network = network
        self._records: dict[str, list[str]] = {zone: [] for zone in (ROOT, *ZONES)}
        self._forged: list[tuple[str, str]] = []
        self._processes: list[Process] = []
        self._node: Node | None = None
        self.anchor = directory / f"{ROOT}.anchor"

    def add(self, name: str, kind: str, data: str) -> None:
        """A record; the zone is found by the name."""
        zone = next((zone for zone in ZONES if name.endswith(f".{zone}")), ROOT)
        self._records[zone].append(f"{name}. {TTL} IN {kind} {data}")

    def forge(self, name: str, kind: str) -> None:
        """What is added under this name and type shall have a signature that does not match."""
        self._forged.append((name, kind))

    async def start(self) -> None:
        """Signs the zones and starts the servers."""
        self._directory.mkdir(parents=True, exist_ok=True)
        signed = [self._sign(zone) for zone in (SECURE, EXPIRED)]
        self._records[ROOT] += [f"{zone}. IN NS ns.{ROOT}." for zone in ZONES]
        for zone in (SECURE, EXPIRED):
            self._records[ROOT].append((self._directory / f"dsset-{zone}.").read_text())
        signed.append(self._sign(ROOT))
        signed.append((INSECURE, self._write(INSECURE)))
        self._node = self._network.node("zones", KNOT, UNBOUND)
        await self._serve(signed)

    async def stop(self) -> None:
        for process in reversed(self._processes):
            await process.stop()
        if self._node:
            self._network.remove(self._node)

    def _write(self, zone: str) -> Path:
        file = self._directory / f"{zone}.zone"
        lines = [
            f"{zone}. {TTL} IN SOA ns.{ROOT}. hostmaster.{ROOT}. 1 600 600 86400 60",
            f"{zone}. {TTL} IN NS ns.{ROOT}.",
            *self._records[zone],
        ]
        if zone == ROOT:
            lines.append(f"ns.{ROOT}. {TTL} IN A {KNOT}")
        file.write_text("\n".join(lines) + "\n")
        return file

    def _sign(self, zone: str) -> tuple[str, Path]:
        file = self._write(zone)
        home = ("-K", str(self._directory))
        key = command("dnssec-keygen", "-q", "-a", "13", "-f", "KSK", *home, zone).strip()
        public = (self._directory / f"{key}.key").read_text()
        file.write_text(file.read_text() + public)
        if zone == ROOT:
            records = [line for line in public.splitlines() if not line.startswith(";")]
            self.anchor.write_text("\n".join(records) + "\n")
        times = ("-s", "now-20d", "-e", "now-1d" if zone == EXPIRED else "now+20d")
        done = file.with_suffix(".signed")
        command(
            "dnssec-signzone", "-q", "-z", "-P", "-O", "full", *times, *home,
            "-d", str(self._directory), "-o", zone, "-f", str(done),
            str(file), str(self._directory / key),
        )  # fmt: skip
        text = done.read_text()
        for name, kind in self._forged:
            if name.endswith(f".{zone}") and zone != ROOT:
                text = _break_signature(text, name, kind)
        done.write_text(text)
        return zone, done

    async def _serve(self, zones: list[tuple[str, Path]]) -> None:
        assert self._node is not None
        config = self._directory / "knot.conf"
        served = "".join(KNOT_ZONE.format(zone=zone, file=file) for zone, file in zones)
        head = KNOT_CONFIG.format(dir=self._directory, address=KNOT)
        config.write_text(f"{head}zone:{served}")
        await self._run("knot", ["knotd", "-c", str(config)], KNOT)
        config = self._directory / "unbound.conf"
        config.write_text(
            UNBOUND_CONFIG.format(dir=self._directory, address=UNBOUND, knot=KNOT, root=ROOT)
        )
        await self._run("unbound", ["unbound", "-d", "-p", "-c", str(config)], UNBOUND)

    async def _run(self, name: str, words: list[str], address: str) -> None:
        assert self._node is not None
        node = self._node
        log = self._directory / f"{name}.log"
        process = await Process.start(f"{name} of the zones", node.inside(*words), log)
        self._processes.append(process)

        async def answers() -> bool:
            asked = [
                node.run(
                    "sh", "-c",
                    f"kdig +short +timeout=1 +retry=0 @{address} {zone}. SOA || true",
                )
                for zone in (ROOT, *ZONES)
            ]  # fmt: skip
            return all("600" in answer for answer in asked)

        await process.ready(answers, 20)


def _break_signature(text: str, name: str, kind: str) -> str:
    """The zone with another signature of that name and type."""
    wanted = re.compile(rf"^{re.escape(name)}\.\s.*\sRRSIG\s+{kind}\s.*$", re.MULTILINE)
    line = wanted.search(text)
    assert line, f"no signature of {name} {kind}"
    # a part of the signature, turned round: another one of the same length
    part = line[0].split()[-2]
    return text[: line.start()] + line[0].replace(part, part[::-1]) + text[line.end() :]
