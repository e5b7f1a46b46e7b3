"""Two hosting providers, each with many customers' domains behind one fedgate and one certificate
that names the provider's host alone."""

import asyncio
import os
from dataclasses import dataclass

from ..ca import Authority
from ..gate import LEGACY_PORT, LOCAL_PORT, PUBLIC_PORT, Gate, GateSettings
from ..gatelog import NEGOTIATED, OUTBOUND, GateLog
from ..net import Node
from ..plan import LEGACY_ADDRESS, OTHER_ADDRESS
from ..player import Listener, Player
from ..scene import Failed, Scene
from ..wait import TimedOut, until
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

    name: str
    address: str
    zone: str
    count: int
    node: Node
    legacy: Player
    gate: Gate

    @property
    def domains(self) -> list[str]:
        return _domains(self.name, self.zone, self.count)

    def connections(self) -> int:
        """How many connections have been made to the public port, counted by SYN."""
        rules = self.node.run("nft", "list", "chain", "ip", "handshakes", "input").split()
        return int(rules[rules.index("packets") + 1])

    def open_connections(self) -> int:
        """How many of them are open."""
        listing = self.node.run(
            "ss", "-Htn", "state", "established", f"( sport = :{PUBLIC_PORT} )"
        )
        return len(listing.splitlines())


async def delegated(scene: Scene) -> str:
    one, two, seconds = await _exchange(scene, SECURE, DOMAINS, "trusted", delivered=True)
    made = one.connections(), two.connections()
    if sum(made) > CONNECTIONS:
        raise Failed(f"{2 * DOMAINS} pairs took {made[0]} + {made[1]} connections")
    for provider in (one, two):
        proofs = {
            entry["proof"]
            for entry in GateLog(provider.gate.log).entries()
            if entry.get("message") == NEGOTIATED and entry.get("side") == "peer"
        }
        if proofs != {"pkix"}:
            raise Failed(f"proofs {proofs} at {provider.name}")
    return (
        f"{2 * DOMAINS} pairs of {DOMAINS} domains on each side over"
        f" {sum(made)} connections in {seconds:.1f} s"
    )


async def not_delegated(scene: Scene) -> str:
    one, two, _ = await _exchange(scene, INSECURE, FEW, "encrypted", delivered=True)
    carried = one.open_connections() + two.open_connections()
    # a bidirectional stream carries a pair and its reverse, and no other
    if carried < FEW:
        raise Failed(f"{2 * FEW} pairs share {carried} connections")
    outbound = [
        entry
        for entry in GateLog(one.gate.log).entries()
        if entry.get("message") == NEGOTIATED
        and entry.get("side") == "peer"
        and entry.get("direction") == OUTBOUND
    ]
    if {entry["proof"] for entry in outbound} != {"none"}:
        raise Failed(f"something was proven: {outbound}")
    return f"{2 * FEW} pairs, {carried} connections"


async def not_delegated_trusted(scene: Scene) -> str:
    one, two, _ = await _exchange(scene, INSECURE, FEW, "trusted", delivered=False)
    carried = one.open_connections() + two.open_connections()
    return f"{2 * FEW} pairs refused, {carried} connections left"


async def _exchange(
    scene: Scene, zone: str, count: int, level: str, delivered: bool
) -> tuple[Provider, Provider, float]:
    """A message from each domain of one provider to the domain of the same number of the other,
    and back: all have to arrive, or all to be refused."""
    home = scene.directory / "certificates"
    home.mkdir()
    authority = Authority(home, "trusted root")
    zones = Zones(scene.world.network, scene.directory / "zones")
    places = {"a": LEGACY_ADDRESS, "b": OTHER_ADDRESS}
    for name, address in places.items():
        host = f"gate-{name}.{zone}"
        zones.add(host, "A", address)
        for domain in _domains(name, zone, count):
            zones.add(f"_xmpp-server._tcp.{domain}", "SRV", f"10 10 {PUBLIC_PORT} {host}.")
    await scene.zones(zones)
    one, two = await asyncio.gather(
        *(
            _provider(scene, zones, authority, name, address, zone, count, level)
            for name, address in places.items()
        )
    )
    at_once = asyncio.Semaphore(AT_ONCE)
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def send(sender: Provider, receiver: Provider, number: int) -> bool:
        source, target = sender.domains[number], receiver.domains[number]
        stanza = f"{source} to {target}"
        arrived, bounced = receiver.legacy.stanzas, sender.legacy.stanzas
        async with at_once:
            sender.legacy.send(source, target, stanza, "127.0.0.1", LOCAL_PORT)
            decided = lambda: stanza in arrived or f"error {stanza}" in bounced  # noqa: E731
            await until(decided, SECONDS, f"an answer for {stanza}")
        return stanza in arrived

    try:
        results = await asyncio.gather(
            *(
                send(*way, number)
                for number in range(count)
                for way in ((one, two), (two, one))
            )
        )
    except TimedOut as late:
        raise Failed(str(late)) from late
    wrong = sum(arrived != delivered for arrived in results)
    if wrong:
        raise Failed(f"{wrong} of {len(results)} {'refused' if delivered else 'delivered'}")
    return one, two, loop.time() - began


async def _provider(
    scene: Scene,
    zones: Zones,
    authority: Authority,
    name: str,
    address: str,
    zone: str,
    count: int,
    level: str,
) -> Provider:
    node = scene.bare(f"gate-{name}", address)
    node.nft(COUNT_CONNECTIONS)
    legacy = await scene.player(f"legacy-{name}", node, [Listener("127.0.0.1", LEGACY_PORT)])
    host = f"gate-{name}.{zone}"
    settings = GateSettings(
        address,
        "scripted",
        tuple(_domains(name, zone, count)),
        authority.issue(host, host),
        authority.root,
        level=level,
        refusals="bounce",
        anchor=zones.anchor,
        resolver=UNBOUND,
        sections={"limits": {"connections_per_address": 4 * FEW}},
    )
    gate = await scene.gate(f"gate-{name}", node, settings)
    return Provider(name, address, zone, count, node, legacy, gate)


def _domains(name: str, zone: str, count: int) -> list[str]:
    return [f"d{number:03}.{name}.{zone}" for number in range(count)]


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
