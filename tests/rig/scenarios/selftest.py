"""The rig proves itself, without fedgate: its servers work, and the gap to close is there."""

from ..checks import ask, befriend, chat, deliver, exchange, refused
from ..plan import LEGACY, LEGACY_ADDRESS, MODERN, OTHER, OTHER_ADDRESS, rooms
from ..scene import Failed, Scene
from ..servers import KINDS, Settings
from .base import Scenario

# Prosody gives up a stream that a legacy server does not finish after this, instead of 90 s.
PATIENCE = 8


async def secure_dns(scene: Scene) -> str:
    answer = scene.world.dns.ask(f"_xmpp-server._tcp.{MODERN}", "SRV")
    flags = next(line for line in answer.splitlines() if "Flags:" in line or "flags:" in line)
    if " ad" not in flags or "xmpp.modern.test." not in answer:
        raise Failed(f"no validated answer:\n{answer}")
    return "a signed SRV record, AD set"


async def modern(scene: Scene) -> str:
    prosody = await scene.peer("prosody")
    ejabberd = await scene.peer("ejabberd")
    bob = await scene.login(prosody, "bob")
    carol = await scene.login(ejabberd, "carol")
    seconds = await exchange(bob, carol, scene.world.messages)
    await befriend(bob, carol)
    await ask(bob, carol)
    await ask(carol, bob)
    await chat(bob, carol)
    await chat(carol, bob)
    return f"{scene.world.messages} messages each way in {seconds:.1f} s, presence, disco, rooms"


async def plain(scene: Scene, one: str, two: str) -> str:
    places = ((one, LEGACY, LEGACY_ADDRESS), (two, OTHER, OTHER_ADDRESS))
    sites = []
    for kind, domain, address in places:
        room_service = rooms(domain) if KINDS[kind].has_rooms else None
        sites.append(await scene.server(kind, Settings(domain, address, rooms=room_service)))
    alice = await scene.login(sites[0], "alice")
    bob = await scene.login(sites[1], "bob")
    await deliver(alice, bob)
    seconds = await exchange(alice, bob, scene.world.messages)
    await befriend(alice, bob)
    await ask(alice, bob)
    await ask(bob, alice)
    await chat(bob, alice)
    return f"{scene.world.messages} messages each way in {seconds:.1f} s, presence, disco, room"


async def gap(scene: Scene) -> str:
    legacy = await scene.server("jabberd2", Settings(LEGACY, LEGACY_ADDRESS))
    seen = []
    for kind in ("prosody", "ejabberd"):
        peer = await scene.peer(kind, patience=PATIENCE)
        alice = await scene.login(legacy, "alice")
        bob = await scene.login(peer, "bob")
        error = await refused(alice, bob.full, ("remote-server-timeout",), unread_by=bob)
        seen.append(f"{kind}: {error.condition} after {error.after:.1f} s")
    return "; ".join(seen)


def _plain(one: str, two: str) -> Scenario:
    async def play(scene: Scene) -> str:
        return await plain(scene, one, two)

    claim = f"{one} and {two} as legacy servers speak plain dialback with each other"
    return Scenario(f"self-plain-{one}-{two}", claim, play, self_test=True)


SCENARIOS = [
    Scenario("self-dns", "the resolver validates the signed zone", secure_dns, self_test=True),
    Scenario("self-modern", "Prosody and ejabberd of today federate", modern, self_test=True),
    _plain("jabberd2", "prosody"),
    _plain("jabberd2", "ejabberd"),
    Scenario("self-gap", "jabberd2 cannot reach servers of today", gap, self_test=True),
]
