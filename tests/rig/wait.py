"""Bounded waits on conditions. Nothing in the rig waits in any other way."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.03


class TimedOut(Exception):
    """A condition did not come true in its time."""


async def until(check: Callable[[], T | None], timeout: float, what: str) -> T:
    """The first truthy value of `check`; raises `TimedOut` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise TimedOut(f"waited {timeout:g} s for {what}")
        await asyncio.sleep(POLL_SECONDS)
