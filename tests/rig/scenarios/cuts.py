"""Connections with a peer that has stream management (XEP-0198) break at random while stanzas go both
ways. Each is accounted for, by those who sent and got it, by fedgate's counters and by the peer's log.

RIG_CUTS and RIG_STANZAS make it long, RIG_SEED repeats the events of another run.
"""

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..client import Client
from ..gate import LEGACY_PORT, LOCAL_PORT, Gate, GateSettings
from ..gatelog import INBOUND, OUTBOUND, GateLog
from ..gauge import metrics
from ..net import Node
from ..peerlog import PeerLog
from ..plan import LEGACY, LEGACY_ADDRESS, MODERN, MODERN_ADDRESS
from ..player import Listener, Traffic
from ..scene import Failed, Scene, Site
from .base import Scenario

CUTS = int(os.environ.get("RIG_CUTS") or 10)
STANZAS = int(os.environ.get("RIG_STANZAS") or 4000)
SEED = int(os.environ.get("RIG_SEED") or random.randrange(1 << 32))
USER = "user"  # to whom, and from whom, scripted servers write
OUT, IN = "flow-out-", "flow-in-"
OUTWARDS, INWARDS = 'direction="outbound"', 'direction="inbound"'
SIZE = 200
# around a cut
BURST_SECONDS = 0.1
PORTIONS = 5
SHARE = max(1, STANZAS // 2 // CUTS // PORTIONS)  # stanzas each way
ACK = 1  # seconds
HOLES = (0.2, 3.0)  # seconds for which packets vanish; the peer is given up in some of them
PAUSES = (0.1, 0.8)
SETTLE_SECONDS = 60
STILL = 6  # looks, two a second, at what does not change
LIMITS = {
    "ack": f"{ACK}s", "write_stall": f"{ACK}s", "connect": "10s", "tcp_connect": "1s",
    "rate": "off", "stanza_rate": "off",
}  # fmt: skip


@dataclass
class Cutter:
    """Breaks connections between fedgate and the peer."""

    node: Node
    peer: Node
    gate: Gate
    random: random.Random

    async def cut(self, after: float) -> str | None:
        """Breaks what there is, so many seconds from now, in one of the ways, chosen at random; that
        way, if fedgate lost a stream by it."""
        await asyncio.sleep(after)
        before = self._ended()
        ways: list[Callable[[], Awaitable[None]]] = [
            self.reset_here, self.reset_here, self.reset_there, self.reset_there, self.reset_one,
            self.reset_one, self.refuse, self.vanish, self.from_peer_vanish, self.to_peer_vanish,
        ]  # fmt: skip
        way = self.random.choice(ways)
        await way()
        for _ in range(20):
            if self._ended() > before:
                return way.__name__
            await asyncio.sleep(0.05)
        return None

    def _ended(self) -> float:
        """Streams with the peer that ended."""
        return sum(
            value
            for name, value in metrics(self.gate).items()
            if name.startswith("fedgate_streams_closed_total") and 'side="peer"' in name
        )

    async def reset_here(self) -> None:
        self.node.run("ss", "-Ktn", "dst", MODERN_ADDRESS)

    async def reset_there(self) -> None:
        self.peer.run("ss", "-Ktn", "dst", LEGACY_ADDRESS)

    async def reset_one(self) -> None:
        """One connection, the other stays."""
        lines = self.node.run("ss", "-Htn", "state", "established", "dst", MODERN_ADDRESS)
        if lines:
            local, remote = self.random.choice(lines.splitlines()).split()[2:4]
            self.node.run("ss", "-Ktn", "src", local, "dst", remote)

    async def refuse(self) -> None:
        """Whatever comes from the peer is answered with a reset, new connections too."""
        await self._rule(f"ip saddr {MODERN_ADDRESS} meta l4proto tcp reject with tcp reset")

    async def vanish(self) -> None:
        """Nothing passes, either way."""
        await self._rule(f"ip saddr {MODERN_ADDRESS} drop", f"ip daddr {MODERN_ADDRESS} drop")

    async def from_peer_vanish(self) -> None:
        """The peer gets all, and nobody hears of it."""
        await self._rule(f"ip saddr {MODERN_ADDRESS} drop")

    async def to_peer_vanish(self) -> None:
        """fedgate gets all, and nobody hears of it."""
        await self._rule("", f"ip daddr {MODERN_ADDRESS} drop")

    async def _rule(self, coming: str, going: str = "") -> None:
        """These rules for a while."""
        chains = "".join(
            f" chain {hook} {{\n  type filter hook {hook} priority 0\n  {rule}\n }}\n"
            for hook, rule in (("input", coming), ("output", going))
        )
        self.node.nft(f"table ip cuts {{\n{chains}}}\n")
        await asyncio.sleep(self.random.uniform(*HOLES))
        self.node.nft("delete table ip cuts\n")


@dataclass
class Cuts:
    """One run."""

    legacy: Traffic
    gate: Gate
    user: Client
    peer: Site
    cutter: Cutter
    happened: Counter[str] = field(default_factory=Counter)
    sent: int = 0  # each way
    came: list[int] = field(default_factory=list)  # to the user, in this order
    back: list[int] = field(default_factory=list)  # to the user, as errors
    _read: int = 0  # of the user's events

    async def run(self) -> str:
        self.legacy.flow("out", LEGACY, MODERN, 0, SIZE)
        await self._carry()
        for direction in (INBOUND, OUTBOUND):
            await GateLog(self.gate.log).expect_managed(direction)
        while self.happened.total() < CUTS:
            # some while streams are made
            if self.cutter.random.random() < 0.8:
                await self._carry()
            cut = asyncio.create_task(self.cutter.cut(self.cutter.random.uniform(0, BURST_SECONDS)))
            await self._burst()
            if way := await cut:
                self.happened[way] += 1
            await asyncio.sleep(self.cutter.random.uniform(*PAUSES))
        while self.sent < STANZAS // 2:
            await self._burst()
        await self._settled()
        await self._carry()
        await self._settled()
        return self._judge(await self.legacy.numbers(), (await self.legacy.accounts())["made"]["out"])

    async def _burst(self) -> None:
        for _ in range(PORTIONS):
            self._send(SHARE)
            await asyncio.sleep(BURST_SECONDS / PORTIONS)

    def _send(self, count: int) -> None:
        """So many each way."""
        self.legacy.push("out", count)
        self.user.send(f"{USER}@{LEGACY}", IN[:-1], count, self.sent, "normal")
        self.sent += count

    async def _carry(self) -> None:
        """Sends until one each way arrives."""
        out, into = self._arrived_out(), await self._arrived_in()
        for turn in range(SETTLE_SECONDS * 20):
            if turn % 20 == 0:
                self._send(1)
            await asyncio.sleep(0.05)
            if self._arrived_out() > out and await self._arrived_in() > into:
                return
        raise Failed("nothing arrives any more")

    def _arrived_out(self) -> int:
        for event in self.user.events[self._read :]:
            if event["event"] == "message":
                (self.back if event["type"] == "error" else self.came).append(_id(event["id"]))
        self._read = len(self.user.events)
        return len(self.came)

    async def _arrived_in(self) -> int:
        arrived: int = (await self.legacy.accounts())["arrived"].get("in", [0])[0]
        return arrived

    async def _settled(self) -> None:
        """Waits until nothing changes any more, here or in fedgate."""
        before, still = None, 0
        for _ in range(2 * SETTLE_SECONDS):
            await asyncio.sleep(0.5)
            accounts = await self.legacy.accounts()
            now = accounts["arrived"], accounts["bounced"], len(self.user.events)
            still = still + 1 if now == before and not self._count("fedgate_queue_stanzas") else 0
            before = now
            if still > STILL:
                return
        raise Failed(f"stanzas still come and go after {SETTLE_SECONDS} s, or are stuck: {before}")

    def _count(self, metric: str, *labels: str) -> int:
        """A metric of fedgate's, over all values of its other labels."""
        found = metrics(self.gate).items()
        return int(
            sum(
                value
                for name, value in found
                if name.partition("{")[0] == metric and all(label in name for label in labels)
            )
        )

    def _judge(self, numbers: dict[str, Any], made: int) -> str:
        log = PeerLog.of(self.peer.server.processes[0].log, lambda each: each.startswith((OUT, IN)))
        self._arrived_out()
        out = Way(made, self.came, numbers["bounced"]["out"])
        into = Way(self.sent, numbers["arrived"]["in"], self.back)
        arrived = self.gate.home.with_name("arrived.json")  # for whoever looks into a failure
        arrived.write_text(json.dumps({"out": [out.came, out.back], "in": [into.came, into.back]}))
        read, acked = {_id(each) for each in log.read}, _ids(log.acked)
        problems = [
            *out.problems(),
            *into.problems(),
            *self._out(out, read),
            *self._in(into, acked, _wire(log)),
        ]
        if numbers["bounced_again"]["out"]:
            problems.append("came back twice")
        text = (
            f"{self.happened.total()} cuts"
            f" ({', '.join(f'{count} {way}' for way, count in sorted(self.happened.items()))});"
            f" to Prosody: {out}, {len(out.missing & read)} of these lost by Prosody itself;"
            f" from Prosody: {into}, {len(into.missing & _ids(log.uncounted))} of these written"
            f" before it counts, {len(acked)} acknowledged; it sent {_disorder(_wire(log))} of them"
            " out of order itself"
        )
        if problems:
            raise Failed(f"{'; '.join(problems)}; {text}")
        return text

    def _out(self, way: "Way", read: set[int]) -> Iterator[str]:
        """What becomes of all that fedgate takes for the peer is known to fedgate."""
        taken = self._count("fedgate_stanzas_total", OUTWARDS)
        acked = self._count("fedgate_stanzas_delivered_total", OUTWARDS)
        bounced = self._count("fedgate_stanzas_bounced_total", OUTWARDS)
        if (taken, bounced) != (way.made, len(way.back)) or taken != acked + bounced:
            yield f"of {way.made} fedgate counts {taken}, {acked} acknowledged, {bounced} bounced"
        if acked != len(read - set(way.back)):
            yield f"{acked} acknowledged, but the peer has read {len(read)}, {len(way.both)} bounced"
        if lost := way.missing - read:
            yield f"{len(lost)} lost: {sorted(lost)[:5]}"
        if disorder := _disorder(way.kept):
            yield f"{disorder} arrived out of order"
        if not read >= set(way.came):
            yield "the peer's log does not say what it has read"

    def _in(self, way: "Way", acked: set[int], wire: list[int]) -> Iterator[str]:
        """All that fedgate takes from the peer arrives, and so what it acknowledges. What it never got
        is lost by the peer, which cannot know of what it writes before it counts."""
        taken = self._count("fedgate_stanzas_total", INWARDS)
        delivered = self._count("fedgate_stanzas_delivered_total", INWARDS)
        if not taken == delivered == len(way.came):
            yield f"fedgate counts {taken} from the peer, {delivered} delivered, not {len(way.came)}"
        if not acked or acked - set(way.came):
            yield f"of {len(acked)} acknowledged {len(acked - set(way.came))} did not arrive"
        # the peer's own order, be it as it may
        place = {number: at for at, number in enumerate(wire)}
        if disorder := _disorder([place[number] for number in way.kept]):
            yield f"{disorder} arrived in another order than the peer sent them"
        if lost := self._count("fedgate_errors_lost_total"):
            yield f"{lost} errors lost"


class Way:
    """What became of the stanzas of one direction, by number."""

    def __init__(self, made: int, came: list[int], back: list[int]) -> None:
        self.made, self.came, self.back = made, came, back
        self.both = set(came) & set(back)
        # What came back may still arrive, from the buffers of a connection that one end has given up.
        self.kept = [number for number in came if number not in self.both]
        self.late = _disorder(came) - _disorder(self.kept)
        self.missing = set(range(made)) - set(came) - set(back)

    def problems(self) -> Iterator[str]:
        if len(set(self.came)) != len(self.came):
            yield f"{len(self.came) - len(set(self.came))} arrived twice"
        if len(set(self.back)) != len(self.back):
            yield f"{len(self.back) - len(set(self.back))} came back twice"

    def __str__(self) -> str:
        return (
            f"{self.made} sent, {len(self.came)} arrived, {len(self.back)} came back, {len(self.both)}"
            f" of them had arrived, {self.late} after later ones, {len(self.missing)} neither"
        )


def _id(stanza: str) -> int:
    return int(stanza.rpartition("-")[2])


def _ids(stanzas: Iterable[str]) -> set[int]:
    """The numbers of those from the peer."""
    return {_id(each) for each in stanzas if each.startswith(IN)}


def _wire(log: PeerLog) -> list[int]:
    """The numbers of those from the peer, as it has sent them."""
    return [_id(each) for each in log.written if each.startswith(IN)]


def _disorder(numbers: list[int]) -> int:
    """How many come after one that is greater."""
    most, count = -1, 0
    for number in numbers:
        count += number < most
        most = max(most, number)
    return count


async def cuts(scene: Scene, bidi: bool) -> str:
    print(f"{scene.directory.name}: {CUTS} cuts, {STANZAS} stanzas, RIG_SEED={SEED}", flush=True)
    node = scene.bare("legacy", LEGACY_ADDRESS)
    legacy = await scene.traffic(
        "legacy", node, [Listener("127.0.0.1", LEGACY_PORT)], ("127.0.0.1", LOCAL_PORT)
    )
    settings = GateSettings(
        LEGACY_ADDRESS,
        "scripted",
        (LEGACY,),
        scene.world.authority.issue(LEGACY, LEGACY),
        scene.world.authority.root,
        refusals="bounce",
        sections={"posh": {"fetch": False}, "limits": LIMITS},
    )
    gate = await scene.gate("legacy", node, settings)
    peer = await scene.peer("prosody", smacks=True, bidi=bidi)
    user = await scene.login(peer, USER)
    cutter = Cutter(node, peer.node, gate, random.Random(SEED))
    return await Cuts(legacy, gate, user, peer, cutter).run()


async def apart(scene: Scene) -> str:
    """A stream for each direction."""
    return await cuts(scene, bidi=False)


async def together(scene: Scene) -> str:
    """One for both (XEP-0288)."""
    return await cuts(scene, bidi=True)


SCENARIOS = [
    Scenario(f"acknowledged-cuts{name}", claim, play, seconds=120 + 6 * CUTS)
    for name, claim, play in (
        ("", "connections with Prosody break at random: each stanza is accounted for", apart),
        ("-bidi", "the same where one stream carries both directions", together),
    )
]
