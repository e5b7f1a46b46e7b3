"""A child process in a network namespace, with its output in a log file and a bounded end."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from .wait import TimedOut, until

Probe = Callable[[], Awaitable[bool]]


class Died(Exception):
    """A process ended although it should run."""


class Process:
    """One running program. It dies with the rig, whatever happens to the rig."""

    def __init__(self, name: str, child: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._child = child

    @classmethod
    async def start(
        cls,
        name: str,
        command: list[str],
        log: Path,
        environment: dict[str, str] | None = None,
        stdin: int = asyncio.subprocess.DEVNULL,
        stdout: int | None = None,
    ) -> "Process":
        """Starts `command`; `stdout=PIPE` keeps standard output apart from the log."""
        with log.open("ab") as output:
            child = await asyncio.create_subprocess_exec(
                *command,
                stdin=stdin,
                stdout=output if stdout is None else stdout,
                stderr=output,
                env=environment,
                start_new_session=True,
                limit=1 << 22,
            )
        return cls(name, child, log)

    @property
    def pipes(self) -> tuple[asyncio.StreamWriter | None, asyncio.StreamReader | None]:
        """Standard input and output, if they were asked for."""
        return self._child.stdin, self._child.stdout

    @property
    def pid(self) -> int:
        return self._child.pid

    def running(self) -> bool:
        return self._child.returncode is None

    def must_run(self) -> None:
        """Raises `Died` if the process has ended."""
        if not self.running():
            raise Died(f"{self.name} ended with {self._child.returncode}\n{tail(self.log)}")

    async def stop(self, grace: float = 5) -> float:
        """SIGTERM, after `grace` seconds SIGKILL. Returns how long it took."""
        began = time.monotonic()
        if self.running():
            self._child.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._child.wait(), grace)
        except TimeoutError:
            self.kill()
            await self._child.wait()
        return time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL, at once."""
        if self.running():
            self._child.kill()

    async def ended(self, timeout: float) -> int:
        """The exit status, once there is one."""
        await until(lambda: not self.running(), timeout, f"the end of {self.name}")
        return self._child.returncode or 0

    async def ready(self, probe: Probe, timeout: float) -> None:
        """Polls `probe` until it says yes; a process that dies meanwhile is reported at once."""
        deadline = time.monotonic() + timeout
        while not await probe():
            self.must_run()
            if time.monotonic() > deadline:
                raise TimedOut(f"{self.name} not ready after {timeout:g} s\n{tail(self.log)}")
            await asyncio.sleep(0.05)


def tail(log: Path, lines: int = 25) -> str:
    """The last lines of a log file."""
    if not log.exists():
        return ""
    text = log.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join(f"    {line[:400]}" for line in text)
