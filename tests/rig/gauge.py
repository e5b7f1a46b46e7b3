"""What a running fedgate uses: memory, descriptors, processor, tasks."""

import asyncio
import contextlib
import http.client
import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from .gate import Gate

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20


@dataclass(frozen=True)
class Sample:
    """One look."""

    at: float
    rss: int  # bytes
    descriptors: int
    cpu: float  # seconds, since the start


@dataclass
class Gauge:
    """Looks at one fedgate, again and again while it is entered."""

    gate: Gate
    interval: float = 0.2
    samples: list[Sample] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None

    def now(self) -> Sample:
        """One look more."""
        assert self.gate.process is not None
        sample = look(self.gate.process.pid)
        self.samples.append(sample)
        return sample

    async def __aenter__(self) -> "Gauge":
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _look(self) -> None:
        while True:
            self.now()
            await asyncio.sleep(self.interval)

    def most(self) -> Sample:
        """The most of memory and of descriptors that was seen."""
        rss = max(sample.rss for sample in self.samples)
        descriptors = max(sample.descriptors for sample in self.samples)
        last = self.samples[-1]
        return Sample(last.at, rss, descriptors, last.cpu)


def look(pid: int) -> Sample:
    """What a process uses now."""
    process = Path(f"/proc/{pid}")
    status = (process / "status").read_text()
    rss = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / TICKS
    descriptors = len(os.listdir(process / "fd"))
    return Sample(time.monotonic(), int(rss) * 1024, descriptors, cpu)


def metrics(gate: Gate) -> dict[str, float]:
    """All metrics, by their names and labels as they stand there."""
    with contextlib.closing(_Local(gate.home / "state" / "admin.sock")) as connection:
        connection.request("GET", "/metrics", headers={"Host": "localhost"})
        text = connection.getresponse().read().decode()
    values = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in values}


class _Local(http.client.HTTPConnection):
    """HTTP by a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
