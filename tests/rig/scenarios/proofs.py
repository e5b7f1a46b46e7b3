"""How the two servers prove who they are."""

from ..checks import deliver, exchange
from ..gatelog import DIALBACK, EXTERNAL, INBOUND, OUTBOUND, PKIX, TLS_1_3
from ..plan import DIRECT, LEGACY, MODERN, SELF_SIGNED
from ..scene import Scene
from .base import Scenario
from .odd import odd_peer

FEW = 20


async def external(scene: Scene) -> str:
    legacy = await scene.legacy("jabberd2")
    peer = await scene.peer("prosody")
    alice = await scene.login(legacy, "alice")
    bob = await scene.login(peer, "bob")
    await exchange(alice, bob, FEW)
    out = await legacy.log.expect_stream(
        OUTBOUND, LEGACY, MODERN, tls=TLS_1_3, auth=EXTERNAL, proof=PKIX
    )
    into = await legacy.log.expect_stream(
        INBOUND, LEGACY, MODERN, tls=TLS_1_3, auth=EXTERNAL, proof=PKIX
    )
    return f"{TLS_1_3}, EXTERNAL, PKIX; out in {out.get('ms')} ms, in in {into.get('ms')} ms"


async def dialback(scene: Scene) -> str:
    legacy = await scene.legacy("jabberd2", certified=False)
    peer = await odd_peer(scene)
    alice = await scene.login(legacy, "alice")
    bob = await scene.login(peer, "bob", SELF_SIGNED)
    await deliver(alice, bob)
    await exchange(alice, bob, FEW)
    # nothing proves the peer to us; our word counts with it as its word does with us
    for direction, proof in ((OUTBOUND, "none"), (INBOUND, DIALBACK)):
        await legacy.log.expect_stream(
            direction, LEGACY, SELF_SIGNED, tls=TLS_1_3, auth=DIALBACK, proof=proof
        )
    return f"{TLS_1_3} and dialback both ways, both certificates self-signed"


async def direct(scene: Scene) -> str:
    legacy = await scene.legacy("jabberd2")
    peer = await odd_peer(scene)
    alice = await scene.login(legacy, "alice")
    bob = await scene.login(peer, "bob", DIRECT)
    await deliver(alice, bob)
    await exchange(alice, bob, FEW)
    await legacy.log.expect_stream(OUTBOUND, LEGACY, DIRECT, tls=TLS_1_3)
    return "a peer with nothing but direct TLS"


SCENARIOS = [
    Scenario("proof-external", "TLS 1.3 and SASL EXTERNAL with certificates of a CA", external),
    Scenario("proof-dialback", "TLS and dialback with a self-signed peer", dialback),
    Scenario("direct-tls", "direct TLS to a peer that offers only that", direct),
]
