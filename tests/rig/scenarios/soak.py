"""Hours in the life of a fedgate, in short: steady traffic, while everything around it happens at
random. By hand, with `tests/soak.sh`."""

import asyncio
import itertools
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..gate import LOCAL_PORT, PUBLIC_PORT
from ..gauge import MIB, Sample, look, metrics
from ..ground import Ground, open_ground
from ..plan import LEGACY
from ..scene import Failed, Scene
from .base import Scenario

MINUTES = float(os.environ.get("SOAK_MINUTES") or 30)
SEED = int(os.environ.get("SOAK_SEED") or random.randrange(1 << 32))
LOAD = 0.2  # of one core
CATCH_UP = 0.02  # so much more or less, to make up for the time before
CATCH_UP_SECONDS = 120  # in so long
DOMAINS = 10
# bytes of text, in turn: chat for the most part
SIZES = (
    60, 120, 40, 300, 80, 200, 60, 1000, 40, 150,
    90, 400, 60, 4000, 120, 60, 250, 80, 40, 16000,
)  # fmt: skip
# seconds; short, so that messages go one by one: of a batch each costs fedgate a tenth of that
TICK = 0.001
FIRST_RATE = 200.0  # messages a second of each flow
MOST_RATE = 1200.0  # what the scripted servers bear
SAMPLE_SECONDS = 5
LEAVE_SECONDS = 1  # until each server closes one of its streams, and opens another
# between two events
PAUSES = (2.0, 12.0)
DOWN_SECONDS = 3.0
SETTLE_SECONDS = 60
# between the second and the last fifth; the rest is what an allocator and chance do
MORE_RSS = 1.1
MORE_BYTES = 4 * MIB
MORE_DESCRIPTORS = 10
MORE_TASKS = 10


async def soak(scene: Scene) -> str:
    print(f"soak: {MINUTES:g} minutes, SOAK_SEED={SEED}", flush=True)
    ground = await open_ground(scene, DOMAINS, limits={"connect": "10s"})
    return await Soak(ground).run()


@dataclass(frozen=True)
class Look:
    """What all use at one moment."""

    gate: Sample
    tasks: int
    stanzas: float  # that fedgate has taken
    peer: float  # seconds of the processor
    legacy: float


class Soak:
    """One soak."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.random = random.Random(SEED)
        self.happened: Counter[str] = Counter()
        self.looks: list[Look] = []
        self.rate = FIRST_RATE
        self.behind = 0.0  # seconds of the processor that fedgate did not use
        self.turn = 0

    async def run(self) -> str:
        for number, domain in enumerate(self.ground.domains):
            self.ground.peer.flow(f"in{number}", domain, LEGACY, self.rate, *SIZES)
            self.ground.legacy.flow(f"out{number}", LEGACY, domain, self.rate, *SIZES)
        self.ground.peer.spread(TICK)
        self.ground.legacy.spread(TICK)
        end = time.monotonic() + 60 * MINUTES
        around = [asyncio.create_task(self._trouble(end)), asyncio.create_task(self._leave())]
        try:
            while time.monotonic() < end:
                await asyncio.sleep(SAMPLE_SECONDS)
                self._look()
        finally:
            for task in around:
                task.cancel()
        self._print()
        self._judge()
        return await self._account()

    def _look(self) -> None:
        counted = metrics(self.ground.gate)
        now = Look(
            self.ground.gauge.now(),
            int(counted["fedgate_tasks"]),
            _total(counted, "fedgate_stanzas_total"),
            look(self.ground.peer.process.pid).cpu,
            look(self.ground.legacy.process.pid).cpu,
        )
        self.looks.append(now)
        if len(self.looks) > 1:
            before = self.looks[-2].gate
            seconds, used = now.gate.at - before.at, now.gate.cpu - before.cpu
            most = CATCH_UP * CATCH_UP_SECONDS
            self.behind = min(most, max(-most, self.behind + LOAD * seconds - used))
            aim = LOAD + self.behind / CATCH_UP_SECONDS
            self.rate *= min(1.25, max(0.8, aim * seconds / max(used, 0.01)))
            self.rate = min(self.rate, MOST_RATE)
            self.ground.peer.pace(self.rate)
            self.ground.legacy.pace(self.rate)

    async def _leave(self) -> None:
        """Streams come and go all the while."""
        for domain in itertools.cycle(self.ground.domains):
            await asyncio.sleep(LEAVE_SECONDS)
            self.ground.peer.leave(domain, LEGACY)
            self.ground.legacy.leave(LEGACY, domain)

    async def _trouble(self, end: float) -> None:
        events: list[Callable[[], Awaitable[None]]] = [
            self.reload, self.hang_up, self.cut_one, self.cut_one, self.cut_all, self.cut_legacy,
            self.peer_restarts, self.legacy_restarts, self.packets_vanish,
        ]  # fmt: skip
        while True:
            await asyncio.sleep(self.random.uniform(*PAUSES))
            if time.monotonic() > end - PAUSES[1]:
                break  # so that it is over before the end
            event = self.random.choice(events)
            self.happened[event.__name__] += 1
            await event()

    async def reload(self) -> None:
        self.turn += 1
        rules = [{"match": f"turn-{self.turn}.test", "allow": "none"}]
        self.ground.gate.add("50-turn.yaml", {"rules": rules})

    async def hang_up(self) -> None:
        self.ground.peer.hang_up()

    async def cut_one(self) -> None:
        port = f"( sport = :{PUBLIC_PORT} or dport = :{PUBLIC_PORT} )"
        lines = self.ground.node.run("ss", "-Htn", "state", "established", port).splitlines()
        if lines:
            local, remote = self.random.choice(lines).split()[2:4]
            self.ground.node.run("ss", "-Ktn", "src", local, "dst", remote)

    async def cut_all(self) -> None:
        port = f"( sport = :{PUBLIC_PORT} or dport = :{PUBLIC_PORT} )"
        self.ground.node.run("ss", "-Ktn", port)

    async def cut_legacy(self) -> None:
        self.ground.node.run("ss", "-Ktn", f"( sport = :{LOCAL_PORT} )")

    async def peer_restarts(self) -> None:
        self.ground.peer.down(DOWN_SECONDS)
        await asyncio.sleep(DOWN_SECONDS)

    async def legacy_restarts(self) -> None:
        self.ground.legacy.down(DOWN_SECONDS)
        await asyncio.sleep(DOWN_SECONDS)

    async def packets_vanish(self) -> None:
        """For a moment nothing passes between fedgate and the peer."""
        self.ground.vanish()
        await asyncio.sleep(DOWN_SECONDS)
        self.ground.appear()

    def _fifths(self) -> list[list[Look]]:
        size = max(1, len(self.looks) // 5)
        return [self.looks[n * size : (n + 1) * size] for n in range(5)]

    def _print(self) -> None:
        print(
            "soak:  part   load  stanzas/s  RSS median  most   descriptors  most   tasks  most"
            "   the servers' loads"
        )
        for number, part in enumerate(self._fifths(), 1):
            first, last = part[0], part[-1]
            seconds = max(last.gate.at - first.gate.at, 0.001)
            rss = [at.gate.rss / MIB for at in part]
            descriptors = [at.gate.descriptors for at in part]
            tasks = [at.tasks for at in part]
            print(
                f"soak:  {number}/5  {100 * (last.gate.cpu - first.gate.cpu) / seconds:4.1f} %"
                f"  {(last.stanzas - first.stanzas) / seconds:9.0f}"
                f"  {statistics.median(rss):6.1f} MiB  {max(rss):6.1f}"
                f"  {statistics.median(descriptors):8.0f}  {max(descriptors):6}"
                f"  {statistics.median(tasks):6.0f}  {max(tasks):5}"
                f"   peer {100 * (last.peer - first.peer) / seconds:.0f} %,"
                f" legacy {100 * (last.legacy - first.legacy) / seconds:.0f} %",
                flush=True,
            )

    def _judge(self) -> None:
        """Nothing grows from the second to the last fifth."""
        parts = self._fifths()
        early, late = parts[1], parts[4]

        def medians(of: Callable[[Look], float]) -> tuple[float, float]:
            return statistics.median(map(of, early)), statistics.median(map(of, late))

        problems = []
        for what, (before, after), most in (
            ("RSS", medians(lambda at: at.gate.rss), lambda n: n * MORE_RSS + MORE_BYTES),
            (
                "descriptors",
                medians(lambda at: at.gate.descriptors),
                lambda n: n + MORE_DESCRIPTORS,
            ),
            ("tasks", medians(lambda at: at.tasks), lambda n: n + MORE_TASKS),
        ):
            if after > most(before):
                problems.append(f"{what} grew from {before:.0f} to {after:.0f}")
        if problems:
            raise Failed("; ".join(problems))

    async def _account(self) -> str:
        """What became of the messages. Without XEP-0198 nobody knows of those that were in the
        kernel's buffers when a connection was cut; but none comes twice or out of order, and of each
        that fedgate took it says what it did with it."""
        ground = self.ground
        ground.peer.pace(0)
        ground.legacy.pace(0)
        previous = None
        for _ in range(SETTLE_SECONDS):
            await asyncio.sleep(1)
            accounts = await ground.peer.accounts(), await ground.legacy.accounts()
            seen = [(account["arrived"], account["bounced"]) for account in accounts]
            counted = metrics(ground.gate)
            taken = _total(counted, "fedgate_stanzas_total")
            written = _total(counted, "fedgate_stanzas_delivered_total")
            returned = _total(counted, "fedgate_stanzas_bounced_total")
            within = taken - written - returned
            if seen == previous and not within:
                break
            previous = seen
        made = arrived = bounced = doubled = disordered = 0
        for sending, receiving in (accounts, accounts[::-1]):
            for word, count in sending["made"].items():
                made += count
                bounced += sending["bounced"][word]
                fine, twice, late = receiving["arrived"].get(word, [0, 0, 0])
                arrived, doubled, disordered = arrived + fine, doubled + twice, disordered + late
        events = ", ".join(f"{count} {name}" for name, count in sorted(self.happened.items()))
        text = (
            f"{made} messages made, {arrived} arrived, {bounced} came back,"
            f" {made - arrived - bounced} were lost in cut connections, {doubled} came twice,"
            f" {disordered} out of order; fedgate took {taken:.0f}, wrote {written:.0f}, bounced"
            f" {returned:.0f}, owes {within:.0f}, lost"
            f" {_total(counted, 'fedgate_errors_lost_total'):.0f} errors; {events}"
        )
        if doubled or disordered or within:
            raise Failed(text)
        return text


def _total(counted: dict[str, float], metric: str) -> float:
    """One metric, all labels together."""
    return sum(value for name, value in counted.items() if name.partition("{")[0] == metric)


SCENARIOS = [
    Scenario(
        "soak",
        "steady traffic with reloads, restarts and cuts: nothing grows",
        soak,
        seconds=60 * MINUTES + 300,
        by_hand=True,
    )
]
