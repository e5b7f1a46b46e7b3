"""Crowds of strangers. What fedgate uses stays below a bound that is stated here, all of it is given
back, and an honest peer goes on as if nothing were.

RIG_ABUSE=full plays them in full size, RIG_STRICT=1 also judges how long the honest peer waits.
"""

import asyncio
import os
from typing import Any

from ..crowd import Crowd, crowded
from ..gate import DIRECT_TLS_PORT, LOCAL_PORT, PUBLIC_PORT
from ..gauge import MIB
from ..ground import Ground, open_ground
from ..plan import LEGACY, LEGACY_ADDRESS
from ..scene import Failed, Scene
from .base import Scenario

FULL = os.environ.get("RIG_ABUSE") == "full"
STRANGERS = 10_000 if FULL else 1_000
SLOW = 2_000 if FULL else 200
HOSTILE = 480 if FULL else 48
TURNS = 24 if FULL else 6
XML_SECONDS = 300
# so that nothing takes a minute
LIMITS = {"negotiation": "6s", "connect": "6s", "tcp_connect": "2s", "connections": 20_000}
# What a stranger may cost before it has proven anything: a task, its buffers, a TLS session that has
# begun; and what anything at all may, such as more stacks and caches.
STRANGER_BYTES = 40 << 10
ANYWAY_BYTES = 16 * MIB
# of connections that are being closed, of DNS and of the honest peer
SOME = 64


async def connections(scene: Scene) -> str:
    """Connections that come a part of the way and stay there."""
    ground = await open_ground(scene, limits=LIMITS)
    node = crowded(scene, ground.node)
    await ground.calm()
    before = ground.gauge.now()
    async with ground.gauge:
        at_the_door = await gather(ground, node, "hold", STRANGERS * 4 // 5)
        direct = await gather(ground, node, "direct", STRANGERS // 5, port=DIRECT_TLS_PORT)
        await at_the_door.over()
        await direct.over()
        honest = await ground.verdict()
    crowds = (at_the_door, direct)
    gone = sum(crowd["sent away"] + crowd["cut short"] for crowd in crowds)
    if (gone, sum(crowd["opened"] for crowd in crowds)) != (STRANGERS, STRANGERS):
        raise Failed(f"of {STRANGERS} {gone} were sent away: {at_the_door.counts} {direct.counts}")
    used = ground.bounded(before, ANYWAY_BYTES + STRANGERS * STRANGER_BYTES, STRANGERS + SOME)
    await ground.back("opened by strangers", before.descriptors + SOME)
    return f"{STRANGERS} half-open connections: {used}; all sent away; {honest}"


async def slow(scene: Scene) -> str:
    """One byte now and then, in a header, in a TLS handshake, in an element after it; from peers
    and on the local listener."""
    ground = await open_ground(scene, limits=LIMITS)
    node = crowded(scene, ground.node)
    await ground.calm()
    before = ground.gauge.now()
    async with ground.gauge:
        peers = await gather(ground, node, "drip", SLOW, interval=0.3)
        local = await gather(
            ground, ground.node, "legacy", SLOW, host="127.0.0.1", port=LOCAL_PORT,
            network="127.1", own=LEGACY,
        )  # fmt: skip
        await peers.over()
        await local.over()
        honest = await ground.verdict()
    for crowd in (peers, local):
        if (crowd["opened"], crowd["sent away"] + crowd["cut short"]) != (SLOW, SLOW):
            raise Failed(f"not all of {SLOW} were sent away: {crowd.counts}")
    used = ground.bounded(before, ANYWAY_BYTES + 2 * SLOW * STRANGER_BYTES, 3 * SLOW + SOME)
    await ground.back("opened by slow senders", before.descriptors + SOME)
    return f"{2 * SLOW} slow senders: {used}; all sent away; {honest}"


async def xml(scene: Scene) -> str:
    """Endless headers, elements, names, attributes, texts; depth; entities: at full speed."""
    ground = await open_ground(scene, limits=LIMITS)
    node = crowded(scene, ground.node)
    await ground.calm()
    before = ground.gauge.now()
    async with ground.gauge:
        crowd = await gather(ground, node, "xml", HOSTILE, turns=TURNS)
        await crowd.over(XML_SECONDS)
        honest = await ground.verdict()
    done = crowd["answered"] + crowd["cut off"]
    if done != HOSTILE * TURNS:
        raise Failed(f"not all of {HOSTILE * TURNS} were refused as they should: {crowd.counts}")
    # each may have one element of a stranger in a buffer that has been doubled, and be on its next
    # stream before the last one is closed
    memory = ANYWAY_BYTES + HOSTILE * 2 * STRANGER_BYTES
    used = ground.bounded(before, memory, 2 * HOSTILE + SOME)
    await ground.back("opened by hostile senders", before.descriptors + SOME)
    return (
        f"{done} hostile streams, {crowd['bytes'] / MIB:.1f} MiB sent: {used};"
        f" {crowd['answered']} read their stream error; {honest}"
    )


async def inject(scene: Scene) -> str:
    """A whole stream in the clear in one piece with <starttls/>."""
    ground = await open_ground(scene, limits=LIMITS)
    node = crowded(scene, ground.node)
    await ground.calm()
    before = ground.gauge.now()
    async with ground.gauge:
        crowd = await gather(ground, node, "inject", HOSTILE, turns=TURNS)
        await crowd.over()
        honest = await ground.verdict()
    if crowd["cut off"] != HOSTILE * TURNS:
        raise Failed(f"not all of {HOSTILE * TURNS} were cut off: {crowd.counts}")
    if "injected" in ground.legacy.stanzas:
        raise Failed("a stanza from before TLS was delivered")
    used = ground.bounded(before, ANYWAY_BYTES + HOSTILE * STRANGER_BYTES, HOSTILE + SOME)
    await ground.back("opened by injectors", before.descriptors + SOME)
    return f"{HOSTILE * TURNS} injections cut off, none delivered: {used}; {honest}"


async def gather(ground: Ground, node: Any, manner: str, count: int, **plan: Any) -> Crowd:
    whole = {
        "host": LEGACY_ADDRESS,
        "port": PUBLIC_PORT,
        "network": "10.78",
        "target": LEGACY,
        "manner": manner,
        "count": count,
        **plan,
    }
    crowd = await Crowd.gather(ground.scene, node, **whole)
    await asyncio.sleep(0)
    return crowd


SCENARIOS = [
    Scenario("abuse-connections", "connections that lead nowhere", connections, seconds=400),
    Scenario("abuse-slow", "slow senders, from peers and on the local listener", slow, seconds=400),
    Scenario("abuse-xml", "endless and malicious XML at full speed", xml, seconds=400),
    Scenario("abuse-inject", "streams in one piece with <starttls/>", inject, seconds=400),
]
