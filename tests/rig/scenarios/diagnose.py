"""What fedgate's commands say of real servers, zones and certificates."""

import asyncio
import json
import shutil
from typing import Any

from ..gate import Gate
from ..plan import DOWN, EXPIRED, LEGACY, MODERN, NO_SUCH, SELF_SIGNED, WRONG_NAME
from ..scene import Failed, Scene
from ..wait import until
from .base import Scenario
from .odd import odd_peer

OK, WARNING, CRITICAL = 0, 1, 2


async def check(scene: Scene) -> str:
    legacy = await scene.legacy("jabberd2", dnssec=True)
    await scene.peer("prosody")
    await odd_peer(scene)
    assert legacy.gate is not None
    gate, seen = legacy.gate, []
    for domain, options, expected, pkix in (
        (MODERN, (), OK, "holds"),
        (MODERN, ("--dialback",), OK, "holds"),
        (SELF_SIGNED, (), WARNING, "self-signed"),
        (SELF_SIGNED, ("--dialback",), WARNING, "self-signed"),
        (EXPIRED, (), WARNING, "expired"),
        (WRONG_NAME, (), WARNING, "name-mismatch"),
        (DOWN, (), CRITICAL, None),
        (NO_SUCH, (), CRITICAL, None),
    ):
        report = await _report(gate, expected, "check", domain, *options)
        found = _pkix(report)
        if found != pkix:
            raise Failed(f"{domain}: PKIX {found}, not {pkix}")
        if options and not report["targets"][0]["connections"][0]["dialback"]:
            raise Failed(f"{domain} did not take our dialback key")
        if domain == MODERN and report["dns"]["services"][1]["dnssec"] != "secure":
            raise Failed("the zone is signed")
        (scene.directory / f"check-{domain}.txt").write_text(gate.ask("check", domain)[1])
        seen.append(f"{domain} {report['status']}")
    return ", ".join(dict.fromkeys(seen))


async def records(scene: Scene) -> str:
    legacy = await scene.legacy("jabberd2", dnssec=True)
    assert legacy.gate is not None
    gate, zone = legacy.gate, scene.world.dns
    before = await _report(gate, WARNING, "records", LEGACY)
    missing = [item for item in _items(before, "tlsa") if item["state"] == "missing"]
    lines = [
        line.split(maxsplit=3) for line in gate.ask("records", LEGACY, "--zone")[1].splitlines()
    ]
    wanted = [(name.rstrip("."), data) for name, _, kind, data in lines if kind == "TLSA"]
    if len(missing) != 2 or len(wanted) != 2:
        raise Failed(f"TLSA records of both ports should be wanted: {missing} {wanted}")
    to_come = str(scene.world.authority.issue("to-come", LEGACY).cert)
    words = ("records", LEGACY, "--next", to_come)
    (scene.directory / "records-before.txt").write_text(gate.ask(*words)[1])
    try:
        for name, data in wanted:
            zone.set(name, "TLSA", data)
        await until(
            lambda: gate.ask("records", LEGACY)[0] == OK, 20, "the resolver to know of the records"
        )
        (scene.directory / "records-after.txt").write_text(gate.ask("records", LEGACY)[1])
        # another key than that in the zone
        pair = scene.world.authority.issue("another-key", LEGACY)
        assert gate.settings.certificate is not None
        shutil.copy(pair.cert, gate.settings.certificate.cert)
        shutil.copyfile(pair.key, gate.key)
        after = await _report(gate, CRITICAL, "records", LEGACY)
        wrong = [item["why"] for item in _items(after, "tlsa") if item["state"] == "wrong"]
    finally:
        for name, _ in wanted:
            zone.unset(name)
    return f"missing, then there, then of another key: {wrong[0]}"


async def _report(gate: Gate, expected: int, *words: str) -> dict[str, Any]:
    status, text = await asyncio.to_thread(gate.ask, *words, "--json")
    if status != expected:
        raise Failed(f"fedgate {' '.join(words)}: exit status {status}, not {expected}: {text}")
    report: dict[str, Any] = json.loads(text)
    return report


def _pkix(report: dict[str, Any]) -> str | None:
    for target in report["targets"]:
        for connection in target["connections"]:
            for proof in connection["proofs"]:
                if proof["prooftype"] == "pkix":
                    return str(proof["reason"] or proof["result"])
    return None


def _items(report: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [item for item in report["domains"][0]["items"] if item["kind"] == kind]


SCENARIOS = [
    Scenario("check", "the check command finds in real servers what is wrong with them", check),
    Scenario("records", "the records command sees a zone as resolvers do", records),
]
