"""All scenarios by name, in the order in which they run."""

from . import (
    abuse,
    abuse_floods,
    diagnose,
    faults,
    federation,
    hosting,
    machine,
    matrix,
    pairs,
    policy,
    proofs,
    recovery,
    replicas,
    selftest,
    sharing,
    shutdown,
    soak,
    withdrawal,
)
from .base import Scenario

ALL: list[Scenario] = [
    *selftest.SCENARIOS,
    *federation.SCENARIOS,
    *pairs.SCENARIOS,
    *proofs.SCENARIOS,
    *sharing.SCENARIOS,
    *matrix.SCENARIOS,
    *hosting.SCENARIOS,
    *withdrawal.SCENARIOS,
    *diagnose.SCENARIOS,
    *policy.SCENARIOS,
    *faults.SCENARIOS,
    *recovery.SCENARIOS,
    *abuse.SCENARIOS,
    *abuse_floods.SCENARIOS,
    *shutdown.SCENARIOS,
    *replicas.SCENARIOS,
    *machine.SCENARIOS,
    *soak.SCENARIOS,
]
