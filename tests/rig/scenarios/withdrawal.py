"""What proved a peer ends while its streams are open: the pairs are proven anew, or withdrawn."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509

from ..ca import Authority, Certificate, key_digest
from ..gate import LEGACY_PORT, LOCAL_PORT, PUBLIC_PORT, Gate, GateSettings
from ..gatelog import (
    DANE,
    INBOUND,
    JOINED,
    NEGOTIATED,
    NOT_RENEWED,
    OUTBOUND,
    PKIX,
    POSH,
    RENEWED,
    WITHDRAWN,
    GateLog,
)
from ..plan import LEGACY, LEGACY_ADDRESS
from ..player import Listener, Player
from ..posh import PATH, digest, document
from ..scene import Failed, Scene
from ..wait import until
from ..web import Answer, Web
from .base import Scenario

PEER_ADDRESS = "10.77.0.31"
WEB_ADDRESS = "10.77.0.32"
TTL = 5  # of everything that proves something here
# the zone's TTL may be counted twice, by the resolver and by fedgate
WITHDRAWN_SECONDS = 2 * TTL + 5
DELIVERY_SECONDS = 20
LIFETIME = 15  # seconds that a certificate lives on
SILENCE_SECONDS = 30
UNANSWERED_SECONDS = 30  # after which fedgate asks again where nobody answered
DAY_SECONDS = 24 * 60 * 60
BOTH = (OUTBOUND, INBOUND)


@dataclass
class Stage:
    """A peer, scripted, and a fedgate that lets in only what is proven."""

    scene: Scene
    authority: Authority
    legacy: Player
    peer: Player
    gate: Gate
    domain: str  # the peer's
    sent: int = 0
    records: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        """The peer's."""
        return f"xmpp.{self.domain}"

    @property
    def log(self) -> GateLog:
        return GateLog(self.gate.log)

    def delegate(self, domain: str, host: str) -> None:
        """Another SRV record in place of the one that was there."""
        self.publish(f"_xmpp-server._tcp.{domain}", "SRV", f"10 10 {PUBLIC_PORT} {host}.")

    def publish_key(self, *certificates: Certificate) -> None:
        """TLSA records of these keys and no others."""
        name = f"_{PUBLIC_PORT}._tcp.{self.host}"
        self.publish(name, "TLSA", *(f"3 1 1 {key_digest(each.cert)}" for each in certificates))

    def publish(self, name: str, kind: str, *data: str) -> None:
        """These records in place of those that were there."""
        dns = self.scene.world.dns
        if name in self.records:
            dns.unset(name)
        self.records.append(name)
        for text in data:
            dns.set(name, kind, text)

    def forget(self) -> None:
        for name in set(self.records):
            self.scene.world.dns.unset(name)

    async def deliver(self, domain: str | None = None) -> None:
        """A message each way arrives."""
        out, into = self._stanza(), self._stanza()
        self.send_out(out, domain)
        self.send_in(into, domain)
        await until(
            lambda: out in self.peer.stanzas and into in self.legacy.stanzas,
            DELIVERY_SECONDS,
            "a message each way",
        )

    async def bounces(self, domain: str | None = None) -> str:
        """A message to the peer comes back as an error."""
        stanza = self._stanza()
        self.send_out(stanza, domain)
        error = f"error {stanza}"
        await until(lambda: error in self.legacy.stanzas, DELIVERY_SECONDS, "an error")
        if stanza in self.peer.stanzas:
            raise Failed("bounced and delivered")
        return str(self.legacy.stanzas[error]["condition"])

    def send_out(self, stanza: str, domain: str | None = None) -> None:
        self.legacy.send(LEGACY, domain or self.domain, stanza, "127.0.0.1", LOCAL_PORT)

    def send_in(self, stanza: str, domain: str | None = None) -> None:
        self.peer.send(domain or self.domain, LEGACY, stanza, LEGACY_ADDRESS, PUBLIC_PORT)

    def _stanza(self) -> str:
        self.sent += 1
        return f"stanza-{self.sent}"

    def ended(self) -> tuple[int, int]:
        """How many streams have ended, from the peer and to it."""
        into = len(self.peer.seen("closed", self.domain, LEGACY))
        out = sum(event["event"] == "gone" for event in self.peer.others)
        return into, out

    async def withdrawn(self, before: tuple[int, int], seconds: float) -> float:
        """Both streams end. Seconds taken."""
        began = time.monotonic()

        def both() -> bool:
            return all(now > then for now, then in zip(self.ended(), before, strict=True))

        what = f"both streams to end, {before} had before"
        await until(both, seconds, what)
        return time.monotonic() - began

    async def proven(self, log: GateLog, by: str) -> None:
        """The streams of both directions rest on this prooftype."""
        for direction in BOTH:
            await log.expect_stream(direction, LEGACY, self.domain, proof=by)

    async def renewed(self, log: GateLog, seconds: float = 2 * WITHDRAWN_SECONDS) -> None:
        """Both pairs are proven again, twice: the second time by what is published now."""

        def twice() -> bool:
            pairs = Counter(
                entry["pair"] for entry in log.entries() if entry.get("message") == RENEWED
            )
            return len(pairs) == len(BOTH) and min(pairs.values()) > 1

        await until(twice, seconds, "both pairs to be proven again")
        if self.ended() != (0, 0):
            raise Failed(f"streams ended though what proves them is there: {self.ended()}")

    def why(self, log: GateLog) -> str:
        """What the log says when a pair is withdrawn."""
        said = [
            str(entry.get("detail") or entry.get("reason"))
            for entry in log.entries()
            if entry.get("level") == "INFO"
            and entry.get("message") != NEGOTIATED
            and self.domain in f"{entry.get('pair')} {entry.get('domain')}"
        ]
        if not said:
            raise Failed("the log does not say why")
        return said[0]


async def tlsa_rolled(scene: Scene) -> str:
    stage, own = await _stage(scene)
    try:
        fresh = stage.authority.mint("fresh", [x509.DNSName(stage.domain)], self_signed=True)
        stage.publish_key(own)
        await stage.deliver()
        await stage.proven(stage.log, DANE)

        # both keys: nothing ends
        log = stage.log.now()
        stage.publish_key(own, fresh)
        await stage.renewed(log)
        await stage.deliver()

        # another key alone: what rests on the old one ends
        before, log = stage.ended(), stage.log.now()
        stage.publish_key(fresh)
        seconds = await stage.withdrawn(before, WITHDRAWN_SECONDS)
        condition = await stage.bounces()
        why = stage.why(log)

        # the peer has that key now: new streams are proven by it
        log = stage.log.now()
        stage.peer.certify(stage.domain, fresh)
        await _recovers(stage)
        await stage.proven(log, DANE)
    finally:
        stage.forget()
    return f"withdrawn after {seconds:.1f} s, {condition}; log: {why}; proven again by the new key"


async def tlsa_rolled_with_peer(scene: Scene) -> str:
    """The peer's new connections have the new key before the record has it alone."""
    stage, own = await _stage(scene)
    try:
        fresh = stage.authority.mint("fresh", [x509.DNSName(stage.domain)], self_signed=True)
        stage.publish_key(own)
        await stage.deliver()
        before, log = stage.ended(), stage.log.now()
        stage.peer.certify(stage.domain, fresh)
        stage.publish_key(fresh)
        seconds = await stage.withdrawn(before, WITHDRAWN_SECONDS)
        await _recovers(stage)
        await stage.proven(log, DANE)
    finally:
        stage.forget()
    return f"withdrawn after {seconds:.1f} s, proven again by the new key"


async def dns_silent(scene: Scene) -> str:
    """Nobody knows whether the records are still there: for a while that is no reason to end."""
    stage, own = await _stage(scene)
    dns = scene.world.dns

    def unanswered(log: GateLog) -> bool:
        if stage.ended() != (0, 0):
            raise Failed(f"streams ended because DNS is silent: {stage.why(log)}")
        said = [entry["pair"] for entry in log.entries() if entry.get("message") == NOT_RENEWED]
        return len(set(said)) == len(BOTH)

    try:
        stage.publish_key(own)
        await stage.deliver()
        await stage.proven(stage.log, DANE)
        log = stage.log.now()
        dns.silence()
        try:
            # the next look at each proof comes within a TTL and finds nothing
            await until(lambda: unanswered(log), SILENCE_SECONDS, "a look at both proofs in vain")
        finally:
            dns.speak()
        log = stage.log.now()
        await stage.renewed(log, UNANSWERED_SECONDS + WITHDRAWN_SECONDS)
        await stage.deliver()
    finally:
        stage.forget()
    return "streams outlive a silence of DNS, and are then proven again"


async def posh_changed(scene: Scene) -> str:
    web = Web(scene.directory / "web")
    stage, own = await _stage(scene, posh=True)
    fresh = stage.authority.mint("fresh", [x509.DNSName(stage.domain)], self_signed=True)
    try:
        stage.publish(stage.domain, "A", WEB_ADDRESS)
        https = stage.authority.issue("https", stage.domain)
        body = web.publish(_document(own))
        web.add(stage.domain, https, (Answer(PATH, directive=f"alias {body};"),))
        await scene.web(web, scene.bare("web", WEB_ADDRESS))
        await stage.deliver()
        await stage.proven(stage.log, POSH)

        log = stage.log.now()
        web.publish(_document(own, fresh), body)
        await stage.renewed(log)

        before, log = stage.ended(), stage.log.now()
        web.publish(_document(fresh), body)
        seconds = await stage.withdrawn(before, WITHDRAWN_SECONDS)
        condition = await stage.bounces()
        why = stage.why(log)

        log = stage.log.now()
        stage.peer.certify(stage.domain, fresh)
        await _recovers(stage)
        await stage.proven(log, POSH)
    finally:
        stage.forget()
    return f"withdrawn after {seconds:.1f} s, {condition}; log: {why}; proven again"


async def certificate_expired(scene: Scene) -> str:
    stage, _ = await _stage(scene, LIFETIME)
    try:
        await stage.deliver()
        await stage.proven(stage.log, PKIX)
        before, log = stage.ended(), stage.log.now()
        seconds = await stage.withdrawn(before, LIFETIME + 5)
        condition = await stage.bounces()
        why = stage.why(log)

        log = stage.log.now()
        stage.peer.certify(stage.domain, stage.authority.issue("renewed", stage.domain))
        await _recovers(stage)
        await stage.proven(log, PKIX)
    finally:
        stage.forget()
    return f"withdrawn after {seconds:.1f} s, {condition}; log: {why}; proven again when renewed"


async def one_of_two(scene: Scene) -> str:
    """Two domains are delegated to one host, whose certificate names it alone: they share a
    connection, until one is delegated elsewhere."""
    stage, _ = await _stage(scene)
    moving, staying = stage.domain, f"staying.{stage.domain}"
    try:
        certificate = stage.authority.issue("host", stage.host)
        for domain in (moving, staying):
            stage.peer.certify(domain, certificate)
        stage.delegate(staying, stage.host)
        await stage.deliver(moving)
        await stage.deliver(staying)
        await stage.proven(stage.log, PKIX)
        joined = [entry for entry in stage.log.entries() if entry.get("message") == JOINED]
        if not joined:
            raise Failed("the two pairs do not share a connection")

        log = stage.log.now()
        elsewhere = f"elsewhere.{stage.domain}"
        stage.publish(elsewhere, "A", PEER_ADDRESS)
        stage.delegate(moving, elsewhere)

        def left() -> list[dict[str, Any]]:
            return [
                entry
                for entry in log.entries()
                if str(entry.get("message")).startswith(WITHDRAWN)
                and moving in str(entry.get("pair")).split("→")
            ]

        await until(lambda: len(left()) == len(BOTH), WITHDRAWN_SECONDS, "both its pairs to go")
        await stage.deliver(staying)
        gone = stage.ended()
        if gone != (1, 0) or stage.peer.seen("closed", staying, LEGACY):
            raise Failed(f"streams of the other pair ended: {gone}")
        condition = await stage.bounces(moving)
    finally:
        stage.forget()
    return f"{left()[0]['detail']}; {condition}; the other pair goes on over the same connection"


async def _recovers(stage: Stage) -> None:
    """Messages get through both ways once more, though some may bounce before."""
    deadline = time.monotonic() + DELIVERY_SECONDS
    while True:
        out, into = f"again-out-{time.monotonic()}", f"again-in-{time.monotonic()}"
        stage.send_out(out)
        stage.send_in(into)

        def decided(out: str = out) -> bool:
            return out in stage.peer.stanzas or f"error {out}" in stage.legacy.stanzas

        await until(decided, DELIVERY_SECONDS, "an answer")
        if out in stage.peer.stanzas:
            await until(lambda: into in stage.legacy.stanzas, DELIVERY_SECONDS, "a message back")  # noqa: B023
            return
        if time.monotonic() > deadline:
            raise Failed("messages still bounce")
        await asyncio.sleep(1)


async def _stage(
    scene: Scene, seconds: float | None = None, posh: bool = False
) -> tuple[Stage, Certificate]:
    """The two servers, and the peer's first certificate: one of the authority that lives on for
    so many seconds, or else a self-signed one."""
    home = scene.directory / "certificates"
    home.mkdir()
    legacy_node, peer_node = scene.bare("legacy", LEGACY_ADDRESS), scene.bare("peer", PEER_ADDRESS)
    legacy = await scene.player("legacy", legacy_node, [Listener("127.0.0.1", LEGACY_PORT)])
    authority = Authority(home, "trusted root")
    settings = GateSettings(
        LEGACY_ADDRESS,
        "scripted",
        (LEGACY,),
        authority.issue(LEGACY, LEGACY),
        authority.root,
        level="trusted",
        refusals="bounce",
        anchor=scene.world.dns.anchor,
        sections={"posh": {"fetch": posh}},
    )
    gate = await scene.gate("legacy", legacy_node, settings)
    # what DNS remembers of one scenario means nothing in the next
    domain = f"{scene.directory.name}.test"
    names = [x509.DNSName(domain)]
    if seconds is None:
        own = authority.mint("own", names, self_signed=True)
    else:
        own = authority.mint("own", names, days=(-10, (authority.age() + seconds) / DAY_SECONDS))
    listener = Listener(PEER_ADDRESS, PUBLIC_PORT)
    peer = await scene.player("peer", peer_node, [listener], {domain: own})
    stage = Stage(scene, authority, legacy, peer, gate, domain)
    stage.publish(stage.host, "A", PEER_ADDRESS)
    stage.delegate(domain, stage.host)
    return stage, own


def _document(*certificates: Certificate) -> str:
    listed = [{"sha-256": digest(certificate.leaf)} for certificate in certificates]
    return document(*listed, expires=TTL)


SCENARIOS = [
    Scenario(
        "withdrawal-shared", "one of two domains that share a connection moves away", one_of_two
    ),
    Scenario("withdrawal-tlsa", "a TLSA record is rolled to another key", tlsa_rolled),
    Scenario(
        "withdrawal-tlsa-with-peer",
        "a TLSA record and the peer's certificate change together",
        tlsa_rolled_with_peer,
    ),
    Scenario("withdrawal-dns-silent", "DNS is silent when a proof expires", dns_silent),
    Scenario("withdrawal-posh", "a POSH document changes to another certificate", posh_changed),
    Scenario(
        "withdrawal-certificate", "a certificate expires while connected", certificate_expired
    ),
]
