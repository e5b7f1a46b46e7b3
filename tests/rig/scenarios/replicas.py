"""Three fedgates for the same domains, which share the dialback secret and nothing else."""

import asyncio
import itertools
import os
from dataclasses import dataclass, field

from ..checks import deliver, recovers, tag
from ..client import Client
from ..gate import LEGACY_PORT, LOCAL_PORT, PUBLIC_PORT, UID, Gate, GateSettings
from ..gatelog import DIALBACK, INBOUND, OUTBOUND, GateLog
from ..net import Node
from ..plan import MODERN, MODERN_ADDRESS, STARTTLS
from ..player import Listener, Player
from ..scene import Failed, Scene, Site
from ..servers import Settings
from ..wait import until
from .base import Scenario

DOMAIN = "replicas.test"
LEGACY_ADDRESS = "10.77.0.40"
ADDRESSES = ("10.77.0.41", "10.77.0.42", "10.77.0.43")
KILLS = 6
BATCH, PACE = 5, 0.02  # messages of a sender at once, and seconds before the next
SECOND = 250  # messages of a sender in a second
ROUND = 500  # messages each way that have to get through before the next replica is killed
SETTLE_SECONDS = 60


@dataclass(frozen=True)
class Replica:
    """One of the fedgates, on a machine of its own."""

    node: Node
    gate: Gate

    @property
    def log(self) -> GateLog:
        return GateLog(self.gate.log)


async def verify(scene: Scene) -> str:
    """Each domain leaves through one replica, and its SRV record names another."""
    ways = list(itertools.permutations(range(len(ADDRESSES)), 2))
    domains = {way: f"from{way[0]}to{way[1]}.{DOMAIN}" for way in ways}
    peer = await _peer(scene)
    node = scene.bare("legacy", LEGACY_ADDRESS)
    legacy = await scene.player("legacy", node, [Listener(LEGACY_ADDRESS, LEGACY_PORT)])
    replicas = await _replicas(scene, "scripted", tuple(domains.values()))
    for (_, asked), domain in domains.items():
        _publish(scene, domain, asked)
    bob = await scene.login(peer, "bob")
    for (maker, _), domain in domains.items():
        legacy.send(domain, MODERN, tag(), ADDRESSES[maker], LOCAL_PORT)
        await replicas[maker].log.expect_stream(OUTBOUND, domain, MODERN, auth=DIALBACK)
        word = tag()
        bob.send(f"user@{domain}", word)
        await _arrives(legacy, f"{word}-0")
    return f"{len(ways)} keys verified by another replica than the one that made them"


async def _arrives(legacy: Player, stanza: str) -> None:
    await until(lambda: stanza in legacy.stanzas, SETTLE_SECONDS, f"{stanza} to arrive")


async def local(scene: Scene) -> str:
    """Peers come in at one replica, and the legacy server asks another about its key."""
    peer = await _peer(scene)
    asked, maker = (await _replicas(scene, "jabberd2", (DOMAIN,), ADDRESSES[:1]))[:2]
    settings = Settings(DOMAIN, LEGACY_ADDRESS, s2s_port=LEGACY_PORT)
    legacy = await scene.server("jabberd2", settings, ADDRESSES[:1])
    _publish(scene, DOMAIN, 1)
    alice = await scene.login(legacy, "alice")
    bob = await scene.login(peer, "bob")
    await deliver(bob, alice)
    for replica, direction in ((maker, INBOUND), (asked, OUTBOUND)):
        if not replica.log.legacy_streams(direction):
            raise Failed(f"no {direction} stream with the legacy server where one was expected")
    if asked.log.legacy_streams(INBOUND):
        raise Failed("the replica that was asked has made a key itself")
    return "one replica's key verified by the legacy server at another"


async def killed(scene: Scene) -> str:
    """The busiest is killed while messages go both ways, and comes back; several times."""
    return await _under_load(scene, "-9")


async def stopped(scene: Scene) -> str:
    """The same with SIGTERM: nothing at all is lost."""
    return await _under_load(scene, "SIGTERM")


async def _under_load(scene: Scene, signal: str) -> str:
    peer = await _peer(scene)
    replicas = await _replicas(scene, "jabberd2", (DOMAIN,))
    settings = Settings(DOMAIN, LEGACY_ADDRESS, s2s_port=LEGACY_PORT)
    legacy = await scene.server("jabberd2", settings, ADDRESSES)
    _publish(scene, DOMAIN, *range(len(ADDRESSES)))
    alice = await scene.login(legacy, "alice")
    bob = await scene.login(peer, "bob")
    for sender, receiver in ((alice, bob), (bob, alice)):
        await recovers(sender, receiver)
    flows = [Flow(alice, bob), Flow(bob, alice)]
    loads = [asyncio.create_task(flow.run()) for flow in flows]
    carried: list[int] = []
    try:
        await _through(flows)
        while len(carried) < KILLS:
            busiest = max(replicas, key=_carried)
            carried.append(_carried(busiest))
            if signal == "SIGTERM":
                await busiest.gate.stop()
            else:
                arrived = [max(flow.delivered()) for flow in flows]
                await busiest.gate.kill()
                for flow, last in zip(flows, arrived, strict=True):
                    flow.kills.append(range(last + 1, flow.sent + SECOND))
            await _through(flows)
            await busiest.gate.resume()
            await _through(flows)
    finally:
        for load in loads:
            load.cancel()
        await asyncio.gather(*loads, return_exceptions=True)
    for flow in flows:
        await flow.end()
    accounts = [flow.account() for flow in flows]
    return "; ".join([*accounts, f"{KILLS} times {signal}, with {carried} streams to the peer"])


@dataclass
class Flow:
    """Numbered messages of one user to another, at a steady pace."""

    sender: Client
    receiver: Client
    word: str = field(default_factory=tag)
    sent: int = 0
    # of each kill: what can have been in the killed process, or on the way to it before its
    # neighbours had noticed
    kills: list[range] = field(default_factory=list)

    async def run(self) -> None:
        """Sends until cancelled."""
        while True:
            self._send(BATCH)
            await asyncio.sleep(PACE)

    async def end(self) -> None:
        """One more message, behind which nothing is left on the way."""
        self._send(1)
        last = self.sent - 1
        await until(lambda: last in self.delivered(), SETTLE_SECONDS, "the last message")

    async def gets_through(self, start: int) -> None:
        """Waits until enough of what is sent from number `start` on has arrived."""

        def enough() -> bool:
            return sum(number >= start for number in self.delivered()) >= ROUND

        await until(enough, SETTLE_SECONDS, f"{self.sender.jid} to get through")

    def _send(self, count: int) -> None:
        self.sender.send(self.receiver.full, self.word, count, self.sent)
        self.sent += count

    def delivered(self) -> list[int]:
        return self.receiver.numbers(self.word)

    def bounced(self) -> set[int]:
        return {int(event["id"].rpartition("-")[2]) for event in self.sender.errors(self.word)}

    def missing(self) -> list[int]:
        """Neither arrived nor came back."""
        return sorted({*range(self.sent)} - {*self.delivered()} - self.bounced())

    def account(self) -> str:
        """What became of all messages; fails if one is lost that no kill explains."""
        arrived = self.delivered()
        if len(arrived) != len(set(arrived)):
            raise Failed(f"{self.sender.jid}: some arrived twice")
        if arrived != sorted(arrived):
            raise Failed(f"{self.sender.jid}: out of order")
        bounced, missing = self.bounced(), self.missing()
        unexplained = set(missing)
        for held in self.kills:
            # what one process held of one pair is one piece, for it keeps the order
            gap = [number for number in missing if number in held]
            if gap and {*arrived} & {*range(gap[0], gap[-1])}:
                raise Failed(f"{self.sender.jid}: one kill has lost {gap}, not all in one piece")
            unexplained -= {*gap}
        if unexplained:
            raise Failed(f"{self.sender.jid}: {sorted(unexplained)} lost without a kill")
        return (
            f"{self.sender.jid} sent {self.sent}: {len(arrived)} arrived, {len(bounced)} came back,"
            f" {len(missing)} died with a process"
        )


async def _through(flows: list[Flow]) -> None:
    """What is sent from now on arrives."""
    starts = [flow.sent for flow in flows]
    for flow, start in zip(flows, starts, strict=True):
        await flow.gets_through(start)


def _carried(replica: Replica) -> int:
    """How many connections with the peer it has."""
    ports = f"( sport = :{PUBLIC_PORT} or dport = :{PUBLIC_PORT} )"
    return len(replica.node.run("ss", "-Htn", "state", "established", ports).splitlines())


async def _peer(scene: Scene) -> Site:
    """A server of today whose certificate proves nothing, and which believes dialback."""
    certificate = scene.world.authority.self_signed(f"{MODERN}-self-signed", MODERN)
    settings = scene.peer_settings(
        MODERN, MODERN_ADDRESS, strict=False, certificates={MODERN: certificate}, rooms=None
    )
    return await scene.server("prosody", settings)


async def _replicas(
    scene: Scene, legacy: str, domains: tuple[str, ...], steered: tuple[str, ...] = ADDRESSES
) -> list[Replica]:
    """All of them; the legacy server is sent to those that are `steered` to."""
    secret = scene.directory / "dialback.secret"
    secret.write_text(f"{os.urandom(32).hex()}\n")
    secret.chmod(0o400)
    os.chown(secret, UID, UID)
    return [
        await _replica(scene, number, legacy, domains, steered, str(secret))
        for number in range(len(ADDRESSES))
    ]


async def _replica(
    scene: Scene,
    number: int,
    legacy: str,
    domains: tuple[str, ...],
    steered: tuple[str, ...],
    secret: str,
) -> Replica:
    address = ADDRESSES[number]
    node = scene.bare(f"replica-{number}", address)
    scene.record(_host(number), "A", address)
    settings = GateSettings(
        address,
        legacy,
        domains,
        None,
        scene.world.authority.root,
        sections={
            "dialback": {"secret_file": secret},
            "listen": {"local": [f"{address}:{LOCAL_PORT}"], "dns": [f"{address}:53"]},
            "steer": {"address": list(steered)},
            "legacy": {
                legacy: {
                    "address": f"{LEGACY_ADDRESS}:{LEGACY_PORT}",
                    "domains": list(domains),
                    "sources": [LEGACY_ADDRESS],
                    "refusals": "bounce",
                }
            },
        },
    )
    return Replica(node, await scene.gate(f"replica-{number}", node, settings))


def _publish(scene: Scene, domain: str, *numbers: int) -> None:
    """The domain's SRV records name these replicas, all with the same priority and weight."""
    service, port = STARTTLS
    for number in numbers:
        scene.record(f"{service}.{domain}", "SRV", f"10 10 {port} {_host(number)}.")


def _host(number: int) -> str:
    return f"replica-{number}.test"


SCENARIOS = [
    Scenario("replicas-verify", "any replica answers for the keys of the others", verify),
    Scenario("replicas-local", "the legacy server asks another replica about a key", local),
    Scenario(
        "replicas-killed", "three replicas, the busiest killed under load, again and again", killed
    ),
    Scenario(
        "replicas-stopped", "three replicas, the busiest stopped under load: nothing lost", stopped
    ),
]
