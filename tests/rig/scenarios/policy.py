"""Who may not federate is refused, in both directions, at once and with an error."""

import asyncio
import os
import shutil
import time
from pathlib import Path

from ..checks import collide, deliver, exchange, recovers, refused, tag
from ..gate import DIRECT_TLS_PORT
from ..plan import DENIED, ELSEWHERE, FAR_ADDRESS, LATE_DENIED, LEGACY
from ..scene import Failed, Scene
from ..wait import until
from .base import Scenario
from .odd import odd_peer

# forbidden by policy; a legacy server that was told "no" in dialback says it in its own words
REFUSALS = ("policy-violation", "forbidden", "not-allowed", "remote-server-timeout")
REMOTE_REFUSALS = (*REFUSALS, "remote-server-not-found", "service-unavailable")
PROMPT_SECONDS = 10
EFFECT_SECONDS = 2
RELOADS = 50
RELOAD_STANZAS = 10_000
RELOADED = "configuration reloaded"


async def denied_domain(scene: Scene) -> str:
    rule = {"match": [DENIED], "allow": "none", "reason": "test"}
    legacy = await scene.legacy("jabberd2", rules=[rule])
    peer = await odd_peer(scene)
    alice = await scene.login(legacy, "alice")
    carol = await scene.login(peer, "carol", DENIED)
    out = await refused(alice, carol.full, REFUSALS, PROMPT_SECONDS, unread_by=carol)
    into = await refused(carol, alice.full, REMOTE_REFUSALS, unread_by=alice)
    return f"out {out}; in {into}"


async def denied_address(scene: Scene) -> str:
    rule = {"address": [FAR_ADDRESS], "allow": "none"}
    legacy = await scene.legacy("jabberd2", rules=[rule])
    peer = await scene.server("prosody", scene.peer_settings(ELSEWHERE, FAR_ADDRESS))
    alice = await scene.login(legacy, "alice")
    carol = await scene.login(peer, "carol")
    out = await refused(alice, carol.full, REFUSALS, PROMPT_SECONDS, unread_by=carol)
    into = await refused(carol, alice.full, REMOTE_REFUSALS, unread_by=alice)
    return f"out {out}; in {into}"


async def late_rule(scene: Scene) -> str:
    legacy = await scene.legacy("jabberd2")
    peer = await odd_peer(scene)
    other = await scene.peer("prosody")
    alice = await scene.login(legacy, "alice")
    bob = await scene.login(other, "bob")
    carol = await scene.login(peer, "carol", LATE_DENIED)
    await exchange(alice, bob, 5)
    await deliver(alice, carol)
    await exchange(alice, carol, 5)
    assert legacy.gate is not None

    peer_log = peer.server.home / "prosody.log"
    before = peer_log.stat().st_size
    rule = {"match": [LATE_DENIED], "allow": "none", "reason": "added while running"}
    path = legacy.gate.add("50-late.yaml", {"rules": [rule]})
    began = time.monotonic()
    words: list[str] = []

    def bounces() -> bool:
        words.append(tag())
        alice.send(carol.full, words[-1])
        return any(alice.errors(word) for word in words)

    await until(bounces, EFFECT_SECONDS, "the new rule to take effect")
    effect = time.monotonic() - began
    await until(
        lambda: b"policy-violation" in peer_log.read_bytes()[before:],
        EFFECT_SECONDS,
        "policy-violation on the stream with the peer that is denied now",
    )
    await refused(alice, carol.full, REFUSALS, PROMPT_SECONDS, unread_by=carol)
    await refused(carol, alice.full, REMOTE_REFUSALS, unread_by=alice)
    await exchange(alice, bob, 5)

    broken = legacy.gate.add("60-broken.yaml", {"no-such-key": True})
    mark = legacy.log.now()
    await until(
        lambda: any(entry.get("level") == "ERROR" for entry in mark.entries()),
        5,
        "one error line for the broken file",
    )
    await refused(alice, carol.full, REFUSALS, PROMPT_SECONDS, unread_by=carol)
    await exchange(alice, bob, 5)
    broken.unlink()
    path.unlink()
    back = await recovers(alice, carol)
    return f"in effect after {effect:.2f} s, broken file changed nothing, gone after {back:.2f} s"


async def late_certificate(scene: Scene) -> str:
    legacy = await scene.legacy("jabberd2")
    peer = await scene.peer("prosody")
    alice = await scene.login(legacy, "alice")
    bob = await scene.login(peer, "bob")
    await exchange(alice, bob, 5)
    gate = legacy.gate
    assert gate is not None and gate.settings.certificate is not None
    log = legacy.log.now()
    shown = f"openssl s_client -connect {gate.settings.address}:{DIRECT_TLS_PORT} "
    shown += f"-servername {LEGACY} </dev/null 2>/dev/null | openssl x509 -noout -serial"

    def serial() -> str:
        return legacy.node.run("sh", "-c", shown)

    old = serial()
    renewed = scene.world.authority.issue("renewed", LEGACY)
    # as renewals come: first one file, then the other
    replace(renewed.cert, gate.settings.certificate.cert)
    await until(
        lambda: any(entry.get("level") == "ERROR" for entry in log.entries()),
        5,
        "one error line for a certificate without its key",
    )
    if serial() != old:
        raise Failed("a certificate without its key is shown")
    replace(renewed.key, gate.key)
    began = time.monotonic()
    await until(lambda: serial() != old, EFFECT_SECONDS, "the renewed certificate to be shown")
    effect = time.monotonic() - began
    await exchange(alice, bob, 5)
    closed = [e for e in log.entries() if e.get("message") == "stream closed" and e.get("pair")]
    if closed:
        raise Failed(f"streams were closed: {closed}")
    return f"in effect after {effect:.2f} s, no stream closed"


async def reloads(scene: Scene) -> str:
    """Stanzas flow both ways all the time while the rules change again and again."""
    legacy = await scene.legacy("jabberd2")
    peer = await scene.peer("prosody")
    alice = await scene.login(legacy, "alice")
    bob = await scene.login(peer, "bob")
    await exchange(alice, bob, 5)
    gate, log = legacy.gate, legacy.log.now()
    assert gate is not None

    def done() -> int:
        return sum(entry.get("message") == RELOADED for entry in log.entries())

    async def change() -> None:
        for turn in range(RELOADS):
            rules = [{"match": f"turn-{turn}.test", "allow": "none"}, {"match": "*", "level": "encrypted"}]
            gate.add("50-turn.yaml", {"rules": rules[: 1 + turn % 2]})
            await until(lambda turn=turn: done() > turn, 10, f"reload {turn + 1}")

    changing = asyncio.create_task(change())
    sent = 0
    while sent < RELOAD_STANZAS or not changing.done():
        await collide(alice, bob, 500)
        sent += 1000
    await changing
    closed = [e for e in log.entries() if e.get("message") == "stream closed" and e.get("pair")]
    if closed:
        raise Failed(f"streams were closed: {closed}")
    return f"{sent} stanzas, {done()} reloads, none lost, doubled or out of order, no stream closed"


def replace(source: Path, target: Path) -> None:
    """Puts a copy in the place of a file, with its owner and mode, as a whole."""
    before = target.stat()
    fresh = target.with_suffix(".new")
    shutil.copy(source, fresh)
    os.chown(fresh, before.st_uid, before.st_gid)
    fresh.chmod(before.st_mode)
    fresh.rename(target)


SCENARIOS = [
    Scenario("denied-domain", "a denied domain is refused both ways", denied_domain),
    Scenario("denied-address", "a denied address is refused both ways", denied_address),
    Scenario("late-rule", "a rule added while fedgate runs takes effect at once", late_rule),
    Scenario("reloads", "nothing is lost or reordered by reloads under full traffic", reloads),
    Scenario(
        "late-certificate",
        "a renewed certificate is shown at once, streams go on",
        late_certificate,
    ),
]
