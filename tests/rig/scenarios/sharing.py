"""Connections that carry several domain pairs, or stanzas both ways."""

from ..checks import chat, deliver, exchange
from ..gatelog import EXTERNAL, INBOUND, OUTBOUND
from ..plan import LEGACY, MODERN, OTHER, OTHER_ADDRESS, rooms
from ..scene import Failed, Scene
from .base import Scenario

FEW = 20


async def bidi(scene: Scene) -> str:
    legacy = await scene.legacy("jabberd2")
    peer = await scene.peer("prosody", bidi=True)
    alice = await scene.login(legacy, "alice")
    bob = await scene.login(peer, "bob")
    assert legacy.gate is not None
    count = scene.world.messages
    for first, second, used, unused in (
        (alice, bob, OUTBOUND, INBOUND),
        (bob, alice, INBOUND, OUTBOUND),
    ):
        log = legacy.log.now()
        await deliver(first, second)
        await exchange(first, second, count)
        await log.expect_stream(used, LEGACY, MODERN, auth=EXTERNAL, bidi=True)
        others = log.streams(unused, LEGACY, MODERN)
        if others:
            raise Failed(f"{unused} stream beside the bidirectional one: {others[0]}")
        await legacy.gate.restart()
    return f"one stream for both ways, whoever opened it; {count} each way on either"


async def pairs(scene: Scene, kind: str, targets_join: bool, bidi: bool) -> str:
    legacy = await scene.legacy("prosody")
    if kind == "fedgate":
        peer = await scene.legacy("prosody", OTHER, OTHER_ADDRESS)
    else:
        peer = await scene.peer(kind, bidi=bidi)
    alice = await scene.login(legacy, "alice")
    bob = await scene.login(peer, "bob")
    await exchange(alice, bob, FEW)
    await chat(alice, bob)
    await chat(bob, alice)
    domain = peer.domain
    joined, opened = legacy.log.joined(), legacy.log.streams(OUTBOUND)
    found = []
    for sender, target, joins in (
        (LEGACY, domain, False),
        (rooms(LEGACY), domain, True),
        (LEGACY, rooms(domain), targets_join),
    ):
        pair = f"{sender}→{target}"
        own = any(entry["pair"] == pair for entry in opened)
        if (pair in joined, own) != (joins, not joins):
            raise Failed(f"{pair}: joined {joined.count(pair)} streams, has one of its own: {own}")
        found.append(f"{pair} {'joined' if joins else 'opened'}")
    return ", ".join(found)


def _pairs(name: str, kind: str, claim: str, targets_join: bool, bidi: bool = False) -> Scenario:
    async def play(scene: Scene) -> str:
        return await pairs(scene, kind, targets_join, bidi)

    return Scenario(f"pairs-{name}", claim, play)


SCENARIOS = [
    Scenario("bidi-prosody", "one stream carries stanzas both ways with Prosody", bidi),
    # COMPAT(Prosody 0.12): it announces no dialback errors
    _pairs("prosody", "prosody", "senders share a connection to Prosody, targets do not", False),
    _pairs(
        "prosody-bidi", "prosody", "the same where streams carry stanzas both ways", False, True
    ),
    _pairs("ejabberd", "ejabberd", "senders and targets share a connection to ejabberd", True),
    _pairs("fedgate", "fedgate", "senders and targets share a connection to a fedgate", True),
]
