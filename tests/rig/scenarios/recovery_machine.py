"""A machine without descriptors, without room on its disk, with a configuration that cannot be read,
with a clock that jumps: fedgate goes on with what it has."""

import os
import signal
import subprocess
import time
from pathlib import Path

from ..crowd import crowded
from ..gate import DIRECT_TLS_PORT, UID
from ..ground import open_ground
from ..process import Died
from ..scene import Failed, Scene
from ..wait import until
from .abuse import gather
from .base import Scenario
from .recovery import BOTH_SECONDS, LIMITS, RATE

FAKETIME = "/usr/lib/{}-linux-gnu/faketime/libfaketime.so.1"
DAY = 24 * 60 * 60
DESCRIPTORS = 70
SMALL_DISK = "512k"


async def no_descriptors(scene: Scene) -> str:
    """More connections come than fedgate has descriptors for."""
    ground = await open_ground(scene, domains=2, limits=LIMITS, descriptors=DESCRIPTORS)
    node = crowded(scene, ground.node)
    ground.chat(RATE)
    await ground.flowing()
    before, log, began = ground.gauge.now(), ground.log.now(), time.monotonic()
    crowd = await gather(ground, node, "direct", 3 * DESCRIPTORS, port=DIRECT_TLS_PORT)
    await ground.logged(log, "accept", 20)
    # it has none for a stream to a new domain either
    ground.say(ground.domains[1], "unlucky")
    await ground.flowing(more=40)
    await crowd.stop()
    ends = {"unlucky", "error unlucky"}
    await until(
        lambda: ends & {*ground.peer.stanzas, *ground.legacy.stanzas}, 30, "the new domain's answer"
    )
    after, seconds = ground.gauge.now(), time.monotonic() - began
    lines = sum(entry.get("message") == "accept" for entry in log.entries())
    listeners = 3
    if lines > listeners * (seconds / 10 + 1):
        raise Failed(f"{lines} log lines in {seconds:.1f} s about the same thing")
    await ground.back("opened by the crowd", before.descriptors + 8)
    back = await ground.reaches(ground.domains[1])
    await ground.flowing()
    into, out = await ground.settled()
    if into.lost or out.lost:
        raise Failed(f"open streams have lost messages: {into}; {out}")
    load = (after.cpu - before.cpu) / seconds
    return (
        f"{3 * DESCRIPTORS} connections for {DESCRIPTORS} descriptors: {lines} log lines and"
        f" {100 * load:.0f} % of a core in {seconds:.1f} s; a new domain back {back:.1f} s;"
        f" in: {into}; out: {out}"
    )


async def disk_full(scene: Scene) -> str:
    """The disk below fedgate's state is full."""
    state: list[Path] = []

    def small(home: Path) -> None:
        state.append(home / "state")
        state[0].mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK},uid={UID},gid={UID}"]
        subprocess.run([*mount, "tmpfs", str(state[0])], check=True)
        scene.cleanup(unmount)

    async def unmount() -> None:
        subprocess.run(["umount", "-l", str(state[0])], check=True)

    ground = await open_ground(
        scene, domains=2, limits=LIMITS, home=small,
        report={"directory": str(scene.directory / "gate-legacy" / "state" / "reports")},
    )  # fmt: skip
    ground.chat(RATE)
    await ground.flowing()
    fill = state[0] / "fill"
    log = ground.log.now()
    _fill(fill)
    # what is remembered of a new domain has no room
    await ground.reaches(ground.domains[1])
    await ground.logged(log, "not written", 60)
    ground.gate.add("50-turn.yaml", {"rules": [{"match": "somebody.test", "allow": "none"}]})
    await ground.logged(log, "configuration reloaded", 10)
    await ground.flowing()
    lines = [entry for entry in log.entries() if entry.get("level") in ("WARN", "ERROR")]
    # the process goes on without; one that is started has its secret already
    await ground.gate.restart()
    await ground.flowing(seconds=BOTH_SECONDS)
    log = ground.log.now()
    fill.unlink()
    into, out = await ground.settled()
    texts = sorted({str(entry.get("message")) for entry in lines})
    if len(lines) > 4:
        raise Failed(f"{len(lines)} lines about the same thing: {texts}")
    return f"goes on, reloads and restarts; {len(lines)} lines: {texts}; in: {into}; out: {out}"


def _fill(path: Path) -> None:
    """Takes all the room that there is."""
    file = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        while True:
            os.write(file, bytes(4096))
    except OSError:
        os.close(file)


async def disk_full_first(scene: Scene) -> str:
    """The disk is full when fedgate starts for the first time: it says so and ends."""

    def full(home: Path) -> None:
        (home / "state").mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size=4k,nr_inodes=1,uid={UID},gid={UID}"]
        subprocess.run([*mount, "tmpfs", str(home / "state")], check=True)
        scene.cleanup(unmount)

    async def unmount() -> None:
        subprocess.run(["umount", "-l", str(scene.directory / "gate-legacy" / "state")], check=True)

    try:
        await open_ground(scene, limits=LIMITS, home=full)
    except Died:
        log = (scene.directory / "gate-legacy" / "fedgate.log").read_text()
        said = [line for line in log.splitlines() if "No space left" in line]
        if not said:
            raise Failed(f"it does not say why: {log[-500:]}") from None
        return f"ends, and says {said[-1][:160]!r}"
    raise Failed("fedgate runs without a secret on its disk")


async def unreadable(scene: Scene) -> str:
    """The configuration cannot be read, or is gone, when it is to be read again."""
    ground = await open_ground(scene, limits=LIMITS)
    gate = ground.gate
    directory = gate.home / "conf.d"
    ground.chat(RATE)
    await ground.flowing()
    assert gate.process is not None
    found = []
    for what, spoil, mend in (
        ("a file unreadable", lambda: _mode(gate.home / "conf.d/00-rig.yaml", 0),
         lambda: _mode(gate.home / "conf.d/00-rig.yaml", 0o644)),
        ("the directory unreadable", lambda: _mode(directory, 0), lambda: _mode(directory, 0o755)),
        ("the directory gone", lambda: directory.rename(gate.home / "away"),
         lambda: (gate.home / "away").rename(directory)),
    ):  # fmt: skip
        log = ground.log.now()
        spoil()
        os.kill(gate.process.pid, signal.SIGHUP)
        await ground.logged(log, "the old one stays", 10)
        await ground.flowing()
        lines = sum(entry.get("level") == "ERROR" for entry in log.entries())
        log = ground.log.now()
        mend()
        os.kill(gate.process.pid, signal.SIGHUP)
        seconds = await ground.logged(log, "configuration reloaded", 10)
        found.append(f"{what}: {lines} error lines, mended after {seconds:.1f} s")
    into, out = await ground.settled()
    if into.lost or out.lost:
        raise Failed(f"messages were lost: {into}; {out}")
    return f"{'; '.join(found)}; in: {into}; out: {out}"


def _mode(path: Path, mode: int) -> None:
    path.chmod(mode)


async def clock(scene: Scene) -> str:
    """The clock jumps forth, past the end of all certificates, and back, and behind."""
    stamp = scene.directory / "clock"
    stamp.write_text("+0")
    stamp.chmod(0o644)
    environment = {
        "LD_PRELOAD": FAKETIME.format(os.uname().machine),
        "FAKETIME_TIMESTAMP_FILE": str(stamp),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    ground = await open_ground(
        scene, domains=4, limits=LIMITS, level="trusted", environment=environment
    )
    ground.chat(RATE)
    await ground.flowing()
    found = []
    for domain, jump, fine in zip(
        ground.domains[1:], (2 * 60 * 60, 60 * DAY, -60 * DAY), (True, False, False), strict=True
    ):
        _set(stamp, jump)
        await ground.flowing()  # streams that are open go on; their proofs are looked at hourly
        if fine:
            await ground.reaches(domain)
            found.append(f"{jump / DAY:+.1f} days: a new domain is reached")
        else:
            stanza = f"jump{jump}"
            ground.say(domain, stanza)
            condition = await ground.bounces(stanza)
            _set(stamp, 0)
            back = await ground.reaches(domain)
            found.append(f"{jump / DAY:+.1f} days: a new domain {condition}, then back {back:.1f} s")
    into, out = await ground.settled()
    if into.lost or out.lost or into.bounced or out.bounced:
        raise Failed(f"open streams suffer: {into}; {out}")
    return f"{'; '.join(found)}; open streams: in: {into}; out: {out}"


def _set(stamp: Path, seconds: int) -> None:
    fresh = stamp.with_suffix(".new")
    fresh.write_text(f"{seconds:+d}")
    fresh.chmod(0o644)
    fresh.rename(stamp)


SCENARIOS = [
    Scenario(f"fault-{name}", claim, play)
    for name, claim, play in (
        ("no-descriptors", "fedgate has no descriptors left", no_descriptors),
        ("disk-full", "the disk below fedgate's state is full", disk_full),
        ("disk-full-first", "the disk is full at the very first start", disk_full_first),
        ("unreadable", "the configuration cannot be read again", unreadable),
        ("clock", "the clock jumps, forth and back", clock),
    )
]
