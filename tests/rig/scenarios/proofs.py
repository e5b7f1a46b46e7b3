"""How the two servers prove who they are."""

from ..ca import key_digest
from ..checks import deliver, exchange, refused
from ..gatelog import DANE, DIALBACK, EXTERNAL, INBOUND, OUTBOUND, PKIX, TLS_1_3
from ..plan import DIRECT, LEGACY, MODERN, SELF_SIGNED, STARTTLS
from ..scene import Scene
from ..wait import until
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


async def dane(scene: Scene) -> str:
    legacy = await scene.legacy("jabberd2", level="trusted", refusals="bounce", dnssec=True)
    peer = await odd_peer(scene)
    alice = await scene.login(legacy, "alice")
    bob = await scene.login(peer, "bob", SELF_SIGNED)
    zone, name = scene.world.dns, f"_{STARTTLS[1]}._tcp.odd.test"
    settings = peer.server.settings
    digest = key_digest(settings.certificates[SELF_SIGNED].cert)
    try:
        zone.set(name, "TLSA", f"3 1 1 {digest}")
        await deliver(alice, bob)
        await exchange(alice, bob, FEW)
        for direction in (OUTBOUND, INBOUND):
            await legacy.log.expect_stream(
                direction, LEGACY, SELF_SIGNED, tls=TLS_1_3, auth=EXTERNAL, proof=DANE
            )
        zone.unset(name)
        other = "0" * 64
        zone.set(name, "TLSA", f"3 1 1 {other}")
        known = lambda: other in zone.ask(name, "TLSA").replace(" ", "")  # noqa: E731
        await until(known, 20, "the resolver to know of the other key")
        assert legacy.gate is not None
        await legacy.gate.restart()
        log = legacy.log.now()
        error = await refused(alice, bob.full, ("remote-server-timeout",), unread_by=bob)
        why = await log.expect_reason(SELF_SIGNED)
    finally:
        zone.unset(name)
    return f"{DANE} and EXTERNAL both ways; another key in the zone: {error}; log: {why}"


SCENARIOS = [
    Scenario("proof-dane", "a self-signed peer is trusted by its signed TLSA record", dane),
    Scenario("proof-external", "TLS 1.3 and SASL EXTERNAL with certificates of a CA", external),
    Scenario("proof-dialback", "TLS and dialback with a self-signed peer", dialback),
    Scenario("direct-tls", "direct TLS to a peer that offers only that", direct),
]
