"""The rig's end of a client: starts `agent.py` in a node, gives orders, collects what arrives."""

import asyncio
import itertools
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .net import Node
from .process import Died, Process, tail
from .servers.base import CLIENT_PORT, PASSWORD
from .wait import until

AGENT = Path(__file__).with_name("agent.py")
_references = itertools.count(1)


@dataclass(frozen=True)
class StanzaError:
    """The error that a user gets, and how many seconds after the cause."""

    condition: str
    kind: str
    text: str
    sender: str
    after: float

    def __str__(self) -> str:
        text = f" {self.text!r}" if self.text else ""
        return f"{self.kind}/{self.condition}{text} from {self.sender} after {self.after:.1f} s"


@dataclass
class Client:
    """One user, online."""

    jid: str  # bare
    process: Process
    full: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    gone: bool = False
    _reader: asyncio.Task[None] | None = None

    @classmethod
    async def launch(cls, node: Node, user: str, domain: str, directory: Path) -> "Client":
        """Starts a client in `node`."""
        jid = f"{user}@{domain}"
        log = directory / f"client-{user}-{domain}.log"
        words = [sys.executable, "-B", str(AGENT), jid, PASSWORD, "127.0.0.1", str(CLIENT_PORT)]
        process = await Process.start(
            f"client {jid}",
            node.inside(*words),
            log,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        client = cls(jid, process)
        client._reader = asyncio.create_task(client._collect())
        return client

    async def online(self) -> None:
        """Waits until the session is open."""
        event = await self.expect({"event": "online"}, 30, "to be online")
        self.full = event["jid"]

    async def end(self) -> None:
        """Ends the program."""
        await self.process.stop()
        if self._reader:
            await self._reader

    # orders

    def send(self, to: str, tag: str, count: int = 1, first: int = 0, kind: str = "chat") -> None:
        """Sends numbered messages, bodies `tag first`, `tag first+1`, …"""
        self._order("send", to=to, tag=tag, first=first, count=count, kind=kind)

    def presence(self, to: str | None = None, kind: str | None = None, status: str = "") -> None:
        """Sends a presence of a type, directed or to all."""
        self._order("presence", pto=to, ptype=kind, pstatus=status)

    def join(self, room: str, nick: str) -> None:
        """Enters a chat room."""
        self._order("join", room=room, nick=nick)

    async def query(self, to: str, what: str, timeout: float = 30) -> dict[str, Any]:
        """The answer to a version, disco or ping query."""
        reference = str(next(_references))
        self._order("query", to=to, what=what, reference=reference)
        wanted = {"event": "answer", "reference": reference}
        return await self.expect(wanted, timeout, f"the answer of {to} to {what}")

    # what arrived

    def numbers(self, tag: str, kind: str = "chat") -> list[int]:
        """The numbers of the messages with this tag, in the order of arrival."""
        bodies = (
            event["body"].split()
            for event in self.events
            if event["event"] == "message" and event["type"] == kind
        )
        return [int(body[1]) for body in bodies if len(body) == 2 and body[0] == tag]

    def errors(self, tag: str) -> list[dict[str, Any]]:
        """The bounces of messages with this tag."""
        return [
            event
            for event in self.events
            if event["event"] == "message"
            and event["type"] == "error"
            and event["id"].startswith(f"{tag}-")
        ]

    async def expect(self, wanted: dict[str, Any], timeout: float, what: str) -> dict[str, Any]:
        """The first event that has all the wanted fields."""

        def found() -> dict[str, Any] | None:
            self._must_run()
            for event in self.events:
                if all(event.get(key) == value for key, value in wanted.items()):
                    return event
            return None

        return await until(found, timeout, f"{self.jid}: {what}")

    async def refusal(self, to: str, tag: str, timeout: float) -> StanzaError:
        """Sends one message that must not get through and waits for its error."""
        began = time.monotonic()
        self.send(to, tag)
        bounced = await until(
            lambda: self.errors(tag), timeout, f"{self.jid}: an error for the message to {to}"
        )
        event = bounced[0]
        after = time.monotonic() - began
        return StanzaError(event["condition"], event["kind"], event["text"], event["sender"], after)

    def _order(self, do: str, **arguments: Any) -> None:
        self._must_run()
        stdin, _ = self.process.pipes
        assert stdin is not None
        stdin.write((json.dumps({"do": do, "with": arguments}) + "\n").encode())

    def _must_run(self) -> None:
        self.process.must_run()
        if self.gone:
            raise Died(f"{self.jid} was disconnected\n{tail(self.process.log)}")

    async def _collect(self) -> None:
        _, stdout = self.process.pipes
        assert stdout is not None
        while line := await stdout.readline():
            event = json.loads(line)
            self.events.append(event)
            self.gone = self.gone or event["event"] in ("disconnected", "failed-auth")
