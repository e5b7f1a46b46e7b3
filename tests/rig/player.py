"""The rig's end of a scripted server: starts `scripted.py` or `traffic.py` in a node, gives orders,
and keeps what it reports."""

import asyncio
import json
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from .ca import Certificate
from .net import Node
from .process import Process
from .wait import until

SCRIPTED = Path(__file__).with_name("scripted.py")
TRAFFIC = Path(__file__).with_name("traffic.py")
ANSWER_SECONDS = 30
Event = dict[str, Any]


@dataclass(frozen=True)
class Listener:
    """Where a scripted server takes streams."""

    address: str
    port: int
    direct_tls: bool = False


@dataclass
class Player:
    """A scripted server."""

    process: Process
    stanzas: dict[str, Event] = field(default_factory=dict)  # by id, errors under "error ID"
    pairs: dict[tuple[str, str, str], list[Event]] = field(
        default_factory=lambda: defaultdict(list)
    )  # by what, sender, target
    others: list[Event] = field(default_factory=list)
    _reader: asyncio.Task[None] | None = None

    @classmethod
    async def launch(
        cls,
        node: Node,
        home: Path,
        name: str,
        listeners: list[Listener],
        certificates: dict[str, Certificate] | None = None,
        clients: dict[str, Certificate] | None = None,
        program: Path = SCRIPTED,
        **plan_of_its_own: Any,
    ) -> Self:
        """Starts one in `node`; returns when it listens."""
        plan = home / f"{name}.json"
        content = {
            "listen": [[at.address, at.port, at.direct_tls] for at in listeners],
            "certificates": _all_files(certificates),
            "clients": _all_files(clients),
            **plan_of_its_own,
        }
        plan.write_text(json.dumps(content))
        process = await Process.start(
            name,
            node.inside(sys.executable, "-B", str(program), str(plan)),
            home / f"{name}.log",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        player = cls(process)
        player._reader = asyncio.create_task(player._collect())

        async def ready() -> bool:
            return any(event["event"] == "ready" for event in player.others)

        await process.ready(ready, 10)
        return player

    async def end(self) -> None:
        """Ends the program."""
        await self.process.stop()
        if self._reader:
            await self._reader

    def send(self, sender: str, target: str, stanza: str, host: str, port: int) -> None:
        """Sends a message with this id, over a new stream to `host` if the pair has none."""
        self._order("send", sender=sender, target=target, id=stanza, host=host, port=port)

    def certify(self, domain: str, certificate: Certificate) -> None:
        """From now on new connections see this certificate."""
        self._order("certify", domain=domain, certificate=_files(certificate))

    def hang_up(self) -> None:
        """Closes the streams that it opened."""
        self._order("hang-up")

    def seen(self, what: str, sender: str, target: str) -> list[Event]:
        """What was reported of a pair: `open`, `refused`, `closed`, `result`, `verify`."""
        return self.pairs.get((what, sender, target), [])

    def _order(self, do: str, **arguments: Any) -> None:
        self.process.must_run()
        stdin, _ = self.process.pipes
        assert stdin is not None
        stdin.write((json.dumps({"do": do, "with": arguments}) + "\n").encode())

    async def _collect(self) -> None:
        _, stdout = self.process.pipes
        assert stdout is not None
        while line := await stdout.readline():
            event = json.loads(line)
            if event["event"] == "stanza":
                prefix = "error " if event["type"] == "error" else ""
                self.stanzas[f"{prefix}{event['id']}"] = event
            elif "sender" in event:
                self.pairs[event["event"], event["sender"], event["target"]].append(event)
            else:
                self.others.append(event)


class Traffic(Player):
    """A server that makes traffic and keeps accounts of it; see `traffic.py`."""

    _questions = 0

    def ping(self, sender: str, target: str, interval: float) -> None:
        """From now on it pings."""
        self._order("ping", sender=sender, target=target, interval=interval)

    def hush(self) -> None:
        """It pings no more."""
        self._order("hush")

    def flow(self, word: str, sender: str, target: str, rate: float, *sizes: int) -> None:
        """From now on it sends so many messages a second, with so many bytes of text in turn."""
        self._order("flow", word=word, sender=sender, target=target, rate=rate, sizes=sizes)

    def push(self, word: str, count: int) -> None:
        """It sends so many messages of a flow at once."""
        self._order("push", word=word, count=count)

    def pace(self, rate: float) -> None:
        """Another pace for all flows."""
        self._order("pace", rate=rate)

    def spread(self, tick: float) -> None:
        """From now on it looks at its flows every `tick` seconds, and they take turns: with a short
        tick messages go one by one."""
        self._order("spread", tick=tick)

    def leave(self, sender: str, target: str) -> None:
        """Closes the stream that it opened for a pair, if there is one."""
        self._order("leave", sender=sender, target=target)

    def deafen(self) -> None:
        """It reads nothing more from streams that it has accepted, and soon nothing from new ones."""
        self._order("deafen")

    def down(self, seconds: float) -> None:
        """It dies, and is there again after so long."""
        self._order("down", seconds=seconds)

    async def times(self) -> Event:
        """How long answers to pings took since this was asked last, and how many there were ever."""
        return await self._ask("times")

    async def accounts(self) -> Event:
        """What became of the messages of its flows, and of those that arrived."""
        return await self._ask("accounts")

    async def numbers(self) -> Event:
        """The same by number: which came back, and which arrived, in their order."""
        return await self._ask("numbers")

    async def _ask(self, what: str) -> Event:
        self._questions += 1
        reference = self._questions
        self._order(what, reference=reference)

        def answer() -> Event | None:
            self.process.must_run()
            for event in reversed(self.others):
                if event["event"] == what and event["reference"] == reference:
                    return event
            return None

        return await until(answer, ANSWER_SECONDS, f"the {what} of {self.process.name}")


def _all_files(pairs: dict[str, Certificate] | None) -> dict[str, list[str]]:
    return {domain: _files(pair) for domain, pair in (pairs or {}).items()}


def _files(pair: Certificate) -> list[str]:
    return [str(pair.cert), str(pair.key)]
