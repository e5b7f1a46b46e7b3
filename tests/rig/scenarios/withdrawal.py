"""What proved a peer ends while its streams are open: the pairs are proven anew, or withdrawn."""

from typing import Any

from cryptography import x509

from ..ca import Certificate
from ..gatelog import DANE, JOINED, NOT_RENEWED, PKIX, POSH, WITHDRAWN, GateLog
from ..plan import LEGACY
from ..posh import PATH, digest, document
from ..scene import Failed, Scene
from ..stage import BOTH, PEER_ADDRESS, TTL, WITHDRAWN_SECONDS, open_stage
from ..wait import until
from ..web import Answer, Web
from .base import Scenario

WEB_ADDRESS = "10.77.0.32"
LIFETIME = 15  # seconds that a certificate lives on
SILENCE_SECONDS = 30
UNANSWERED_SECONDS = 30  # after which fedgate asks again where nobody answered


async def tlsa_rolled(scene: Scene) -> str:
    stage, own = await open_stage(scene)
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
        await stage.recovers()
        await stage.proven(log, DANE)
    finally:
        stage.forget()
    return f"withdrawn after {seconds:.1f} s, {condition}; log: {why}; proven again by the new key"


async def tlsa_rolled_with_peer(scene: Scene) -> str:
    """The peer's new connections have the new key before the record has it alone."""
    stage, own = await open_stage(scene)
    try:
        fresh = stage.authority.mint("fresh", [x509.DNSName(stage.domain)], self_signed=True)
        stage.publish_key(own)
        await stage.deliver()
        before, log = stage.ended(), stage.log.now()
        stage.peer.certify(stage.domain, fresh)
        stage.publish_key(fresh)
        seconds = await stage.withdrawn(before, WITHDRAWN_SECONDS)
        await stage.recovers()
        await stage.proven(log, DANE)
    finally:
        stage.forget()
    return f"withdrawn after {seconds:.1f} s, proven again by the new key"


async def dns_silent(scene: Scene) -> str:
    """Nobody knows whether the records are still there: for a while that is no reason to end."""
    stage, own = await open_stage(scene)
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
    stage, own = await open_stage(scene, posh=True)
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
        await stage.recovers()
        await stage.proven(log, POSH)
    finally:
        stage.forget()
    return f"withdrawn after {seconds:.1f} s, {condition}; log: {why}; proven again"


async def certificate_expired(scene: Scene) -> str:
    stage, _ = await open_stage(scene, LIFETIME)
    try:
        await stage.deliver()
        await stage.proven(stage.log, PKIX)
        before, log = stage.ended(), stage.log.now()
        seconds = await stage.withdrawn(before, LIFETIME + 5)
        condition = await stage.bounces()
        why = stage.why(log)

        log = stage.log.now()
        stage.peer.certify(stage.domain, stage.authority.issue("renewed", stage.domain))
        await stage.recovers()
        await stage.proven(log, PKIX)
    finally:
        stage.forget()
    return f"withdrawn after {seconds:.1f} s, {condition}; log: {why}; proven again when renewed"


async def one_of_two(scene: Scene) -> str:
    """Two domains are delegated to one host, whose certificate names it alone: they share a
    connection, until one is delegated elsewhere."""
    stage, _ = await open_stage(scene)
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
