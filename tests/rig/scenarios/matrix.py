"""Every prooftype in both roles, with all that can be wrong about it: a scripted peer of many
domains, zones of every DNSSEC state, and two fedgates, one for each level."""

import asyncio
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from ..bench import FORBIDDEN_ADDRESS, Bench
from ..gate import LEGACY_PORT, LOCAL_PORT, PUBLIC_PORT, Gate, GateSettings
from ..gatelog import DIALBACK, INBOUND, NEGOTIATED, OUTBOUND, GateLog
from ..plan import LEGACY_ADDRESS, OTHER_ADDRESS
from ..player import Listener, Player
from ..rows import Expected, Proven, ProvenByServer, Row, Unproven, rows
from ..scene import Failed, Scene
from ..wait import TimedOut, until
from ..zones import UNBOUND
from .base import Scenario

AT_ONCE = 32
ANSWER_SECONDS = 60
LOG_SECONDS = 5
ENCRYPTED, TRUSTED = "encrypted", "trusted"
KINDS: dict[type[Expected], str] = {
    Proven: "proven",
    ProvenByServer: "proven by the server's certificate",
    Unproven: "unproven",
}
ADDRESSES = {ENCRYPTED: LEGACY_ADDRESS, TRUSTED: OTHER_ADDRESS}


@dataclass
class Site:
    """A scripted old server behind its fedgate."""

    level: str
    domain: str
    address: str
    legacy: Player
    gate: Gate
    said: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    def read_log(self) -> None:
        """Sorts what the log says by domain pair and by domain."""
        self.said.clear()
        for entry in GateLog(self.gate.log).entries():
            for key in {str(entry.get("pair")), str(entry.get("domain"))}:
                self.said[key].append(entry)


@dataclass(frozen=True)
class Cell:
    """A row in one role at one level."""

    row: Row
    role: str
    site: Site

    @property
    def stanza(self) -> str:
        return f"{self.role}-{self.site.level}-{self.row.name}"

    @property
    def expected(self) -> Expected:
        if self.row.older_form and self.site.level == TRUSTED:
            return Unproven("certificate is self-signed")
        return self.row.out if self.role == OUTBOUND else self.row.into

    @property
    def names(self) -> tuple[str, str]:
        """Sender and target."""
        ours = (self.site.domain, self.row.domain)
        return ours if self.role == OUTBOUND else (ours[1], ours[0])

    @property
    def pair(self) -> str:
        return "→".join(self.names)


async def matrix(scene: Scene) -> str:
    table = rows()
    bench = Bench(scene, table)
    await scene.zones(bench.zones)
    await bench.web()
    peer = await bench.peer()
    sites = await asyncio.gather(*(_site(scene, bench, level) for level in ADDRESSES))
    cells = [
        Cell(row, role, site) for site in sites for row in table for role in (OUTBOUND, INBOUND)
    ]
    places = asyncio.Semaphore(AT_ONCE)

    async def play(cell: Cell) -> str | None:
        async with places:
            return await _play(cell, peer)

    late = [problem for problem in await asyncio.gather(*map(play, cells)) if problem]
    problems: list[str] = []

    def settled() -> bool:
        for site in sites:
            site.read_log()
        problems[:] = [problem for cell in cells if (problem := _judge(cell, peer))]
        return not problems

    try:
        await until(settled, LOG_SECONDS, "the logs")
    except TimedOut:
        raise Failed("\n      ".join([f"{len(problems)} cells:", *late, *problems])) from None
    counts = Counter(KINDS[type(cell.expected)] for cell in cells)
    return f"{len(table)} rows, {len(cells)} cells: " + ", ".join(
        f"{count} {what}" for what, count in sorted(counts.items())
    )


async def _site(scene: Scene, bench: Bench, level: str) -> Site:
    address = ADDRESSES[level]
    domain = f"{level}.home.example"
    node = scene.bare(level, address)
    listener = Listener("127.0.0.1", LEGACY_PORT)
    legacy = await scene.player(f"legacy-{level}", node, [listener])
    settings = GateSettings(
        address,
        "scripted",
        (domain,),
        bench.trusted.issue(domain, domain),
        bench.trusted.root,
        level=level,
        refusals="bounce",
        anchor=bench.zones.anchor,
        resolver=UNBOUND,
        sections={
            "limits": {"connections_per_address": 1000},
            "networks": {"deny_out": [f"{FORBIDDEN_ADDRESS}/32"]},
            "posh": {"fetch": True, "older_forms": level == ENCRYPTED},
        },
    )
    gate = await scene.gate(level, node, settings)
    return Site(level, domain, address, legacy, gate)


async def _play(cell: Cell, peer: Player) -> str | None:
    """Sends a message and waits until it has arrived or is refused."""
    sender, target = cell.names
    stanza, legacy = cell.stanza, cell.site.legacy
    if cell.role == OUTBOUND:
        legacy.send(sender, target, stanza, "127.0.0.1", LOCAL_PORT)
    else:
        peer.send(sender, target, stanza, cell.site.address, PUBLIC_PORT)

    def decided() -> bool:
        if cell.role == OUTBOUND:
            return stanza in peer.stanzas or f"error {stanza}" in legacy.stanzas
        return stanza in legacy.stanzas or bool(peer.seen("refused", sender, target))

    try:
        await until(decided, ANSWER_SECONDS, "an answer")
    except TimedOut as late:
        return f"{cell.stanza}: {late}"
    return None


def _judge(cell: Cell, peer: Player) -> str | None:
    """What is not as it has to be."""
    expected = cell.expected
    streams = [
        entry
        for entry in cell.site.said[cell.pair]
        if entry.get("message") == NEGOTIATED
        and entry.get("side") == "peer"
        and entry.get("direction") == cell.role
    ]
    proofs = {str(entry.get("proof")) for entry in streams}
    seen = _seen(cell, peer)
    wanted: dict[str, Any]
    by_dialback = {"delivered": True, "proofs": {DIALBACK}, "how": "dialback", "asked back": True}
    match expected:
        case Proven(by):
            wanted = {"delivered": True, "proofs": {by}}
            if cell.role == INBOUND:
                wanted |= {"how": "external", "asked back": False}
        case ProvenByServer():
            wanted = by_dialback
        case Unproven(dialback=True) if cell.site.level == ENCRYPTED:
            unproven = {"delivered": True, "proofs": {"none"}}
            wanted = by_dialback if cell.role == INBOUND else unproven
        case Unproven():
            wanted = {"delivered": False, "proofs": set()}
    seen |= {"proofs": proofs}
    wrong = [
        f"{what} {seen[what]!r} in place of {value!r}"
        for what, value in wanted.items()
        if seen[what] != value
    ]
    if not isinstance(expected, Proven) and not _says(cell, expected.why):
        wrong.append(f"the log does not say {expected.why!r}, but {_words(cell)}")
    return f"{cell.stanza}: {'; '.join(wrong)}" if wrong else None


def _seen(cell: Cell, peer: Player) -> dict[str, Any]:
    """What the two ends saw of the cell."""
    sender, target = cell.names
    if cell.role == OUTBOUND:
        return {"delivered": cell.stanza in peer.stanzas}
    opened = [event["how"] for event in peer.seen("open", sender, target)]
    return {
        "delivered": cell.stanza in cell.site.legacy.stanzas,
        "how": opened[0] if opened else None,
        "asked back": bool(peer.seen("verify", target, sender)),
    }


def _entries(cell: Cell) -> list[dict[str, Any]]:
    said = list(cell.site.said[cell.pair])
    return said + cell.site.said[cell.row.domain] if cell.role == INBOUND else said


def _says(cell: Cell, words: str) -> bool:
    return any(words in json.dumps(entry, ensure_ascii=False) for entry in _entries(cell))


def _words(cell: Cell) -> str:
    keys = ("message", "reason", "detail", "why")
    said = (
        " ".join(str(entry[key]) for key in keys if key in entry)
        for entry in _entries(cell)
        if entry.get("side") != "legacy"
    )
    return " | ".join(said)


SCENARIOS = [
    Scenario(
        "proof-matrix",
        "every prooftype in both roles proves what it should and nothing else",
        matrix,
    )
]
