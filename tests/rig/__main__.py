"""Command line of the rig: brings the world up, plays the scenarios, takes everything down."""

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from . import packages

if TYPE_CHECKING:
    from .scenarios.base import Scenario
    from .scene import World

REPOSITORY = Path(__file__).resolve().parents[2]
QUICK_ROUNDS, FULL_ROUNDS = 10, 50


def main() -> int:
    options = _arguments()
    if options.list:
        return _list()
    if os.geteuid() != 0:
        print("the rig needs root: it makes network namespaces", file=sys.stderr)
        return 2
    try:
        packages.ensure()
    except packages.Missing as missing:
        print(missing, file=sys.stderr)
        return 2
    try:
        return asyncio.run(_run(options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted, all taken down", file=sys.stderr)
        return 130


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/interop.sh", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="scenarios, * and ? allowed")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    parser.add_argument("--self-test", action="store_true", help="only what needs no fedgate")
    parser.add_argument(
        "--full", action="store_true", help=f"{FULL_ROUNDS} cold starts, not {QUICK_ROUNDS}"
    )
    parser.add_argument("--keep", action="store_true", help="keep the logs even if all passed")
    parser.add_argument("--messages", type=int, default=1000, help="messages each way")
    return parser.parse_args()


def _list() -> int:
    from .scenarios import ALL

    for scenario in ALL:
        print(f"{scenario.name:32} {scenario.claim}")
    return 0


async def _run(options: argparse.Namespace) -> int:
    # the imports need the packages
    from .ca import Authority
    from .dns import Dns
    from .net import Network
    from .scene import World

    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    chosen = _choose(options)
    if not chosen:
        print("no such scenario", file=sys.stderr)
        return 2
    directory = Path(tempfile.mkdtemp(prefix="fedgate-rig-"))
    directory.chmod(0o755)  # fedgate runs as a user of its own
    network = Network()
    passed = failed = 0
    try:
        network.open()
        dns = Dns(network, directory)
        world = World(
            network,
            dns,
            Authority(directory),
            directory,
            _fedgate(directory),
            options.messages,
            FULL_ROUNDS if options.full or os.environ.get("RIG_FULL") else QUICK_ROUNDS,
        )
        try:
            await dns.start()
            for scenario in chosen:
                if await _play(world, scenario):
                    passed += 1
                else:
                    failed += 1
        finally:
            await dns.stop()
    finally:
        network.close()
        if failed or options.keep:
            print(f"logs are in {directory}")
        else:
            shutil.rmtree(directory)
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def _choose(options: argparse.Namespace) -> "list[Scenario]":
    from .scenarios import ALL

    patterns = options.names or ["*"]
    return [
        scenario
        for scenario in ALL
        if (scenario.self_test or not options.self_test)
        and any(
            scenario.name == pattern
            or (not scenario.by_hand and fnmatchcase(scenario.name, pattern))
            for pattern in patterns
        )
    ]


def _fedgate(directory: Path) -> Path | None:
    """A copy of the binary that any user may run, or nothing if there is none."""
    binary = Path(os.environ.get("FEDGATE_BIN") or REPOSITORY / "target" / "debug" / "fedgate")
    if not binary.exists():
        return None
    copy = directory / "fedgate"
    shutil.copy(binary, copy)
    copy.chmod(0o755)
    return copy


async def _play(world: "World", scenario: "Scenario") -> bool:
    from .scene import Scene

    scene = Scene(world, scenario.name)
    began = time.monotonic()
    try:
        try:
            seen = await asyncio.wait_for(scenario.play(scene), scenario.seconds)
        finally:
            await scene.close()
    except Exception as problem:  # whatever it is, the next scenario has its turn
        print(f"FAIL  {scenario.name}: {type(problem).__name__}: {problem}", flush=True)
        if problem.__context__:
            print(f"      after {problem.__context__!r}", flush=True)
        print(scene.tails(), flush=True)
        return False
    print(f"pass  {scenario.name}: {seen} [{time.monotonic() - began:.0f} s]", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
