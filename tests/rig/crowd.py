"""The rig's end of a crowd of strangers: starts `attacker.py` in a node and keeps its counts."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .background import stand_back
from .net import Node
from .process import Process
from .scene import Scene
from .wait import until

ATTACKER = Path(__file__).with_name("attacker.py")
CROWD_ADDRESS = "10.77.0.50"
NETWORK = "10.78"  # where they come from: all of it is this machine's
END_SECONDS = 150
# what honest peers wait is judged: by hand, on a machine that does nothing else
STRICT = bool(os.environ.get("RIG_STRICT"))


def crowded(scene: Scene, target: Node) -> Node:
    """A machine with 65,536 addresses, which the target can reach."""
    node = scene.bare("crowd", CROWD_ADDRESS)
    node.run("ip", "route", "add", "local", f"{NETWORK}.0.0/16", "dev", "lo")
    target.run("ip", "route", "add", f"{NETWORK}.0.0/16", "via", CROWD_ADDRESS)
    return node


@dataclass
class Crowd:
    """One crowd."""

    process: Process
    counts: dict[str, int] = field(default_factory=dict)
    ended: bool = False
    _reader: asyncio.Task[None] | None = None

    @classmethod
    async def gather(cls, scene: Scene, node: Node, **plan: Any) -> "Crowd":
        """Starts one."""
        words = node.inside(sys.executable, "-B", str(ATTACKER), json.dumps(plan))
        process = await Process.start(
            f"crowd {plan['manner']}",
            words,
            scene.directory / f"crowd-{plan['manner']}.log",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        if STRICT:
            stand_back(process)
        crowd = cls(process)
        crowd._reader = asyncio.create_task(crowd._collect())
        scene.cleanup(crowd.scatter)
        return crowd

    def __getitem__(self, what: str) -> int:
        return self.counts.get(what, 0)

    async def over(self, seconds: float = END_SECONDS) -> None:
        """Waits until all of them are done."""

        def over() -> bool:
            if not self.ended:
                self.process.must_run()
            return self.ended

        await until(over, seconds, f"{self.process.name} to be done: {self.counts}")

    async def stop(self) -> None:
        """Tells them to stop, and waits until they have."""
        stdin, _ = self.process.pipes
        assert stdin is not None
        stdin.write(b"stop\n")
        await self.over()

    async def scatter(self) -> None:
        """Ends the program."""
        await self.process.stop()
        if self._reader:
            await self._reader

    async def _collect(self) -> None:
        _, stdout = self.process.pipes
        assert stdout is not None
        while line := await stdout.readline():
            event = json.loads(line)
            self.ended = event.pop("event") == "end"
            self.counts = event
