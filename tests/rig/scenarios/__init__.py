"""All scenarios by name, in the order in which they run."""

from . import faults, federation, pairs, policy, proofs, selftest, shutdown
from .base import Scenario

ALL: list[Scenario] = [
    *selftest.SCENARIOS,
    *federation.SCENARIOS,
    *pairs.SCENARIOS,
    *proofs.SCENARIOS,
    *policy.SCENARIOS,
    *faults.SCENARIOS,
    *shutdown.SCENARIOS,
]
