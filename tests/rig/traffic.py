"""A scripted server that makes traffic and keeps accounts of it, run as a program of its own inside
a node: `traffic.py PLAN`.

Besides what `scripted.py` does, it pings (each `ping` is answered with a `pong` by the other end, if
that runs this program too), sends numbered messages at a pace, and goes down and comes back without
forgetting what it has counted. `traffic` in the plan is where its streams go: [host, port].
"""

import asyncio
import json
import re
import sys
import time
from array import array
from typing import Any
from xml.etree import ElementTree as ET

from scripted import Pair, Server, Stream, main, report

TICK = 0.05  # seconds between two batches of a flow, and before it opens one more stream
WAITING = 2000  # messages that wait for a stream to open; more are not made meanwhile
NEGOTIATION = 1.0  # seconds for which one who is deaf still hears a new stream
UNSENT = 1 << 20  # bytes that wait for the socket, likewise


class Flow:
    """Numbered messages of one pair, as its sender sees them."""

    def __init__(self, sender: str, target: str, rate: float, sizes: list[int]) -> None:
        self.sender, self.target, self.rate = sender, target, rate
        self.bodies = ["x" * size for size in sizes]  # of messages one after the other
        self.owed = 0.0  # messages that the pace asks for
        self.tried = 0.0  # when a stream was last opened for it
        self.made = 0
        self.bounced: set[int] = set()
        self.bounced_again = 0

    def came_back(self, number: int) -> None:
        self.bounced_again += number in self.bounced
        self.bounced.add(number)


class Arrivals:
    """The same, as its receiver sees them."""

    def __init__(self) -> None:
        self.seen = bytearray()
        self.order = array("I")
        self.arrived = self.doubled = self.disordered = 0
        self.last = -1

    def add(self, number: int) -> None:
        if number >= len(self.seen):
            self.seen.extend(bytes(number - len(self.seen) + 4096))
        if self.seen[number]:
            self.doubled += 1
            return
        self.seen[number] = 1
        self.order.append(number)
        self.arrived += 1
        if number < self.last:
            self.disordered += 1
        self.last = max(self.last, number)


class Traffic(Server):
    """All streams of the program, and its accounts."""

    def __init__(self, plan: dict[str, Any]) -> None:
        super().__init__(plan)
        self.host, self.port = plan["traffic"]
        self.flows: dict[str, Flow] = {}
        self.arrivals: dict[str, Arrivals] = {}
        self.pings: dict[str, float] = {}  # when they left, until they are answered
        self.times: list[float] = []  # that the answers took
        self.tick = TICK
        self.deaf = False
        self.pinged = self.answered = self.refused = 0
        self._listening: list[tuple[str, int, bool]] = []
        self._servers: list[asyncio.Server] = []
        self._pinging: asyncio.Task[None] | None = None
        self._pushing: asyncio.Task[None] | None = None

    async def listen(self, address: str, port: int, direct: bool) -> None:
        if (address, port, direct) not in self._listening:
            self._listening.append((address, port, direct))
        loop = asyncio.get_running_loop()
        tls = self._server_context() if direct else None
        server = await loop.create_server(
            lambda: Stream(self, True), address, port, ssl=tls, backlog=1024
        )
        self._servers.append(server)

    async def serve(self, stream: Stream) -> None:
        if self.deaf:
            loop = asyncio.get_running_loop()
            loop.call_later(NEGOTIATION, lambda: stream.transport.pause_reading())
        await super().serve(stream)

    async def obey(self, order: dict[str, Any]) -> None:
        arguments = order["with"]
        match order["do"]:
            case "ping":
                self._pinging = self.start(self._ping(**arguments))
            case "hush":
                if self._pinging:
                    self._pinging.cancel()
            case "times":
                report(event="times", reference=arguments["reference"], **self._times())
            case "flow":
                word = arguments.pop("word")
                self.flows[word] = Flow(**arguments)
                if self._pushing is None:
                    self._pushing = self.start(self._push())
            case "push":
                self._batch(arguments["word"], self.flows[arguments["word"]], arguments["count"])
            case "pace":
                for flow in self.flows.values():
                    flow.rate = arguments["rate"]
            case "spread":
                self.tick = arguments["tick"]
                for number, flow in enumerate(self.flows.values()):
                    flow.owed = number / len(self.flows)
            case "leave":
                pair = self.pairs.get((arguments["sender"], arguments["target"]))
                if pair and pair.opened and pair.stream:
                    pair.stream.close()
            case "accounts":
                report(event="accounts", reference=arguments["reference"], **self._accounts())
            case "numbers":
                report(event="numbers", reference=arguments["reference"], **self._numbers())
            case "deafen":
                self.deaf = True
                for stream in self._streams:
                    stream.transport.pause_reading()
            case "down":
                self.start(self._down(**arguments))
            case _:
                await super().obey(order)

    def unsent(self, stanzas: list[str]) -> None:
        # as any server does, it gives them back to its users
        for word, number in re.findall(r" id='flow-(\w+)-(\d+)'", "".join(stanzas)):
            self.flows[word].came_back(int(number))
        for number in re.findall(r" id='ping-(\d+)'", "".join(stanzas)):
            self.pings.pop(number, None)
            self.refused += 1

    def took(self, element: ET.Element, sender: str, target: str) -> None:
        what, _, rest = element.get("id", "").partition("-")
        failed = element.get("type") == "error"
        match what:
            case "ping" if failed:
                self.pings.pop(rest, None)
                self.refused += 1
            case "ping":
                self._say(_bare(target), _bare(sender), f"pong-{rest}", element.get("type", ""))
            case "pong" if not failed and (left := self.pings.pop(rest, None)) is not None:
                self.times.append(time.monotonic() - left)
                self.answered += 1
            case "flow":
                word, _, number = rest.rpartition("-")
                if failed and word in self.flows:
                    self.flows[word].came_back(int(number))
                elif not failed:
                    self.arrivals.setdefault(word, Arrivals()).add(int(number))
            case "pong":
                pass
            case _:
                super().took(element, sender, target)

    def _say(self, sender: str, target: str, stanza: str, kind: str = "normal") -> Pair:
        pair = self.pair(sender, target, self.host, self.port)
        pair.send(_message(sender, target, stanza, kind, stanza))
        return pair

    async def _ping(self, sender: str, target: str, interval: float) -> None:
        while True:
            number = str(self.pinged)
            self.pinged += 1
            self.pings[number] = time.monotonic()
            self._say(sender, target, f"ping-{number}")
            await asyncio.sleep(interval)

    def _times(self) -> dict[str, Any]:
        """What was measured since the last time that it was asked for."""
        times, self.times = sorted(self.times), []
        found: dict[str, Any] = {
            "pinged": self.pinged,
            "answered": self.answered,
            "refused": self.refused,
            "waiting": len(self.pings),
        }
        if times:
            found["p50"] = times[len(times) // 2]
            found["p99"] = times[min(len(times) - 1, len(times) * 99 // 100)]
            found["max"] = times[-1]
        return found

    async def _push(self) -> None:
        """Keeps the pace of all flows."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(self.tick)
            now = time.monotonic()
            # what a pause has missed is not made up for
            passed = min(now - last, 4 * TICK)
            last = now
            for word, flow in self.flows.items():
                flow.owed = flow.owed % 1 + flow.rate * passed
                if self._may_push(flow, now):
                    self._batch(word, flow, int(flow.owed))

    def _may_push(self, flow: Flow, now: float) -> bool:
        """Whether messages of a flow may be made: not while its stream closes, for they would be
        lost, and not more often for a new one than every `TICK` seconds."""
        pair = self.pairs.get((flow.sender, flow.target))
        if pair is None:
            if now < flow.tried + TICK:
                return False
            flow.tried = now
        return not (pair and pair.opened and pair.stream and pair.stream.transport.is_closing())

    def _batch(self, word: str, flow: Flow, count: int) -> None:
        pair = self.pair(flow.sender, flow.target, self.host, self.port)
        unsent = pair.stream.transport.get_write_buffer_size() if pair.opened and pair.stream else 0
        if len(pair.waiting) > WAITING or unsent > UNSENT or not count:
            return
        bodies = flow.bodies
        pair.send(
            "".join(
                _message(
                    flow.sender,
                    flow.target,
                    f"flow-{word}-{number}",
                    "normal",
                    bodies[number % len(bodies)],
                )
                for number in range(flow.made, flow.made + count)
            )
        )
        flow.made += count

    def _accounts(self) -> dict[str, Any]:
        return {
            "made": {word: flow.made for word, flow in self.flows.items()},
            "bounced": {word: len(flow.bounced) for word, flow in self.flows.items()},
            "arrived": {
                word: [arrivals.arrived, arrivals.doubled, arrivals.disordered]
                for word, arrivals in self.arrivals.items()
            },
        }

    def _numbers(self) -> dict[str, Any]:
        """The same, message by message."""
        return {
            "bounced": {word: sorted(flow.bounced) for word, flow in self.flows.items()},
            "bounced_again": {word: flow.bounced_again for word, flow in self.flows.items()},
            "arrived": {word: list(came.order) for word, came in self.arrivals.items()},
        }

    async def _down(self, seconds: float) -> None:
        """As if the server were killed and started again: connections are reset, nobody listens."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        streams = [pair.stream for pair in self.pairs.values() if pair.stream]
        for stream in [*self._streams, *streams]:
            stream.transport.abort()
        await asyncio.sleep(seconds)
        for place in self._listening:
            await self.listen(*place)


def _message(sender: str, target: str, stanza: str, kind: str, body: str) -> str:
    return (
        f"<message from='user@{sender}/rig' to='user@{target}' id='{stanza}' type='{kind}'>"
        f"<body>{body}</body></message>"
    )


def _bare(address: str) -> str:
    """The domain of an address."""
    return address.partition("/")[0].rpartition("@")[2]


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        plan = json.load(file)
    asyncio.run(main(Traffic(plan), plan))
