"""A legacy server behind fedgate and a server of today: all that users do, either side first."""

from ..checks import ask, befriend, chat, deliver, exchange, see
from ..gate import Steering
from ..scene import Scene
from ..servers import KINDS
from .base import Scenario

BURST = 100  # messages that the legacy side sends before any stream is open
STEERINGS: tuple[Steering, ...] = ("dns", "nftables")


async def federate(scene: Scene, kind: str, peer_kind: str, steering: Steering) -> str:
    legacy = await scene.legacy(kind, steering=steering)
    peer = await scene.peer(peer_kind)
    alice = await scene.login(legacy, "alice")
    bob = await scene.login(peer, "bob")
    assert legacy.gate is not None
    count = scene.world.messages

    first_out = await deliver(alice, bob, BURST)
    seconds = await exchange(alice, bob, count)
    await befriend(alice, bob)
    await ask(alice, bob)
    await ask(bob, alice)
    await chat(bob, alice)
    if legacy.server.has_rooms:
        await chat(alice, bob)

    await legacy.gate.restart()
    first_in = await deliver(bob, alice)
    again = await exchange(alice, bob, count)
    await see(alice, bob)
    return (
        f"first message out {first_out:.1f} s, in {first_in:.1f} s;"
        f" {count} each way in {seconds:.1f} s and {again:.1f} s; presence, disco, rooms"
    )


def _scenario(kind: str, peer_kind: str, steering: Steering) -> Scenario:
    async def play(scene: Scene) -> str:
        return await federate(scene, kind, peer_kind, steering)

    name = f"{kind}-{peer_kind}-{steering}"
    return Scenario(name, f"{kind} behind fedgate and {peer_kind}, steered by {steering}", play)


SCENARIOS = [
    _scenario(kind, peer_kind, steering)
    for kind in KINDS
    for peer_kind in ("prosody", "ejabberd")
    for steering in STEERINGS
]
