"""What goes wrong: the sender gets the right error in bounded time, the log says why, and
federation comes back by itself once the cause is gone."""

from ..checks import deliver, recovers, refused
from ..plan import (
    BROKEN_ADDRESS,
    BROKEN_TLS,
    DOWN,
    DOWN_ADDRESS,
    EXPIRED,
    MODERN,
    NO_SUCH,
    SELF_SIGNED,
    WRONG_NAME,
)
from ..gatelog import GateLog
from ..scene import Scene
from ..wait import until
from .base import Scenario
from .odd import odd_peer, odd_settings, repaired

# RFC 6120 §8.3.3.16 and §8.3.3.17
NOT_FOUND = ("remote-server-not-found",)
NOWHERE = "nowhere.test"  # never in the zone
UNREACHABLE = ("remote-server-timeout",)
# what a peer's server tells its own user about a legacy side that it cannot reach
PEER_WORDS = ("remote-server-timeout", "remote-server-not-found", "service-unavailable")


async def peer_down(scene: Scene) -> str:
    legacy = await scene.legacy("jabberd2")
    peer = await scene.peer("prosody")
    alice = await scene.login(legacy, "alice")
    bob = await scene.login(peer, "bob")
    await deliver(alice, bob)

    await bob.end()
    log = legacy.log.now()
    await peer.server.kill()
    await _noticed(log)
    log = legacy.log.now()
    error = await refused(alice, bob.jid, UNREACHABLE)
    why = await log.expect_reason(MODERN)
    await peer.server.start()
    bob = await scene.login(peer, "bob")
    back = await recovers(alice, bob)
    await recovers(bob, alice)
    return f"{error}; log: {why}; back after {back:.1f} s"


async def _noticed(log: GateLog) -> None:
    """What is written to a dead server's socket before that is known may be lost."""

    def closed() -> bool:
        return any(entry.get("message") == "stream closed" for entry in log.entries())

    await until(closed, 10, "fedgate to notice")


async def nothing_listens(scene: Scene) -> str:
    scene.bare("down", DOWN_ADDRESS)
    return await _unreachable(scene)


async def packets_vanish(scene: Scene) -> str:
    scene.bare("down", DOWN_ADDRESS).nft(
        "table ip vanish {\n chain input {\n  type filter hook input priority 0\n"
        "  meta l4proto tcp drop\n }\n}\n"
    )
    return await _unreachable(scene)


async def peer_silent(scene: Scene) -> str:
    await scene.stub(DOWN_ADDRESS, "silent")
    return await _unreachable(scene)


async def _unreachable(scene: Scene) -> str:
    legacy = await scene.legacy("jabberd2")
    alice = await scene.login(legacy, "alice")
    log = legacy.log.now()
    error = await refused(alice, f"bob@{DOWN}", UNREACHABLE)
    return f"{error}; log: {await log.expect_reason(DOWN)}"


async def no_such_domain(scene: Scene) -> str:
    legacy = await scene.legacy("jabberd2", refusals="bounce")
    peer = await odd_peer(scene)
    alice = await scene.login(legacy, "alice")
    bob = await scene.login(peer, "bob", NO_SUCH)
    log = legacy.log.now()
    error = await refused(alice, bob.full, NOT_FOUND, unread_by=bob)
    why = await log.expect_reason(NO_SUCH)
    scene.world.dns.publish(NO_SUCH, "odd.test")
    try:
        back = await recovers(alice, bob)
    finally:
        scene.world.dns.withdraw(NO_SUCH)
    return f"{error}; log: {why}; back after {back:.1f} s"


async def no_such_domain_refused(scene: Scene) -> str:
    legacy = await scene.legacy("jabberd2")
    alice = await scene.login(legacy, "alice")
    log = legacy.log.now()
    # jabberd2 has one word for every refused pair
    error = await refused(alice, f"bob@{NOWHERE}", UNREACHABLE)
    why = await log.expect_reason(NOWHERE)
    return f"{error}; log: {why}"


async def dns_timeout(scene: Scene) -> str:
    legacy = await scene.legacy("jabberd2")
    peer = await scene.peer("prosody")
    alice = await scene.login(legacy, "alice")
    bob = await scene.login(peer, "bob")
    log = legacy.log.now()
    scene.world.dns.silence()
    try:
        error = await refused(alice, bob.full, UNREACHABLE, unread_by=bob)
        why = await log.expect_reason(MODERN)
    finally:
        scene.world.dns.speak()
    back = await recovers(alice, bob)
    await recovers(bob, alice)
    return f"{error}; log: {why}; back after {back:.1f} s"


async def tls_failure(scene: Scene) -> str:
    legacy = await scene.legacy("jabberd2")
    stub = await scene.stub(BROKEN_ADDRESS, "nonsense")
    alice = await scene.login(legacy, "alice")
    log = legacy.log.now()
    error = await refused(alice, f"bob@{BROKEN_TLS}", UNREACHABLE)
    why = await log.expect_reason(BROKEN_TLS)
    settings = scene.peer_settings(BROKEN_TLS, BROKEN_ADDRESS)
    peer = await scene.replace_stub(stub, "prosody", settings)
    bob = await scene.login(peer, "bob")
    back = await recovers(alice, bob)
    return f"{error}; log: {why}; back after {back:.1f} s"


async def bad_certificate(scene: Scene, domain: str) -> str:
    rule = {"match": [domain], "level": "trusted"}
    legacy = await scene.legacy("jabberd2", rules=[rule])
    peer = await odd_peer(scene)
    alice = await scene.login(legacy, "alice")
    bob = await scene.login(peer, "bob", domain)
    other = await scene.login(peer, "carol", SELF_SIGNED)
    log = legacy.log.now()
    error = await refused(alice, bob.full, UNREACHABLE, unread_by=bob)
    why = await log.expect_reason(domain)
    into = await refused(bob, alice.full, (*PEER_WORDS, "not-acceptable"), unread_by=alice)
    await deliver(alice, other)

    await peer.server.stop()
    peer.server.settings = repaired(scene, odd_settings(scene))
    await peer.server.start()
    bob = await scene.login(peer, "bob", domain)
    back = await recovers(alice, bob)
    await recovers(bob, alice)
    return f"out {error}; in {into}; log: {why}; back after {back:.1f} s"


async def legacy_down(scene: Scene) -> str:
    legacy = await scene.legacy("jabberd2")
    peer = await scene.peer("prosody")
    alice = await scene.login(legacy, "alice")
    bob = await scene.login(peer, "bob")
    await deliver(alice, bob)
    await deliver(bob, alice)

    await alice.end()
    log = legacy.log.now()
    await legacy.server.kill()
    await _noticed(log)
    log = legacy.log.now()
    error = await refused(bob, alice.jid, PEER_WORDS)
    why = await log.expect_reason("legacy.test")
    await legacy.server.start()
    alice = await scene.login(legacy, "alice")
    back = await recovers(bob, alice)
    await recovers(alice, bob)

    await alice.end()
    await legacy.server.stop()
    await legacy.server.start()
    alice = await scene.login(legacy, "alice")
    again = await recovers(alice, bob)
    await recovers(bob, alice)
    return f"{error}; log: {why}; back after {back:.1f} s, after a restart {again:.1f} s"


def _bad_certificate(domain: str, what: str) -> Scenario:
    async def play(scene: Scene) -> str:
        return await bad_certificate(scene, domain)

    claim = f"a certificate {what} is not trusted, in either direction"
    return Scenario(f"fault-certificate-{what.split()[-1]}", claim, play)


SCENARIOS = [
    Scenario("fault-peer-down", "the peer goes down and comes back", peer_down),
    Scenario("fault-refused", "nothing listens at the peer's address", nothing_listens),
    Scenario("fault-vanish", "packets to the peer vanish", packets_vanish),
    Scenario("fault-silent", "the peer accepts and says nothing", peer_silent),
    Scenario("fault-no-domain", "the domain does not exist, then does", no_such_domain),
    Scenario(
        "fault-no-domain-refused",
        "the same, where the legacy server is refused the pair",
        no_such_domain_refused,
    ),
    Scenario("fault-dns-timeout", "the resolver is silent, then speaks", dns_timeout),
    Scenario("fault-tls", "the peer breaks the TLS handshake, then is repaired", tls_failure),
    _bad_certificate(EXPIRED, "that has expired"),
    _bad_certificate(WRONG_NAME, "for another name"),
    Scenario("fault-legacy-down", "the legacy server dies, comes back, restarts", legacy_down),
]
