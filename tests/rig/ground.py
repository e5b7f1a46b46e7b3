"""Where fedgate has a hard time: a scripted legacy server, an honest scripted peer, who ping each
other all the while, and a fedgate between them."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .ca import Authority
from .crowd import STRICT
from .gate import LEGACY_PORT, LOCAL_PORT, PUBLIC_PORT, Gate, GateSettings
from .gatelog import GateLog
from .gauge import MIB, Gauge, Sample
from .net import Node
from .plan import LEGACY, LEGACY_ADDRESS, UNBOUND
from .player import Listener, Traffic
from .scene import Failed, Scene
from .wait import until

PEER_ADDRESS = "10.77.0.31"
PING_SECONDS = 0.01
SETTLE_SECONDS = 60
QUIET_SECONDS = 2
SLOWER = 10


@dataclass(frozen=True)
class Tally:
    """What became of the messages of one flow."""

    made: int
    arrived: int
    bounced: int

    @property
    def lost(self) -> int:
        return self.made - self.arrived - self.bounced

    def __str__(self) -> str:
        return f"{self.made} sent, {self.arrived} arrived, {self.bounced} came back, {self.lost} lost"


@dataclass
class Ground:
    """All of them."""

    scene: Scene
    node: Node  # the legacy server's and fedgate's
    peer_node: Node
    legacy: Traffic
    peer: Traffic
    gate: Gate
    domains: tuple[str, ...]  # the peer's
    gauge: Gauge
    quiet: dict[str, Any] | None = None

    @property
    def domain(self) -> str:
        """The peer's first."""
        return self.domains[0]

    @property
    def log(self) -> GateLog:
        return GateLog(self.gate.log)

    async def calm(self) -> None:
        """Pings go both ways; how long they take while nothing else happens."""
        self.peer.ping(self.domain, LEGACY, PING_SECONDS)
        await self.answers()
        await self.peer.times()
        await asyncio.sleep(QUIET_SECONDS)
        self.quiet = await self.peer.times()

    async def answers(self, more: int = 20) -> None:
        """Waits until so many more pings are answered."""
        before = (await self.peer.times())["answered"]
        for _ in range(SETTLE_SECONDS * 5):
            if (await self.peer.times())["answered"] >= before + more:
                return
            await asyncio.sleep(0.2)
        raise Failed("the honest peer's pings are not answered")

    def chat(self, rate: float = 20.0) -> None:
        """Messages both ways from now on, so many a second."""
        self.peer.flow("in", self.domain, LEGACY, rate, 200)
        self.legacy.flow("out", LEGACY, self.domain, rate, 200)

    async def both(self) -> tuple[Tally, Tally]:
        """What became of those until now, in and out; fails if one came twice or out of order."""
        accounts = await self.peer.accounts(), await self.legacy.accounts()
        tallies = []
        for word, sending, receiving in (("in", *accounts), ("out", *accounts[::-1])):
            arrived, doubled, disordered = receiving["arrived"].get(word, (0, 0, 0))
            if doubled or disordered:
                raise Failed(f"{doubled} came twice, {disordered} out of order")
            tallies.append(Tally(sending["made"][word], arrived, sending["bounced"][word]))
        return tallies[0], tallies[1]

    async def flowing(self, more: int = 5, seconds: float = SETTLE_SECONDS) -> float:
        """Waits until so many more have arrived both ways. Seconds taken."""
        began = time.monotonic()
        before = await self.both()
        while time.monotonic() < began + seconds:
            now = await self.both()
            if all(b.arrived >= a.arrived + more for a, b in zip(before, now, strict=True)):
                return time.monotonic() - began
            await asyncio.sleep(0.1)
        raise Failed(f"messages do not arrive again in {seconds:g} s: {before}, {now}")

    async def settled(self) -> tuple[Tally, Tally]:
        """Nothing more is sent, and nothing changes any more."""
        self.peer.pace(0)
        self.legacy.pace(0)
        before, still = await self.both(), 0
        for _ in range(SETTLE_SECONDS * 2):
            await asyncio.sleep(0.5)
            now = await self.both()
            still = still + 1 if now == before else 0
            before = now
            if not any(tally.lost for tally in now) or still > 6:
                break
        return before

    async def logged(self, log: GateLog, words: str, seconds: float) -> float:
        """Waits for a line with these words. Seconds taken."""
        began = time.monotonic()
        what = f"a log line with {words!r}"
        await until(lambda: any(words in json.dumps(e) for e in log.entries()), seconds, what)
        return time.monotonic() - began

    async def bounces(self, stanza: str) -> str:
        """A message of the legacy server's comes back, and only that. With which error, and when."""
        error = f"error {stanza}"
        began = time.monotonic()
        await until(lambda: error in self.legacy.stanzas, SETTLE_SECONDS, f"an error for {stanza}")
        seconds = time.monotonic() - began
        if stanza in self.peer.stanzas:
            raise Failed("bounced and delivered")
        return f"{self.legacy.stanzas[error]['condition']} after {seconds:.1f} s"

    async def reaches(self, domain: str) -> float:
        """Messages to a domain arrive, though some may come back before. Seconds taken."""
        began = time.monotonic()
        while time.monotonic() < began + SETTLE_SECONDS:
            stanza = f"again-{domain}-{time.monotonic()}"
            self.say(domain, stanza)

            def decided(stanza: str = stanza) -> bool:
                return stanza in self.peer.stanzas or f"error {stanza}" in self.legacy.stanzas

            await until(decided, SETTLE_SECONDS, "an answer")
            if stanza in self.peer.stanzas:
                return time.monotonic() - began
            await asyncio.sleep(0.5)
        raise Failed(f"messages to {domain} still come back")

    def say(self, domain: str, stanza: str) -> None:
        """The legacy server sends one message to a domain."""
        self.legacy.send(LEGACY, domain, stanza, "127.0.0.1", LOCAL_PORT)

    async def verdict(self) -> str:
        """The pings end; every one was answered. How long that took, against quiet times."""
        times = await self.peer.times()
        self.peer.hush()
        last: dict[str, Any] = times
        for _ in range(SETTLE_SECONDS * 5):
            last = await self.peer.times()
            if not last["waiting"]:
                break
            await asyncio.sleep(0.2)
        if last["waiting"] or last["refused"]:
            raise Failed(
                f"of {last['pinged']} pings of the honest peer {last['waiting']} are lost and"
                f" {last['refused']} came back"
            )
        assert self.quiet is not None
        ratio = times["p99"] / self.quiet["p99"]
        text = (
            f"{last['pinged']} pings answered, p99 {1000 * self.quiet['p99']:.1f} ms quiet and"
            f" {1000 * times['p99']:.1f} ms then ({ratio:.1f} times)"
        )
        if STRICT and ratio >= SLOWER:
            raise Failed(f"the honest peer suffers: {text}")
        return text

    def vanish(self, *ports: int) -> None:
        """From now on no TCP packet from or to these ports passes at fedgate's machine."""
        listed = ", ".join(map(str, ports or (PUBLIC_PORT,)))
        rules = "".join(
            f" chain {hook} {{\n  type filter hook {hook} priority 0\n"
            f"  tcp sport {{ {listed} }} drop\n  tcp dport {{ {listed} }} drop\n }}\n"
            for hook in ("input", "output")
        )
        self.node.nft(f"table ip vanish {{\n{rules}}}\n")

    def appear(self) -> None:
        """They pass again."""
        self.node.nft("delete table ip vanish\n")

    def bounded(self, before: Sample, memory: int, descriptors: int) -> str:
        """What fedgate used at most; fails if that is so much more than before."""
        most = self.gauge.most()
        rss, open_ones = most.rss - before.rss, most.descriptors - before.descriptors
        text = f"{rss / MIB:.1f} MiB and {open_ones} descriptors more"
        if rss > memory or open_ones > descriptors:
            raise Failed(f"{text}, at most {memory / MIB:.0f} MiB and {descriptors} were allowed")
        return text

    async def back(self, what: str, descriptors: int) -> None:
        """Waits until no more descriptors are open than that."""
        await until(
            lambda: self.gauge.now().descriptors <= descriptors,
            SETTLE_SECONDS,
            f"fedgate to close what was {what}",
        )


async def open_ground(
    scene: Scene,
    domains: int = 1,
    resolver: str = UNBOUND,
    level: str = "encrypted",
    descriptors: int | None = None,
    home: Callable[[Path], None] | None = None,
    legacy: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
    dnssec: bool = False,
    **sections: Any,
) -> Ground:
    """Starts all; `sections` are of fedgate's configuration, `legacy` are more legacy servers, `home`
    prepares its directory."""
    certificates = scene.directory / "certificates"
    certificates.mkdir()
    node, peer_node = scene.bare("legacy", LEGACY_ADDRESS), scene.bare("peer", PEER_ADDRESS)
    authority = Authority(certificates, "trusted root")
    names = tuple(f"n{number}.{scene.directory.name}.test" for number in range(domains))
    listener = Listener("127.0.0.1", LEGACY_PORT)
    server = await scene.traffic("legacy", node, [listener], ("127.0.0.1", LOCAL_PORT))
    limits = {"rate": "off", "stanza_rate": "off", **sections.pop("limits", {})}
    settings = GateSettings(
        LEGACY_ADDRESS,
        "scripted",
        (LEGACY,),
        authority.issue(LEGACY, LEGACY),
        authority.root,
        refusals="bounce",
        anchor=scene.world.dns.anchor if dnssec else None,
        sections={
            "posh": {"fetch": False},
            "limits": limits,
            "log": {"format": "json", "level": "info"},
            "legacy": legacy or {},
            **sections,
        },
        environment=environment or {},
        resolver=resolver,
        level=level,
        descriptors=descriptors,
    )
    if home:
        home(scene.directory / "gate-legacy")
    gate = await scene.gate("legacy", node, settings)
    for name in names:
        # each by a host name of its own: what DNS says of one is not remembered of the next
        host = f"xmpp.{name}"
        scene.record(host, "A", PEER_ADDRESS)
        scene.record(f"_xmpp-server._tcp.{name}", "SRV", f"10 10 {PUBLIC_PORT} {host}.")
    peer = await scene.traffic(
        "peer",
        peer_node,
        [Listener(PEER_ADDRESS, PUBLIC_PORT)],
        (LEGACY_ADDRESS, PUBLIC_PORT),
        {name: authority.issue(name, name) for name in names},
    )
    return Ground(scene, node, peer_node, server, peer, gate, names, Gauge(gate))
