"""The stage on which proofs end: a scripted peer, and a fedgate that takes only what is proven."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from cryptography import x509

from .ca import Authority, Certificate, key_digest
from .gate import LEGACY_PORT, LOCAL_PORT, PUBLIC_PORT, Gate, GateSettings
from .gatelog import INBOUND, OUTBOUND, RENEWED, WITHDRAWN, GateLog
from .plan import LEGACY, LEGACY_ADDRESS
from .player import Listener, Player
from .scene import Failed, Scene
from .wait import until

PEER_ADDRESS = "10.77.0.31"
TTL = 5  # of everything that proves something here
# the zone's TTL may be counted twice, by the resolver and by fedgate
WITHDRAWN_SECONDS = 2 * TTL + 5
DELIVERY_SECONDS = 20
DAY_SECONDS = 24 * 60 * 60
BOTH = (OUTBOUND, INBOUND)
EXPIRED = "EXTERNAL: not-authorized"  # the proof of the certificate, since EXTERNAL was offered


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
    records: set[str] = field(default_factory=set)

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
        self.scene.world.dns.replace(name, kind, *data, new=name not in self.records)
        self.records.add(name)

    def forget(self) -> None:
        """Takes away all that was published."""
        for name in self.records:
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

    async def recovers(self) -> None:
        """Messages get through both ways once more, though some may bounce before: the scripted
        peer drops those for which no stream came about, as when the proof of its certificate
        expires between our offer of EXTERNAL and its answer."""
        deadline = time.monotonic() + DELIVERY_SECONDS
        while True:
            out, into = f"again-out-{time.monotonic()}", f"again-in-{time.monotonic()}"
            before = len(self.peer.seen("refused", self.domain, LEGACY))
            self.send_out(out)
            self.send_in(into)

            def decided(out: str = out, into: str = into, before: int = before) -> bool:
                if f"error {out}" in self.legacy.stanzas:
                    return True
                back = into in self.legacy.stanzas or bool(self._refused(before))
                return out in self.peer.stanzas and back

            await until(decided, DELIVERY_SECONDS, "an answer, and a message back")
            if out in self.peer.stanzas and into in self.legacy.stanzas:
                return
            if out in self.peer.stanzas and (why := set(self._refused(before)) - {EXPIRED}):
                raise Failed(f"the peer's new stream was refused: {why}")
            if time.monotonic() > deadline:
                raise Failed("messages still bounce")
            await asyncio.sleep(1)

    def _refused(self, before: int) -> list[str]:
        """Why streams of the peer were refused, but for the first ones."""
        events = self.peer.seen("refused", self.domain, LEGACY)[before:]
        return [str(event["why"]) for event in events]

    def why(self, log: GateLog) -> str:
        """What the log says when a pair is withdrawn."""
        said = [
            str(entry["detail"])
            for entry in log.entries()
            if str(entry.get("message")).startswith(WITHDRAWN)
            and self.domain in str(entry["pair"]).split("→")
        ]
        if not said:
            raise Failed("the log does not say why")
        return said[0]


async def open_stage(
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
    service = f"_xmpp-server._tcp.{domain}"
    await until(
        lambda: f"{stage.host}." in scene.world.dns.ask(service, "SRV"),
        DELIVERY_SECONDS,
        "the peer's records in the DNS",
    )
    return stage, own
