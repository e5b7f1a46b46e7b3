"""Name servers that die, are slow, fail or lie, and what becomes of messages meanwhile."""

import asyncio
import sys
import time
from pathlib import Path

from ..gate import PUBLIC_PORT
from ..ground import open_ground
from ..net import Node
from ..plan import BROKEN_ADDRESS, UNBOUND
from ..player import Listener
from ..process import Process
from ..scene import Failed, Scene
from ..wait import until
from .base import Scenario
from .recovery import LIMITS, RATE

CROOKED = Path(__file__).parents[1] / "crooked.py"
CROOKED_ADDRESS = "10.77.0.35"


async def dns_killed(scene: Scene) -> str:
    """The resolver is killed and comes back: open streams go on, new ones bounce and recover."""
    ground = await open_ground(scene, domains=2, limits=LIMITS)
    ground.chat(RATE)
    await ground.flowing()
    await scene.world.dns.kill()
    try:
        ground.say(ground.domains[1], "early")
        condition = await ground.bounces("early")
        await ground.flowing()
    finally:
        await scene.world.dns.revive()
    back = await ground.reaches(ground.domains[1])
    into, out = await ground.settled()
    if into.lost or out.lost:
        raise Failed(f"open streams have lost messages: {into}; {out}")
    return f"a new domain {condition}, back {back:.1f} s; open streams: in {into}; out {out}"


async def _crooked(scene: Scene) -> tuple[Process, Node]:
    node = scene.bare("crooked", CROOKED_ADDRESS)
    process = await Process.start(
        "crooked name server",
        node.inside(sys.executable, "-B", str(CROOKED), CROOKED_ADDRESS, UNBOUND),
        scene.directory / "crooked.log",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    scene.cleanup(process.stop)
    _, stdout = process.pipes
    assert stdout is not None
    await asyncio.wait_for(stdout.readline(), 10)
    return process, node


def _manner(process: Process, words: str) -> None:
    stdin, _ = process.pipes
    assert stdin is not None
    stdin.write(f"{words}\n".encode())


async def dns_crooked(scene: Scene) -> str:
    """Name servers that are slow, that fail, that answer with noise, and strangers who guess."""
    resolver, _ = await _crooked(scene)
    ground = await open_ground(scene, domains=6, limits=LIMITS, resolver=CROOKED_ADDRESS)
    ground.chat(RATE)
    await ground.flowing()
    found = []
    for domain, manner, arrives in zip(
        ground.domains[1:],
        ("slow 1", "slow 30", "servfail", "noise", "guess"),
        (True, False, False, False, True),
        strict=True,
    ):
        _manner(resolver, manner)
        if arrives:
            began = time.monotonic()
            stanza = f"by-{manner.partition(' ')[0]}"
            ground.say(domain, stanza)
            await until(lambda s=stanza: s in ground.peer.stanzas, 30, f"a message by {manner}")
            found.append(f"{manner}: arrives after {time.monotonic() - began:.1f} s")
            continue
        stanza = f"by-{manner.replace(' ', '-')}"
        ground.say(domain, stanza)
        condition = await ground.bounces(stanza)
        _manner(resolver, "honest")
        back = await ground.reaches(domain)
        found.append(f"{manner}: {condition}, back {back:.1f} s")
    into, out = await ground.settled()
    if into.lost or out.lost:
        raise Failed(f"open streams have lost messages: {into}; {out}")
    return "; ".join(found)


async def dns_lies(scene: Scene, dnssec: bool) -> str:
    """A name server sends fedgate to a liar, who has a certificate of his own for the domain."""
    resolver, _ = await _crooked(scene)
    liar = scene.bare("liar", BROKEN_ADDRESS)
    sections = {} if dnssec else {"level": "trusted"}
    ground = await open_ground(
        scene, domains=2, limits=LIMITS, resolver=CROOKED_ADDRESS, dnssec=dnssec, **sections
    )
    domain = ground.domains[1]
    certificate = scene.world.authority.self_signed(f"liar-{dnssec}", domain)
    liars = await scene.player(
        "liar", liar, [Listener(BROKEN_ADDRESS, PUBLIC_PORT)], {domain: certificate}
    )
    ground.chat(RATE)
    await ground.flowing()
    _manner(resolver, f"lie {BROKEN_ADDRESS}")
    ground.say(domain, "secret")
    condition = await ground.bounces("secret")
    _manner(resolver, "honest")
    back = await ground.reaches(domain)
    if liars.stanzas:
        raise Failed(f"the liar has got {list(liars.stanzas)}")
    met = any(event["event"] == "gone" for event in liars.others)
    return f"{condition}, liar {'met, and told nothing' if met else 'not met'}, back {back:.1f} s"


async def lies_unsigned(scene: Scene) -> str:
    return await dns_lies(scene, dnssec=False)


async def lies_signed(scene: Scene) -> str:
    return await dns_lies(scene, dnssec=True)


SCENARIOS = [
    Scenario(f"fault-{name}", claim, play)
    for name, claim, play in (
        ("dns-killed", "the resolver is killed and comes back", dns_killed),
        ("dns-crooked", "the resolver is slow, fails, or talks noise", dns_crooked),
        ("dns-lies", "the resolver lies about an address; certificates decide", lies_unsigned),
        ("dns-lies-signed", "the resolver lies about a signed address", lies_signed),
    )
]
