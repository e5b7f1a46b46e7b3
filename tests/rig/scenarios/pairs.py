"""Two legacy servers, each behind its own fedgate."""

import time

from ..checks import ask, befriend, collide, deliver, exchange
from ..gate import restart_all
from ..gatelog import DIALBACK, EITHER, EXTERNAL, INBOUND, OUTBOUND, TLS_1_3
from ..plan import LEGACY, OTHER, OTHER_ADDRESS
from ..scene import Failed, Scene, Site
from .base import Scenario

FIRST_MESSAGES = 3
COLD_SECONDS = 20


async def certified(scene: Scene, one: str, two: str) -> str:
    left, right = await _pair(scene, one, two, certified=True)
    alice = await scene.login(left, "alice")
    bob = await scene.login(right, "bob")
    await deliver(alice, bob)
    seconds = await exchange(alice, bob, scene.world.messages)
    await befriend(alice, bob)
    await ask(alice, bob)
    await ask(bob, alice)
    for site in (left, right):
        await site.log.expect_stream(EITHER, LEGACY, OTHER, tls=TLS_1_3, auth=EXTERNAL, bidi=True)
    return f"{TLS_1_3} and EXTERNAL, one bidirectional stream; {scene.world.messages} in {seconds:.1f} s"


async def cold(scene: Scene) -> str:
    left, right = await _pair(scene, "jabberd2", "jabberd2", certified=False)
    assert left.gate is not None and right.gate is not None
    alice = await scene.login(left, "alice")
    bob = await scene.login(right, "bob")
    slowest = 0.0
    for turn in range(scene.world.rounds):
        if turn:
            await restart_all(left.gate, right.gate)
        logs = (left.log.now(), right.log.now())
        began = time.monotonic()
        try:
            await collide(alice, bob, FIRST_MESSAGES)
        except Failed as failure:
            raise Failed(f"round {turn + 1} of {scene.world.rounds}: {failure}") from failure
        slowest = max(slowest, time.monotonic() - began)
        if slowest > COLD_SECONDS:
            raise Failed(f"round {turn + 1} took {slowest:.1f} s")
        for log in logs:
            await log.expect_stream(OUTBOUND, LEGACY, OTHER, auth=DIALBACK)
            await log.expect_stream(INBOUND, LEGACY, OTHER, auth=DIALBACK)
    return f"{scene.world.rounds} rounds, the slowest {slowest:.1f} s"


async def _pair(scene: Scene, one: str, two: str, certified: bool) -> tuple[Site, Site]:
    left = await scene.legacy(one, certified=certified)
    right = await scene.legacy(two, OTHER, OTHER_ADDRESS, certified=certified)
    return left, right


def _certified(one: str, two: str) -> Scenario:
    async def play(scene: Scene) -> str:
        return await certified(scene, one, two)

    claim = f"{one} and {two}, each behind fedgate: TLS and EXTERNAL between them"
    return Scenario(f"between-{one}-{two}", claim, play)


SCENARIOS = [
    _certified("jabberd2", "jabberd2"),
    _certified("jabberd2", "ejabberd"),
    _certified("prosody", "ejabberd"),
    Scenario(
        "cold-dialback",
        "jabberd2 and jabberd2 behind self-signed fedgates start at the same moment, from cold",
        cold,
        seconds=900,
    ),
]
