"""Faults under steady traffic: what becomes of the messages meanwhile, and how long it takes until
they flow again. Nothing comes twice or out of order; what is lost was in a kernel's buffers."""

import asyncio
import time
from typing import Literal

from ..gate import LEGACY_PORT, LOCAL_PORT, PUBLIC_PORT
from ..ground import open_ground
from ..scene import Failed, Scene
from ..wait import until
from .base import Scenario

Side = Literal["peer", "legacy"]
STALL = 2  # seconds
LIMITS = {
    "connect": "3s", "tcp_connect": "1s", "write_stall": f"{STALL}s", "negotiation": "8s",
}  # fmt: skip
BOTH_SECONDS = 45
SLACK_SECONDS = 3
RATE = 20.0


async def half_open(scene: Scene, side: Side, *ports: int) -> str:
    """The network swallows all packets of open streams with a side, both ways, and then no more.
    What fedgate has written there until it finds out is lost; what is written to it is not its own.
    """
    ground = await open_ground(scene, limits=LIMITS)
    ground.chat(RATE)
    await ground.flowing()
    log = ground.log.now()
    ground.vanish(*ports)
    found = await ground.logged(log, "stream closed", 3 * STALL + 5)
    if found < 0.5:
        raise Failed("the streams ended before anybody could know")
    await asyncio.sleep(STALL)
    ground.appear()
    back = await ground.flowing(seconds=BOTH_SECONDS)
    into, out = await ground.settled()
    lost = out.lost if side == "peer" else into.lost
    if lost > RATE * (found + SLACK_SECONDS):
        raise Failed(f"{lost} messages lost, though it was found after {found:.1f} s")
    return f"found after {found:.1f} s, back {back:.1f} s; in: {into}; out: {out}"


async def half_open_peer(scene: Scene) -> str:
    return await half_open(scene, "peer", PUBLIC_PORT)


async def half_open_legacy(scene: Scene) -> str:
    return await half_open(scene, "legacy", LOCAL_PORT, LEGACY_PORT)


async def half_open_idle(scene: Scene) -> str:
    """The same while nothing is sent: probes find it out."""
    ground = await open_ground(scene, limits=LIMITS)
    ground.chat(RATE)
    await ground.flowing()
    await ground.settled()
    log = ground.log.now()
    began = time.monotonic()
    ground.vanish(PUBLIC_PORT)

    def ended() -> bool:
        closed = [e for e in log.entries() if e.get("message") == "stream closed"]
        return sum(e.get("side") == "peer" for e in closed) >= 2

    await until(ended, 6 * STALL, "both streams with the peer to end")
    found = time.monotonic() - began
    ground.appear()
    ground.peer.pace(RATE)
    ground.legacy.pace(RATE)
    back = await ground.flowing(seconds=BOTH_SECONDS)
    return f"found after {found:.1f} s with nothing sent, back {back:.1f} s"


async def killed(scene: Scene) -> str:
    """fedgate is killed and started again; so are the peer, and the legacy server."""
    ground = await open_ground(scene, limits=LIMITS)
    ground.chat(RATE)
    await ground.flowing()
    await ground.gate.kill()
    await asyncio.sleep(1)
    await ground.gate.resume()
    times = [f"fedgate: back {await ground.flowing(seconds=BOTH_SECONDS):.1f} s"]
    for name, server in (("peer", ground.peer), ("legacy server", ground.legacy)):
        server.down(2)
        await asyncio.sleep(2)
        times.append(f"{name}: {await ground.flowing(seconds=BOTH_SECONDS):.1f} s")
    into, out = await ground.settled()
    return f"killed for 1 or 2 s, {', '.join(times)}; in: {into}; out: {out}"


SCENARIOS = [
    Scenario(f"fault-{name}", claim, play)
    for name, claim, play in (
        ("half-open-peer", "packets of open streams with a peer vanish", half_open_peer),
        ("half-open-legacy", "packets of open streams with the legacy server vanish", half_open_legacy),
        ("half-open-idle", "packets of idle streams with a peer vanish", half_open_idle),
        ("killed", "fedgate, the peer and the legacy server are killed", killed),
    )
]
