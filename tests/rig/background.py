"""Programs that get only what processor time nobody else wants. In earnest strangers have machines of
their own: what they need to attack is no part of what the honest feel."""

import os
from pathlib import Path

from .process import Process


def stand_back(process: Process) -> None:
    """From now on a program yields to all others."""
    os.sched_setscheduler(process.pid, os.SCHED_IDLE, os.sched_param(0))
    # that, or to be nice, means nothing to programs of other sessions, where the kernel shares the
    # processors between sessions first
    autogroup = Path(f"/proc/{process.pid}/autogroup")
    if autogroup.exists():
        autogroup.write_text("19")
