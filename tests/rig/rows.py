"""The table of prooftypes: one row for each way in which a peer proves its domain, or does not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from cryptography import x509

from . import posh
from .ca import Flaw, association
from .gatelog import DANE, PKIX, POSH
from .zones import EXPIRED, INSECURE, SECURE

Issuer = Literal["trusted", "intermediate", "stranger", "below-stranger", "self"]
Named = Literal["leaf", "issuer", "root", "stranger"]
Names = Callable[[str, str], list[x509.GeneralName]]  # of the domain and its host

SRV_NAME = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.7")
XMPP_ADDR = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.5")
IA5_STRING, UTF8_STRING = 0x16, 0x0C


@dataclass(frozen=True)
class Proven:
    """The peer is believed, by this prooftype."""

    by: str


@dataclass(frozen=True)
class Unproven:
    """The peer is not believed; fedgate's log says why in words that contain `why`."""

    why: str
    dialback: bool = True  # whether dialback is left at the level `encrypted`


@dataclass(frozen=True)
class ProvenByServer:
    """The certificate of the peer as a client proves nothing, and fedgate's log says why; that of
    its server, which is asked by dialback, does (RFC 7712 §4.3)."""

    why: str


Expected = Proven | ProvenByServer | Unproven


def dns_id(domain: str, host: str) -> list[x509.GeneralName]:
    return [x509.DNSName(domain)]


def dns_id_of_host(domain: str, host: str) -> list[x509.GeneralName]:
    return [x509.DNSName(host)]


def dns_id_of_another(domain: str, host: str) -> list[x509.GeneralName]:
    return [x509.DNSName("somebody-else.example")]


def srv_id(domain: str, host: str) -> list[x509.GeneralName]:
    return [_other(SRV_NAME, IA5_STRING, f"_xmpp-server.{domain}")]


def srv_id_of_clients(domain: str, host: str) -> list[x509.GeneralName]:
    return [_other(SRV_NAME, IA5_STRING, f"_xmpp-client.{domain}")]


def xmpp_addr(domain: str, host: str) -> list[x509.GeneralName]:
    return [_other(XMPP_ADDR, UTF8_STRING, domain)]


def wildcard(domain: str, host: str) -> list[x509.GeneralName]:
    return [x509.DNSName(f"*.{domain.partition('.')[2]}")]


def wildcard_above(domain: str, host: str) -> list[x509.GeneralName]:
    return [x509.DNSName(f"*.{domain.split('.', 2)[2]}")]


def partial_wildcard(domain: str, host: str) -> list[x509.GeneralName]:
    label, _, rest = domain.partition(".")
    return [x509.DNSName(f"{label[:3]}*.{rest}")]


def nothing(domain: str, host: str) -> list[x509.GeneralName]:
    return []


@dataclass(frozen=True)
class Tlsa:
    """One TLSA record: its three numbers, and the certificate that it is made from."""

    usage: int
    selector: int
    matching: int
    of: Named = "leaf"
    spoilt: bool = False  # the right digest but for its last byte

    def __str__(self) -> str:
        return f"{self.usage} {self.selector} {self.matching}"


@dataclass(frozen=True)
class Row:
    """One domain, its certificate, what it publishes, and what has to come of it."""

    name: str
    out: Expected  # fedgate connects
    into: Expected  # the peer connects
    names: Names = dns_id
    issuer: Issuer = "trusted"
    client: Issuer | None = None  # of another certificate, that the peer shows where it connects
    days: tuple[float, float] = (-10, 20)  # of the certificate, from now
    flaw: Flaw | None = None  # of the certificate
    common: bool = False  # the domain as the subject's CN
    with_root: bool = False  # whether the root is sent
    zone: str = SECURE
    tlsa: tuple[Tlsa, ...] = ()
    srv: bool = True
    direct_tls: bool = False
    alias: Literal["srv", "host", "tlsa", None] = None  # leads through the insecure zone
    secure_alias: bool = False  # the TLSA records stand elsewhere in the secure zone
    forged: str | None = None  # the type of record whose signature does not match
    web: posh.Published | None = None  # what its HTTPS server has; None: there is no such server
    https: Issuer = "trusted"  # that server's certificate
    https_days: tuple[float, float] = (-10, 20)
    https_names: Names | None = None  # None: the domain and its second name
    https_forbidden: bool = False  # whether it is at an address that fedgate must not connect to
    older_form: bool = False  # of POSH, which only the fedgate at the level `encrypted` knows

    @property
    def domain(self) -> str:
        return f"{self.name}.{self.zone}"

    @property
    def host(self) -> str:
        return f"xmpp.{self.domain}" if self.srv else self.domain


def rows() -> list[Row]:
    """The whole table."""
    table = [*_pkix(), *_not_pkix(), *_dane(), *_not_dane(), *_posh(), *_not_posh(), *_split()]
    assert len({row.name for row in table}) == len(table), "two rows of one name"
    return table


def _both(name: str, expected: Expected, **more: object) -> Row:
    return Row(name, expected, expected, **more)  # type: ignore[arg-type]


def _pkix() -> list[Row]:
    proven = Proven(PKIX)
    return [
        _both("pkix-dns-id", proven, zone=INSECURE),
        _both("pkix-srv-id", proven, zone=INSECURE, names=srv_id),
        _both("pkix-xmpp-addr", proven, zone=INSECURE, names=xmpp_addr),
        _both("pkix-wildcard", proven, zone=INSECURE, names=wildcard),
        _both("pkix-intermediate", proven, zone=INSECURE, issuer="intermediate"),
        _both("pkix-direct-tls", proven, zone=INSECURE, direct_tls=True),
        _both("pkix-signed-zone", proven),
        _both("pkix-delegated", proven, names=dns_id_of_host),
        _both("pkix-delegated-no-tlsa-usable", proven, names=dns_id_of_host, tlsa=(Tlsa(9, 1, 1),)),
    ]


def _not_pkix() -> list[Row]:
    not_named = "certificate is not for"
    return [
        _both("pkix-self-signed", Unproven("certificate is self-signed"), issuer="self"),
        _both("pkix-stranger", Unproven("issuer is unknown"), issuer="stranger"),
        _both("pkix-expired", Unproven("certificate expired on"), days=(-10, -1)),
        _both("pkix-not-yet", Unproven("certificate is not valid before"), days=(2, 20)),
        _both("pkix-wrong-name", Unproven(not_named), names=dns_id_of_another),
        _both("pkix-cn-only", Unproven(not_named), names=nothing, common=True),
        _both("pkix-partial-wildcard", Unproven(not_named), names=partial_wildcard),
        _both("pkix.wildcard-above", Unproven(not_named), names=wildcard_above),
        _both("pkix-srv-id-of-clients", Unproven(not_named), names=srv_id_of_clients),
        _both("pkix-sha1-signature", Unproven("algorithm that is not trusted"), flaw="sha-1"),
        # TLS itself ends over such a key
        _both("pkix-small-key", Unproven("TLS", dialback=False), flaw="small"),
        # nobody vouches for it that the host stands for the domain
        _both("pkix-delegated-insecure", Unproven(not_named), names=dns_id_of_host, zone=INSECURE),
    ]


def _dane() -> list[Row]:
    proven = Proven(DANE)
    table = []
    for selector in (0, 1):
        for matching in (0, 1, 2):
            kind = f"{selector}{matching}"
            # as constraints on a valid chain; of clients they say nothing
            for usage, of in ((0, "root"), (1, "leaf")):
                record = Tlsa(usage, selector, matching, of)  # type: ignore[arg-type]
                table.append(Row(f"dane-{usage}{kind}", proven, Proven(PKIX), tlsa=(record,)))
            record = Tlsa(2, selector, matching, "root")
            sent = (selector, matching) != (0, 0)
            table.append(
                _both(f"dane-2{kind}", proven, tlsa=(record,), issuer="stranger", with_root=sent)
            )
            # neither names nor dates count
            table.append(
                _both(
                    f"dane-3{kind}",
                    proven,
                    tlsa=(Tlsa(3, selector, matching),),
                    issuer="self",
                    names=dns_id_of_another,
                    days=(-10, -1),
                )
            )
    own = (Tlsa(3, 1, 1),)
    return [
        *table,
        Row(
            "dane-0-intermediate",
            proven,
            Proven(PKIX),
            tlsa=(Tlsa(0, 0, 1, "issuer"),),
            issuer="intermediate",
        ),
        _both(
            "dane-2-intermediate", proven, tlsa=(Tlsa(2, 1, 1, "issuer"),), issuer="below-stranger"
        ),
        _both(
            "dane-2-names-host",
            # of a client only its own name counts
            proven,
            tlsa=(Tlsa(2, 0, 1, "root"),),
            issuer="stranger",
            with_root=True,
            names=lambda domain, host: dns_id(domain, host) + dns_id_of_host(domain, host),
        ),
        _both("dane-roll-over", proven, tlsa=(Tlsa(3, 1, 1, "stranger"), *own), issuer="self"),
        _both("dane-direct-tls", proven, tlsa=own, issuer="self", direct_tls=True),
        _both("dane-no-srv", proven, tlsa=own, issuer="self", srv=False),
        _both("dane-alias", proven, tlsa=own, issuer="self", secure_alias=True),
    ]


def _not_dane() -> list[Row]:
    other = (Tlsa(3, 1, 1, "stranger"),)
    own = (Tlsa(3, 1, 1),)
    mismatch = Unproven("matches no TLSA record", dialback=False)
    chain = "ask for a valid certificate chain too"
    not_validated = Unproven("dnssec validation failed", dialback=False)
    self_signed = Unproven("certificate is self-signed")
    return [
        _both("dane-wrong-key", mismatch, tlsa=other),
        _both("dane-wrong-key-self-signed", mismatch, tlsa=other, issuer="self"),
        _both(
            "dane-weak-digest-only",
            mismatch,
            tlsa=(Tlsa(3, 1, 1), Tlsa(3, 1, 2, "stranger")),
            issuer="self",
        ),
        _both("dane-spoilt-digest", mismatch, tlsa=(Tlsa(3, 1, 1, spoilt=True),), issuer="self"),
        Row(
            "dane-1-untrusted-chain",
            Unproven(chain, dialback=False),
            Unproven("issuer is unknown", dialback=False),
            tlsa=(Tlsa(1, 1, 1),),
            issuer="stranger",
        ),
        Row(
            "dane-0-other-ca",
            Unproven("the TLSA records of", dialback=False),
            # what usage 0 asks of servers says nothing of clients
            Proven(PKIX),
            tlsa=(Tlsa(0, 0, 1, "stranger"),),
        ),
        _both(
            "dane-2-wrong-name",
            Unproven("does not follow from the CA", dialback=False),
            tlsa=(Tlsa(2, 0, 1, "root"),),
            issuer="stranger",
            with_root=True,
            names=dns_id_of_another,
        ),
        _both(
            "dane-2-expired",
            Unproven("does not follow from the CA", dialback=False),
            tlsa=(Tlsa(2, 0, 1, "root"),),
            issuer="stranger",
            with_root=True,
            days=(-10, -1),
        ),
        _both("dane-2-root-not-sent", mismatch, tlsa=(Tlsa(2, 0, 1, "root"),), issuer="stranger"),
        _both("dane-insecure-zone", self_signed, tlsa=own, issuer="self", zone=INSECURE),
        _both("dane-bogus-srv", not_validated, tlsa=own, issuer="self", forged="SRV"),
        _both("dane-bogus-address", not_validated, tlsa=own, issuer="self", forged="A"),
        _both("dane-bogus-tlsa", not_validated, tlsa=own, issuer="self", forged="TLSA"),
        _both("dane-expired-signatures", not_validated, tlsa=own, issuer="self", zone=EXPIRED),
        # one insecure link, and TLSA says nothing (RFC 7673 §3.1)
        _both("dane-alias-srv", self_signed, tlsa=own, issuer="self", alias="srv"),
        _both("dane-alias-host", self_signed, tlsa=own, issuer="self", alias="host"),
        _both("dane-alias-tlsa", self_signed, tlsa=own, issuer="self", alias="tlsa"),
        _both(
            "pkix-delegated-alias-srv",
            Unproven("certificate is not for"),
            names=dns_id_of_host,
            alias="srv",
        ),
        # no record that can be used is as none
        _both("dane-no-such-usage", self_signed, tlsa=(Tlsa(9, 1, 1),), issuer="self"),
        # a valid certificate is not worth more than signed records that do not validate
        _both("pkix-bogus-srv", not_validated, forged="SRV"),
        _both("pkix-bogus-address", not_validated, forged="A"),
        _both("pkix-expired-signatures", not_validated, zone=EXPIRED),
    ]


def _posh() -> list[Row]:
    def row(name: str, published: posh.Published, **more: object) -> Row:
        # neither the chain nor the names count
        options = {"issuer": "self", "names": dns_id_of_another, "zone": INSECURE, **more}
        return _both(f"posh-{name}", Proven(POSH), web=published, **options)

    return [
        row("fingerprint", posh.fingerprint),
        row("stranger", posh.fingerprint, issuer="stranger"),
        row("signed-zone", posh.fingerprint, zone=SECURE),
        row("two-hashes", posh.two_hashes),
        row("roll-over", posh.roll_over),
        row("reference", posh.referred),
        row("redirect", posh.redirected),
        row("direct-tls", posh.fingerprint, direct_tls=True),
        row("older-json", posh.older_json, older_form=True),
        row("older-certificate", posh.older_certificate, older_form=True),
        # a failure of POSH takes nothing from PKIX
        _both("posh-mismatch-but-pkix", Proven(PKIX), web=posh.of_another, zone=INSECURE),
        _both("posh-error-but-pkix", Proven(PKIX), web=posh.server_error, zone=INSECURE),
        # nor does its success give anything back that DANE has taken
        _both(
            "posh-but-dane-mismatch",
            Unproven("matches no TLSA record", dialback=False),
            web=posh.fingerprint,
            issuer="self",
            tlsa=(Tlsa(3, 1, 1, "stranger"),),
        ),
    ]


def _not_posh() -> list[Row]:
    def row(name: str, published: posh.Published, why: str, **more: object) -> Row:
        unproven = Unproven(why, dialback=bool(more.pop("dialback", True)))
        options = {"issuer": "self", "zone": INSECURE, **more}
        return _both(f"posh-{name}", unproven, web=published, **options)

    def published(name: str, document: posh.Published, **more: object) -> Row:
        """The domain says that it has other certificates: dialback does not help."""
        return row(name, document, "publishes by POSH", dialback=False, **more)

    https = "POSH: TLS with"
    ruled_out = "is refused by the rule at"
    return [
        published("mismatch", posh.of_another),
        published("weaker-hash-only", posh.weaker_hash_only),
        published("expired-certificate", posh.fingerprint, days=(-10, -1)),
        row("not-found", posh.no_document, "certificate is self-signed"),
        row("broken-hash-only", posh.broken_hash_only, "POSH: nothing that can be used"),
        row("expires-now", posh.expires_now, "holds no longer"),
        row("reference-expires-now", posh.reference_expires_now, "holds no longer"),
        row("expires-in-words", posh.expires_in_words, '\\"expires\\" is missing or no whole'),
        row("both-kinds", posh.both_kinds, "has both"),
        row("second-reference", posh.second_reference, "refers to one that refers to a third"),
        row("too-large", posh.too_large, "has more than"),
        row("redirect-to-http", posh.to_http, "not https"),
        row("reference-to-http", posh.to_http_by_reference, "no https URL"),
        row("loop", posh.loop, "redirects lead back to"),
        row("many-redirects", posh.many_redirects, "too many redirects"),
        row("no-json", posh.no_json, "is not JSON as it should be"),
        row("server-error", posh.server_error, "was answered with status 503"),
        row("slow", posh.slow, "no complete answer within 5 s"),
        row("https-self-signed", posh.fingerprint, https, https="self"),
        row("https-stranger", posh.fingerprint, https, https="stranger"),
        row("https-expired", posh.fingerprint, https, https_days=(-10, -1)),
        row("https-wrong-name", posh.fingerprint, https, https_names=dns_id_of_another),
        row("private-address", posh.fingerprint, ruled_out, https_forbidden=True),
        row("redirect-to-private-address", posh.to_forbidden_address, ruled_out),
    ]


def _split() -> list[Row]:
    """One certificate for the server, another for the client."""
    self_signed = ProvenByServer("certificate is self-signed")
    own = (Tlsa(3, 1, 1),)
    return [
        Row("split-pkix", Proven(PKIX), self_signed, client="self", zone=INSECURE),
        Row("split-delegated", Proven(PKIX), self_signed, names=dns_id_of_host, client="self"),
        # a valid certificate is worth nothing where TLSA says that it is another
        Row(
            "split-dane",
            Proven(DANE),
            ProvenByServer("matches no TLSA record"),
            tlsa=own,
            issuer="self",
            client="trusted",
        ),
        Row(
            "split-posh",
            Proven(POSH),
            ProvenByServer("publishes by POSH"),
            web=posh.fingerprint,
            issuer="self",
            client="self",
            zone=INSECURE,
        ),
        Row(
            "split-server-unproven",
            Unproven("certificate is self-signed"),
            Proven(PKIX),
            issuer="self",
            client="trusted",
            zone=INSECURE,
        ),
        Row(
            "split-server-contradicted",
            Unproven("matches no TLSA record", dialback=False),
            Unproven("matches no TLSA record", dialback=False),
            client="trusted",
            tlsa=(Tlsa(3, 1, 1, "stranger"),),
        ),
    ]


def _other(kind: x509.ObjectIdentifier, tag: int, text: str) -> x509.OtherName:
    data = text.encode()
    return x509.OtherName(kind, bytes((tag, len(data))) + data)


def record(tlsa: Tlsa, certificates: Sequence[tuple[Named, x509.Certificate]]) -> str:
    """The data of a TLSA record."""
    data = association(dict(certificates)[tlsa.of], tlsa.selector, tlsa.matching)
    if tlsa.spoilt:
        data = data[:-2] + f"{int(data[-2:], 16) ^ 1:02x}"
    return f"{tlsa} {data}"
