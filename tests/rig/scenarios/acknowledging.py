"""Stanzas that are acknowledged on streams with peers (XEP-0198)."""

import os
import signal

from ..checks import deliver, exchange, recovers, refused
from ..gatelog import INBOUND, OUTBOUND
from ..scene import Scene
from .base import Scenario

PATIENCE = "2s"
UNREACHABLE = ("remote-server-timeout",)


async def prosody(scene: Scene) -> str:
    legacy = await scene.legacy("jabberd2")
    assert legacy.gate is not None
    legacy.gate.add("20-patience.yaml", {"version": 1, "limits": {"ack": PATIENCE}})
    await legacy.gate.restart()
    peer = await scene.peer("prosody", smacks=True)
    alice = await scene.login(legacy, "alice")
    bob = await scene.login(peer, "bob")
    count = scene.world.messages
    await exchange(alice, bob, count)
    for direction in (INBOUND, OUTBOUND):
        await legacy.log.expect_managed(direction)

    # what it is sent stays in its kernel, and it says nothing
    (process,) = peer.server.processes
    os.kill(process.pid, signal.SIGSTOP)
    try:
        error = await refused(alice, bob.jid, UNREACHABLE)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    back = await recovers(alice, bob)
    await deliver(bob, alice, count)
    return f"{count} each way acknowledged; frozen: {error} within {PATIENCE}; back after {back:.1f} s"


SCENARIOS = [
    Scenario(
        "acks-prosody",
        "stanzas are acknowledged both ways with Prosody, and bounce when it falls silent",
        prosody,
    ),
]
