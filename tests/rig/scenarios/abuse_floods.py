"""Floods of dialback, of stanzas that lead nowhere, of streams from the legacy server; servers that
are slow or deaf. Bounds and the honest peer as in `abuse.py`."""

import asyncio
from typing import Any

from ..crowd import crowded
from ..gate import LEGACY_PORT, LOCAL_PORT
from ..gatelog import OUTBOUND
from ..gauge import MIB, metrics
from ..ground import Ground, open_ground
from ..net import Node
from ..plan import DOWN_ADDRESS, LEGACY, MODERN_ADDRESS, UNBOUND
from ..player import Listener
from ..scene import Failed, Scene
from ..wait import until
from .abuse import ANYWAY_BYTES, FULL, LIMITS, SOME, STRANGER_BYTES, gather
from .base import Scenario

FLOOD_SECONDS = 20 if FULL else 3
ADDRESSES = 8
STREAMS_PER_ADDRESS = 4
DIALBACK_RATE = 40  # requests a second that one address may make here
BURST = 1  # seconds
# A domain may have two targets, by STARTTLS and by direct TLS, and each is connected to once; to find
# them takes two questions for SRV and as many for addresses of each; a host name is asked for both
# kinds of addresses.
CONNECTIONS_EACH = 2
QUESTIONS_EACH = 8
LEGACY_STREAMS = 10_000 if FULL else 900
DEAD_DOMAINS = 40
STORM_RATE = 40.0  # stanzas a second for each of them
QUEUE = 4  # MiB, for one domain pair
LARGE = 16_000  # bytes
KERNEL = 256 << 10  # bytes of a socket's buffer
BUFFERS = 2 * KERNEL + MIB // 2  # of both kernels, and of the peer's TLS
QUESTIONS = 256  # that fedgate asks at once for peers
SETTLE_SECONDS = 60
PATIENCE = 14  # looks, two a second, at what stands still: longer than a stream may take to open

COUNT = """
table ip flood {
 chain input {
  type filter hook input priority 0
  %s counter
 }
}
"""


async def results(scene: Scene) -> str:
    """Dialback requests for domains that are at a victim's, who has nothing to do with it, and for
    domains that do not exist."""
    rates = {"dialback_rate": f"{DIALBACK_RATE}/s", "burst": f"{BURST}s"}
    ground = await open_ground(scene, limits={**LIMITS, **rates})
    node = crowded(scene, ground.node)
    victim = scene.bare("victim", DOWN_ADDRESS)
    victim.nft(COUNT % "tcp flags & (syn | ack) == syn")
    asked_dns = scene.world.dns.node
    asked_dns.nft(COUNT % f"ip daddr {UNBOUND} udp dport 53")
    scene.record("host.victim.test", "A", DOWN_ADDRESS)
    scene.record("*.at-victim.test", "SRV", "10 10 5269 host.victim.test.")
    found = []
    try:
        await ground.calm()
        before = ground.gauge.now()
        async with ground.gauge:
            for domain in ("at-victim.test", "nowhere.test"):
                started, connections = counter(asked_dns), counter(victim)
                crowd = await gather(
                    ground, node, "results", ADDRESSES * STREAMS_PER_ADDRESS,
                    addresses=ADDRESSES, domain=domain,
                )  # fmt: skip
                await asyncio.sleep(FLOOD_SECONDS)
                await crowd.stop()
                # what was taken is looked into, at most for as long as a connection may take
                await asyncio.sleep(2)
                questions = counter(asked_dns) - started
                connections = counter(victim) - connections
                # what the rate allows, and one second for a slow machine
                taken = ADDRESSES * DIALBACK_RATE * (FLOOD_SECONDS + BURST + 3)
                if not questions:
                    raise Failed(f"{crowd['asked']} requests for {domain} have caused no question")
                if questions > taken * QUESTIONS_EACH or connections > taken * CONNECTIONS_EACH:
                    raise Failed(
                        f"{crowd['asked']} requests, {taken} of which may be taken, have caused"
                        f" {connections} connections and {questions} questions"
                    )
                found.append(
                    f"{crowd['asked']} requests for {domain}: {connections} connections to the"
                    f" victim, {questions} DNS questions"
                )
            honest = await ground.verdict()
    finally:
        asked_dns.nft("delete table ip flood\n")
    streams = ADDRESSES * STREAMS_PER_ADDRESS
    # a question has a connection, or looks for one, with two sockets for DNS
    used = ground.bounded(
        before,
        ANYWAY_BYTES + 2 * (streams + QUESTIONS) * STRANGER_BYTES,
        streams + 3 * QUESTIONS + SOME,
    )
    await ground.back("opened for the flood", before.descriptors + SOME)
    return f"{'; '.join(found)}: {used}; {honest}"


def counter(node: Node) -> int:
    """Packets that were counted."""
    rules = node.run("nft", "list", "chain", "ip", "flood", "input").split()
    return int(rules[rules.index("packets") + 1])


async def verifies(scene: Scene) -> str:
    """Questions about keys, and as many from who never reads an answer."""
    ground = await open_ground(
        scene, limits={**LIMITS, "dialback_rate": "off", "write_stall": "3s"}
    )
    node = crowded(scene, ground.node)
    await ground.calm()
    before = ground.gauge.now()
    async with ground.gauge:
        asking = await gather(ground, node, "verifies", 8)
        deaf = await gather(ground, node, "deaf", 8, window=4096)
        await asyncio.sleep(FLOOD_SECONDS)
        await asking.stop()
        await deaf.over()
        honest = await ground.verdict()
    if not asking["answers"]:
        raise Failed(f"no question was answered: {asking.counts}")
    used = ground.bounded(before, ANYWAY_BYTES + 16 * 8 * STRANGER_BYTES, SOME)
    await ground.back("opened for questions", before.descriptors + SOME)
    return (
        f"{asking['answers']} questions answered, {deaf['asked']} from the deaf, who were all cut"
        f" off: {used}; {honest}"
    )


async def legacy_streams(scene: Scene) -> str:
    """A legacy server that opens streams without end, many of them with keys that are none."""
    most = LEGACY_STREAMS // 2
    ground = await open_ground(scene, limits={**LIMITS, "connections": most})
    await ground.calm()
    before = ground.gauge.now()
    async with ground.gauge:
        crowd = await gather(
            ground, ground.node, "legacy", LEGACY_STREAMS, host="127.0.0.1", port=LOCAL_PORT,
            network="127.1", own=LEGACY,
        )  # fmt: skip
        await crowd.over()
        honest = await ground.verdict()
    if crowd["sent away"] != LEGACY_STREAMS:
        raise Failed(f"not all of {LEGACY_STREAMS} were sent away: {crowd.counts}")
    rejected = 'fedgate_connections_rejected_total{listener="local",reason="limit"}'
    refused = metrics(ground.gate).get(rejected, 0)
    # a stream, and the question to the legacy server about its key
    used = ground.bounded(
        before, ANYWAY_BYTES + LEGACY_STREAMS * STRANGER_BYTES, most + 2 * QUESTIONS + SOME
    )
    await ground.back("opened by the legacy server", before.descriptors + SOME)
    return f"{LEGACY_STREAMS} streams, {refused:.0f} above the limit: {used}; {honest}"


async def bounces(scene: Scene) -> str:
    """The legacy server sends and sends to domains that are not reached."""
    scene.bare("down", DOWN_ADDRESS)
    scene.record("host.dead.test", "A", DOWN_ADDRESS)
    scene.record("*.all-dead.test", "SRV", "10 10 5269 host.dead.test.")
    ground = await open_ground(scene, limits=LIMITS)
    await ground.calm()
    before = ground.gauge.now()
    async with ground.gauge:
        for number in range(DEAD_DOMAINS):
            domain = f"d{number}.all-dead.test"
            ground.legacy.flow(f"dead{number}", LEGACY, domain, STORM_RATE, 300)
        await asyncio.sleep(FLOOD_SECONDS)
        ground.legacy.pace(0)
        made, bounced = await _all_decided(ground)
        honest = await ground.verdict()
    if made != bounced:
        raise Failed(f"of {made} messages {bounced} came back")
    # a stream from the legacy server for each, one to it for the errors, and what is dialled
    used = ground.bounded(before, ANYWAY_BYTES + DEAD_DOMAINS * MIB // 2, 4 * DEAD_DOMAINS + SOME)
    # those with the legacy server stay, for they are in order
    await ground.back("dialled in the storm", before.descriptors + 2 * DEAD_DOMAINS + SOME)
    return f"{made} messages to {DEAD_DOMAINS} dead domains, all came back: {used}; {honest}"


async def _all_decided(ground: Ground) -> tuple[int, int]:
    """Messages that the legacy server has made, and how many came back, once that stands still."""
    accounts: dict[str, Any] = {}

    async def sums() -> tuple[int, int]:
        nonlocal accounts
        accounts = await ground.legacy.accounts()
        return sum(accounts["made"].values()), sum(accounts["bounced"].values())

    before, still = await sums(), 0
    for _ in range(SETTLE_SECONDS * 2):
        await asyncio.sleep(0.5)
        now = await sums()
        still = still + 1 if now == before else 0
        before = now
        # streams that are being dialled say nothing for as long as that may take
        if now[0] == now[1] or still > PATIENCE:
            break
    return before


async def deaf_peer(scene: Scene) -> str:
    """A peer reads nothing any more, and the legacy server sends on and on."""
    limits = {**LIMITS, "write_stall": "2s", "queue": f"{QUEUE}MiB"}
    ground = await open_ground(scene, limits=limits)
    domain = "deaf.test"
    node = scene.bare("deaf", MODERN_ADDRESS)
    # what the kernels take is not what this is about
    for machine, buffer in ((node, "tcp_rmem"), (ground.node, "tcp_wmem")):
        machine.run("sh", "-c", f"echo 4096 65536 {KERNEL} > /proc/sys/net/ipv4/{buffer}")
    certificate = scene.world.authority.issue(domain, domain)
    deaf = await scene.traffic(
        "deaf", node, [Listener(MODERN_ADDRESS, 5269)], ("127.0.0.1", 1), {domain: certificate}
    )
    scene.record("host.deaf.test", "A", MODERN_ADDRESS)
    scene.record(f"_xmpp-server._tcp.{domain}", "SRV", "10 10 5269 host.deaf.test.")
    ground.legacy.send(LEGACY, domain, "first", "127.0.0.1", LOCAL_PORT)
    await until(lambda: "first" in deaf.stanzas, SETTLE_SECONDS, "the stream to the deaf peer")
    await ground.calm()
    before = ground.gauge.now()
    async with ground.gauge:
        deaf.deafen()
        ground.legacy.flow("deaf", LEGACY, domain, 400.0, LARGE)
        await asyncio.sleep(FLOOD_SECONDS)
        ground.legacy.pace(0)
        made, bounced = await _all_decided(ground)
        arrived = (await deaf.accounts())["arrived"].get("deaf", [0, 0, 0])
        honest = await ground.verdict()
    lost = made - arrived[0] - bounced
    streams = len(ground.log.streams(OUTBOUND, domain))
    if lost * LARGE > streams * BUFFERS:
        raise Failed(f"of {made} messages {lost} are lost, more than buffers can have held")
    if arrived[1] or arrived[2]:
        raise Failed(f"of {arrived[0]} messages {arrived[1]} came twice, {arrived[2]} in disorder")
    # the queue, once more the same on its way back as errors, and the buffers of two streams
    used = ground.bounded(before, ANYWAY_BYTES + 4 * QUEUE * MIB, SOME)
    return (
        f"{made} messages of 16 kB to a deaf peer: {arrived[0]} arrived,"
        f" {bounced} came back, {lost} were in the buffers of {streams} streams: {used};"
        f" {honest}"
    )


async def slow_servers(scene: Scene) -> str:
    """Peers, and a legacy server, that say a byte of their header now and then."""
    slow_port = LEGACY_PORT + 1
    slow_legacy = {"address": f"127.0.0.1:{slow_port}", "domains": ["slow.test"]}
    ground = await open_ground(scene, limits=LIMITS, legacy={"slow": slow_legacy})
    await scene.stub(DOWN_ADDRESS, "drip")
    await scene.stub("127.0.0.1", "drip", ground.node, slow_port)
    scene.record("host.slow-peers.test", "A", DOWN_ADDRESS)
    scene.record("*.all-slow.test", "SRV", "10 10 5269 host.slow-peers.test.")
    await ground.calm()
    before = ground.gauge.now()
    async with ground.gauge:
        for number in range(DEAD_DOMAINS):
            ground.legacy.flow(f"slow{number}", LEGACY, f"s{number}.all-slow.test", 5.0, 300)
        ground.peer.flow("slow", ground.domain, "slow.test", 5.0, 300)
        await asyncio.sleep(FLOOD_SECONDS)
        ground.legacy.pace(0)
        ground.peer.pace(0)
        made, bounced = await _all_decided(ground)
        honest = await ground.verdict()
    if made != bounced:
        raise Failed(f"of {made} messages to slow peers {bounced} came back")
    used = ground.bounded(
        before, ANYWAY_BYTES + 4 * DEAD_DOMAINS * STRANGER_BYTES, 4 * DEAD_DOMAINS + SOME
    )
    await ground.back("opened to slow servers", before.descriptors + 2 * DEAD_DOMAINS + SOME)
    return f"{made} messages to {DEAD_DOMAINS} slow peers, all came back: {used}; {honest}"


SCENARIOS = [
    Scenario(f"abuse-{name}", claim, play, seconds=400)
    for name, claim, play in (
        ("results", "a flood of dialback requests, at a victim's cost", results),
        ("verifies", "a flood of questions about keys, also from the deaf", verifies),
        ("legacy-streams", "a legacy server that opens streams without end", legacy_streams),
        ("bounces", "a storm of stanzas that cannot be delivered", bounces),
        ("deaf-peer", "a peer that reads nothing while it is sent a lot", deaf_peer),
        ("slow-servers", "peers and a legacy server that never finish their header", slow_servers),
    )
]
