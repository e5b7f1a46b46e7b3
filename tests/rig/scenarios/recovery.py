"""Faults under steady traffic: what becomes of the messages meanwhile, and how long it takes until
they flow again. Nothing comes twice or out of order; what is lost was in a kernel's buffers."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

from ..crowd import crowded
from ..gate import DIRECT_TLS_PORT, LEGACY_PORT, LOCAL_PORT, PUBLIC_PORT, UID
from ..ground import PEER_ADDRESS, Ground, open_ground
from ..net import Node
from ..plan import BROKEN_ADDRESS, LEGACY, UNBOUND
from ..player import Listener
from ..process import Died, Process
from ..scene import Failed, Scene
from ..wait import until
from .abuse import gather
from .base import Scenario

CROOKED = Path(__file__).parents[1] / "crooked.py"
CROOKED_ADDRESS = "10.77.0.35"
Side = Literal["peer", "legacy"]
STALL = 4  # seconds
LIMITS = {
    "connect": "4s", "tcp_connect": "2s", "write_stall": f"{STALL}s", "negotiation": "8s",
}  # fmt: skip
BOTH_SECONDS = 45
SLACK_SECONDS = 3
RATE = 20.0
FAKETIME = "/usr/lib/{}-linux-gnu/faketime/libfaketime.so.1"
DAY = 24 * 60 * 60
DESCRIPTORS = 70
SMALL_DISK = "512k"


async def half_open(scene: Scene, side: Side, *ports: int) -> str:
    """The network swallows all packets of open streams with a side, both ways, and then no more.
    What fedgate has written there until it finds out is lost; what is written to it is not its own.
    """
    ground = await open_ground(scene, limits=LIMITS)
    ground.chat(RATE)
    await ground.flowing()
    log = ground.log.now()
    ground.vanish(*ports)
    found = await ground.logged(log, "stream closed", 3 * STALL + 5)
    if found < 0.5:
        raise Failed("the streams ended before anybody could know")
    await asyncio.sleep(STALL)
    ground.appear()
    back = await ground.flowing(seconds=BOTH_SECONDS)
    into, out = await ground.settled()
    lost = out.lost if side == "peer" else into.lost
    if lost > RATE * (found + SLACK_SECONDS):
        raise Failed(f"{lost} messages lost, though it was found after {found:.1f} s")
    return f"found after {found:.1f} s, back {back:.1f} s; in: {into}; out: {out}"


async def half_open_peer(scene: Scene) -> str:
    return await half_open(scene, "peer", PUBLIC_PORT)


async def half_open_legacy(scene: Scene) -> str:
    return await half_open(scene, "legacy", LOCAL_PORT, LEGACY_PORT)


async def half_open_idle(scene: Scene) -> str:
    """The same while nothing is sent: probes find it out."""
    ground = await open_ground(scene, limits=LIMITS)
    ground.chat(RATE)
    await ground.flowing()
    await ground.settled()
    log = ground.log.now()
    began = time.monotonic()
    ground.vanish(PUBLIC_PORT)

    def ended() -> bool:
        closed = [e for e in log.entries() if e.get("message") == "stream closed"]
        return sum(e.get("side") == "peer" for e in closed) >= 2

    await until(ended, 6 * STALL, "both streams with the peer to end")
    found = time.monotonic() - began
    ground.appear()
    ground.peer.pace(RATE)
    ground.legacy.pace(RATE)
    back = await ground.flowing(seconds=BOTH_SECONDS)
    return f"found after {found:.1f} s with nothing sent, back {back:.1f} s"


async def killed(scene: Scene) -> str:
    """fedgate is killed and started again; so are the peer, and the legacy server."""
    ground = await open_ground(scene, limits=LIMITS)
    ground.chat(RATE)
    await ground.flowing()
    await ground.gate.kill()
    await asyncio.sleep(1)
    await ground.gate.resume()
    times = [f"fedgate: back {await ground.flowing(seconds=BOTH_SECONDS):.1f} s"]
    for name, server in (("peer", ground.peer), ("legacy server", ground.legacy)):
        server.down(2)
        await asyncio.sleep(2)
        times.append(f"{name}: {await ground.flowing(seconds=BOTH_SECONDS):.1f} s")
    into, out = await ground.settled()
    return f"killed for 1 or 2 s, {', '.join(times)}; in: {into}; out: {out}"


async def dns_killed(scene: Scene) -> str:
    """The resolver is killed and comes back: open streams go on, new ones bounce and recover."""
    ground = await open_ground(scene, domains=2, limits=LIMITS)
    ground.chat(RATE)
    await ground.flowing()
    await scene.world.dns.kill()
    try:
        ground.legacy.send(LEGACY, ground.domains[1], "early", "127.0.0.1", LOCAL_PORT)
        condition = await _bounced(ground, "early")
        await ground.flowing()
    finally:
        await scene.world.dns.revive()
    back = await _reaches(ground, ground.domains[1])
    into, out = await ground.settled()
    if into.lost or out.lost:
        raise Failed(f"open streams have lost messages: {into}; {out}")
    return f"a new domain {condition}, back {back:.1f} s; open streams: in {into}; out {out}"


async def _bounced(ground: Ground, stanza: str) -> str:
    error = f"error {stanza}"
    began = time.monotonic()
    await until(lambda: error in ground.legacy.stanzas, 60, f"an error for {stanza}")
    seconds = time.monotonic() - began
    if stanza in ground.peer.stanzas:
        raise Failed("bounced and delivered")
    return f"{ground.legacy.stanzas[error]['condition']} after {seconds:.1f} s"


async def _reaches(ground: Ground, domain: str) -> float:
    """Messages to a domain arrive, though some may come back before. Seconds taken."""
    began = time.monotonic()
    while time.monotonic() < began + BOTH_SECONDS:
        stanza = f"again-{domain}-{time.monotonic()}"
        ground.legacy.send(LEGACY, domain, stanza, "127.0.0.1", LOCAL_PORT)

        def decided(stanza: str = stanza) -> bool:
            return stanza in ground.peer.stanzas or f"error {stanza}" in ground.legacy.stanzas

        await until(decided, BOTH_SECONDS, "an answer")
        if stanza in ground.peer.stanzas:
            return time.monotonic() - began
        await asyncio.sleep(0.5)
    raise Failed(f"messages to {domain} still come back")


async def _crooked(scene: Scene) -> tuple[Process, Node]:
    node = scene.bare("crooked", CROOKED_ADDRESS)
    process = await Process.start(
        "crooked name server",
        node.inside(sys.executable, "-B", str(CROOKED), CROOKED_ADDRESS, UNBOUND),
        scene.directory / "crooked.log",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    scene.cleanup(process.stop)
    _, stdout = process.pipes
    assert stdout is not None
    await asyncio.wait_for(stdout.readline(), 10)
    return process, node


def _manner(process: Process, words: str) -> None:
    stdin, _ = process.pipes
    assert stdin is not None
    stdin.write(f"{words}\n".encode())


async def dns_crooked(scene: Scene) -> str:
    """Name servers that are slow, that fail, that answer with noise, and strangers who guess."""
    resolver, _ = await _crooked(scene)
    ground = await open_ground(scene, domains=6, limits=LIMITS, resolver=CROOKED_ADDRESS)
    ground.chat(RATE)
    await ground.flowing()
    found = []
    for domain, manner, arrives in zip(
        ground.domains[1:],
        ("slow 1", "slow 30", "servfail", "noise", "guess"),
        (True, False, False, False, True),
        strict=True,
    ):
        _manner(resolver, manner)
        if arrives:
            began = time.monotonic()
            stanza = f"by-{manner.partition(' ')[0]}"
            ground.legacy.send(LEGACY, domain, stanza, "127.0.0.1", LOCAL_PORT)
            await until(lambda s=stanza: s in ground.peer.stanzas, 30, f"a message by {manner}")
            found.append(f"{manner}: arrives after {time.monotonic() - began:.1f} s")
            continue
        stanza = f"by-{manner.replace(' ', '-')}"
        ground.legacy.send(LEGACY, domain, stanza, "127.0.0.1", LOCAL_PORT)
        condition = await _bounced(ground, stanza)
        _manner(resolver, "honest")
        back = await _reaches(ground, domain)
        found.append(f"{manner}: {condition}, back {back:.1f} s")
    into, out = await ground.settled()
    if into.lost or out.lost:
        raise Failed(f"open streams have lost messages: {into}; {out}")
    return "; ".join(found)


async def dns_lies(scene: Scene, dnssec: bool) -> str:
    """A name server sends fedgate to a liar, who has a certificate of his own for the domain."""
    resolver, _ = await _crooked(scene)
    liar = scene.bare("liar", BROKEN_ADDRESS)
    sections = {} if dnssec else {"level": "trusted"}
    ground = await open_ground(
        scene, domains=2, limits=LIMITS, resolver=CROOKED_ADDRESS, dnssec=dnssec, **sections
    )
    domain = ground.domains[1]
    certificate = scene.world.authority.self_signed(f"liar-{dnssec}", domain)
    liars = await scene.player(
        "liar", liar, [Listener(BROKEN_ADDRESS, PUBLIC_PORT)], {domain: certificate}
    )
    ground.chat(RATE)
    await ground.flowing()
    _manner(resolver, f"lie {BROKEN_ADDRESS}")
    ground.legacy.send(LEGACY, domain, "secret", "127.0.0.1", LOCAL_PORT)
    condition = await _bounced(ground, "secret")
    _manner(resolver, "honest")
    back = await _reaches(ground, domain)
    if liars.stanzas:
        raise Failed(f"the liar has got {list(liars.stanzas)}")
    met = any(event["event"] == "gone" for event in liars.others)
    return f"{condition}, liar {'met, and told nothing' if met else 'not met'}, back {back:.1f} s"


async def lies_unsigned(scene: Scene) -> str:
    return await dns_lies(scene, dnssec=False)


async def lies_signed(scene: Scene) -> str:
    return await dns_lies(scene, dnssec=True)


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
    ground.legacy.send(LEGACY, ground.domains[1], "unlucky", "127.0.0.1", LOCAL_PORT)
    await ground.flowing(more=40)
    await crowd.stop()
    decided = {"unlucky", "error unlucky"}
    await until(
        lambda: decided & {*ground.peer.stanzas, *ground.legacy.stanzas}, 30, "the new domain's answer"
    )
    after, seconds = ground.gauge.now(), time.monotonic() - began
    lines = sum(entry.get("message") == "accept" for entry in log.entries())
    listeners = 3
    if lines > listeners * (seconds / 10 + 1):
        raise Failed(f"{lines} log lines in {seconds:.1f} s about the same thing")
    await ground.back("opened by the crowd", before.descriptors + 8)
    back = await _reaches(ground, ground.domains[1])
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
    await _reaches(ground, ground.domains[1])
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
            await _reaches(ground, domain)
            found.append(f"{jump / DAY:+.1f} days: a new domain is reached")
        else:
            stanza = f"jump{jump}"
            ground.legacy.send(LEGACY, domain, stanza, "127.0.0.1", LOCAL_PORT)
            condition = await _bounced(ground, stanza)
            _set(stamp, 0)
            back = await _reaches(ground, domain)
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
        ("half-open-peer", "packets of open streams with a peer vanish", half_open_peer),
        ("half-open-legacy", "packets of open streams with the legacy server vanish", half_open_legacy),
        ("half-open-idle", "packets of idle streams with a peer vanish", half_open_idle),
        ("killed", "fedgate, the peer and the legacy server are killed", killed),
        ("dns-killed", "the resolver is killed and comes back", dns_killed),
        ("dns-crooked", "the resolver is slow, fails, or talks noise", dns_crooked),
        ("dns-lies", "the resolver lies about an address; certificates decide", lies_unsigned),
        ("dns-lies-signed", "the resolver lies about a signed address", lies_signed),
        ("no-descriptors", "fedgate has no descriptors left", no_descriptors),
        ("disk-full", "the disk below fedgate's state is full", disk_full),
        ("disk-full-first", "the disk is full at the very first start", disk_full_first),
        ("unreadable", "the configuration cannot be read again", unreadable),
        ("clock", "the clock jumps, forth and back", clock),
    )
]
