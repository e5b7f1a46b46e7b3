"""Two hosting providers, each with many customers' domains behind one fedgate and one certificate
that names the provider's host alone."""

import asyncio
import os
import time
from collections import Counter
from dataclasses import dataclass

from ..ca import Authority
from ..gate import LEGACY_PORT, LOCAL_PORT, PUBLIC_PORT, Gate, GateSettings
from ..gatelog import DIALBACK, NEGOTIATED, PEER, PKIX, GateLog
from ..net import Node
from ..plan import LEGACY_ADDRESS, OTHER_ADDRESS
from ..player import Listener, Player
from ..scene import Failed, Scene
from ..wait import until
from ..zones import INSECURE, SECURE, UNBOUND, Zones
from .base import Scenario

DOMAINS = int(os.environ.get("RIG_DOMAINS") or 1000)
FEW = 10
AT_ONCE = 50
CONNECTIONS = 2  # one for each direction
SECONDS = 120

COUNT_CONNECTIONS = """
table ip handshakes {
 chain input {
  type filter hook input priority 0
  tcp dport 5269 tcp flags & (syn | ack) == syn counter
 }
}
"""


@dataclass(frozen=True)
class Provider:
    """An old server with all its domains, behind its fedgate."""

    domains: list[str]
    node: Node
    legacy: Player
    gate: Gate

    def connections(self) -> int:
        """How many connections have been made to the public port, counted by SYN."""
        rules = self.node.run("nft", "list", "chain", "ip", "handshakes", "input").split()
        return int(rules[rules.index("packets") + 1])

    def open_connections(self) -> int:
        """How many of them are open."""
        established = ("ss", "-Htn", "state", "established")
        return len(self.node.run(*established, f"( sport = :{PUBLIC_PORT} )").splitlines())

    def proofs(self) -> Counter[str]:
        """What peers were believed by, on streams of both directions."""
        return Counter(
            entry["proof"]
            for entry in GateLog(self.gate.log).entries()
            if entry.get("message") == NEGOTIATED and entry.get("side") == PEER
        )


@dataclass(frozen=True)
class Hosting:
    """Two providers of so many domains, in the zone that delegates them."""

    scene: Scene
    zone: str
    count: int
    level: str

    async def open(self) -> tuple[Provider, Provider]:
        """Starts all."""
        home = self.scene.directory / "certificates"
        home.mkdir()
        authority = Authority(home, "trusted root")
        zones = Zones(self.scene.world.network, self.scene.directory / "zones")
        places = {"a": LEGACY_ADDRESS, "b": OTHER_ADDRESS}
        for name, address in places.items():
            zones.add(self._host(name), "A", address)
            srv = f"10 10 {PUBLIC_PORT} {self._host(name)}."
            for domain in self._domains(name):
                zones.add(f"_xmpp-server._tcp.{domain}", "SRV", srv)
        await self.scene.zones(zones)
        one, two = await asyncio.gather(
            *(self._provider(name, places[name], authority, zones) for name in places)
        )
        return one, two

    async def exchange(self, one: Provider, two: Provider) -> tuple[int, float]:
        """A message from each domain of one provider to the domain of the same number of the
        other, and back. How many arrive, the others being refused, and seconds taken."""
        at_once = asyncio.Semaphore(AT_ONCE)
        began = time.monotonic()

        async def send(sender: Provider, receiver: Provider, number: int) -> bool:
            source, target = sender.domains[number], receiver.domains[number]
            stanza = f"{source} to {target}"
            arrived, bounced = receiver.legacy.stanzas, sender.legacy.stanzas

            def decided() -> bool:
                return stanza in arrived or f"error {stanza}" in bounced

            async with at_once:
                sender.legacy.send(source, target, stanza, "127.0.0.1", LOCAL_PORT)
                await until(decided, SECONDS, f"an answer for {stanza}")
            return stanza in arrived

        ways = ((one, two), (two, one))
        arrived = await asyncio.gather(
            *(send(*way, number) for number in range(self.count) for way in ways)
        )
        return sum(arrived), time.monotonic() - began

    async def _provider(
        self, name: str, address: str, authority: Authority, zones: Zones
    ) -> Provider:
        node = self.scene.bare(f"gate-{name}", address)
        node.nft(COUNT_CONNECTIONS)
        listeners = [Listener("127.0.0.1", LEGACY_PORT)]
        legacy = await self.scene.player(f"legacy-{name}", node, listeners)
        domains = self._domains(name)
        settings = GateSettings(
            address,
            "scripted",
            tuple(domains),
            authority.issue(self._host(name), self._host(name)),
            authority.root,
            level=self.level,
            refusals="bounce",
            anchor=zones.anchor,
            resolver=UNBOUND,
            sections={"limits": {"legacy_streams_per_address": 2 * DOMAINS}},
        )
        return Provider(domains, node, legacy, await self.scene.gate(name, node, settings))

    def _host(self, name: str) -> str:
        return f"gate-{name}.{self.zone}"

    def _domains(self, name: str) -> list[str]:
        return [f"d{number:03}.{name}.{self.zone}" for number in range(self.count)]


async def delegated(scene: Scene) -> str:
    hosting = Hosting(scene, SECURE, DOMAINS, "trusted")
    one, two = await hosting.open()
    arrived, seconds = await hosting.exchange(one, two)
    made = one.connections(), two.connections()
    for provider in (one, two):
        if set(provider.proofs()) != {PKIX}:
            raise Failed(f"proofs: {provider.proofs()}")
    seen = (
        f"{arrived} messages of {2 * DOMAINS} pairs over"
        f" {made[0]} + {made[1]} connections in {seconds:.1f} s"
    )
    if arrived != 2 * DOMAINS or sum(made) > CONNECTIONS:
        raise Failed(seen)
    return seen


async def not_delegated(scene: Scene) -> str:
    hosting = Hosting(scene, INSECURE, FEW, "encrypted")
    one, two = await hosting.open()
    arrived, _ = await hosting.exchange(one, two)
    carrying = one.open_connections() + two.open_connections()
    seen = f"{arrived} messages of {2 * FEW} pairs over {carrying} connections"
    # a bidirectional stream carries a pair and its reverse, and no other
    if arrived != 2 * FEW or carrying < FEW:
        raise Failed(seen)
    for provider in (one, two):
        if not set(provider.proofs()) <= {"none", DIALBACK}:
            raise Failed(f"proofs: {provider.proofs()}")
    return seen


async def not_delegated_trusted(scene: Scene) -> str:
    hosting = Hosting(scene, INSECURE, FEW, "trusted")
    one, two = await hosting.open()
    arrived, seconds = await hosting.exchange(one, two)
    if arrived:
        raise Failed(f"{arrived} messages of {2 * FEW} pairs arrived")
    return f"{2 * FEW} pairs refused in {seconds:.1f} s"


SCENARIOS = [
    Scenario(
        "hosting",
        f"{DOMAINS} domains on each side, delegated by signed SRV, over {CONNECTIONS} connections",
        delegated,
    ),
    Scenario(
        "hosting-insecure",
        "without signed SRV no pair shares another's connection",
        not_delegated,
    ),
    Scenario(
        "hosting-insecure-trusted",
        "without signed SRV and without a certificate of their own all pairs are refused",
        not_delegated_trusted,
    ),
]
