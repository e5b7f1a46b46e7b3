"""The rig's end of a scripted server: starts `scripted.py` in a node, gives orders, and keeps
what it reports."""

import asyncio
import json
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .ca import Certificate
from .net import Node
from .process import Process

SCRIPTED = Path(__file__).with_name("scripted.py")
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
    ) -> "Player":
        """Starts one in `node`; returns when it listens."""
        plan = home / f"{name}.json"
        content = {
            "listen": [[at.address, at.port, at.direct_tls] for at in listeners],
            "certificates": _all_files(certificates),
            "clients": _all_files(clients),
        }
        plan.write_text(json.dumps(content))
        process = await Process.start(
            name,
            node.inside(sys.executable, "-B", str(SCRIPTED), str(plan)),
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


def _all_files(pairs: dict[str, Certificate] | None) -> dict[str, list[str]]:
    return {domain: _files(pair) for domain, pair in (pairs or {}).items()}


def _files(pair: Certificate) -> list[str]:
    return [str(pair.cert), str(pair.key)]
