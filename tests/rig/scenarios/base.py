"""What a scenario is."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..scene import Scene


@dataclass(frozen=True)
class Scenario:
    """One claim about fedgate, or about the rig itself."""

    name: str
    claim: str
    play: Callable[[Scene], Awaitable[str]]  # returns what was seen, in a few words
    self_test: bool = False  # needs no fedgate
    seconds: float = 240
    by_hand: bool = False  # only if it is asked for by its very name
