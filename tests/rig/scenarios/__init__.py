"""All scenarios by name, in the order in which they run."""

from . import (
    acknowledging,
    diagnose,
    faults,
    federation,
    hosting,
    machine,
    matrix,
    pairs,
    policy,
    proofs,
    replicas,
    selftest,
    sharing,
    shutdown,
    withdrawal,
)
from .base import Scenario

ALL: list[Scenario] = [
    *selftest.SCENARIOS,
    *federation.SCENARIOS,
    *pairs.SCENARIOS,
    *proofs.SCENARIOS,
    *sharing.SCENARIOS,
    *acknowledging.SCENARIOS,
    *matrix.SCENARIOS,
    *hosting.SCENARIOS,
    *withdrawal.SCENARIOS,
    *diagnose.SCENARIOS,
    *policy.SCENARIOS,
    *faults.SCENARIOS,
    *shutdown.SCENARIOS,
    *replicas.SCENARIOS,
    *machine.SCENARIOS,
]
