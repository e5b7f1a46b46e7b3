"""What domains publish over HTTPS about their certificates, right and wrong (RFC 7711)."""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from .web import Answer

PATH = "/.well-known/posh/xmpp-server.json"
ELSEWHERE = "/elsewhere.json"
OLDER_PATH = "/.well-known/posh._xmpp-server._tcp.json"
DAY = 24 * 60 * 60
TOO_LARGE = 70 * 1024


@dataclass(frozen=True)
class Subject:
    """Whom a document is about."""

    domain: str
    leaf: x509.Certificate
    another: x509.Certificate

    @property
    def web(self) -> str:
        """A second name on the HTTPS server."""
        return f"web.{self.domain}"

    @property
    def forbidden(self) -> str:
        """A name at an address of it that fedgate must not connect to."""
        return f"forbidden.{self.domain}"


Published = Callable[[Subject], tuple[Answer, ...]]


def digest(certificate: x509.Certificate, name: str = "sha-256") -> str:
    der = certificate.public_bytes(Encoding.DER)
    return base64.b64encode(hashlib.new(name.replace("-", ""), der).digest()).decode()


def document(*descriptors: dict[str, str], expires: Any = DAY, **more: Any) -> str:
    """A fingerprints document."""
    return json.dumps({"fingerprints": list(descriptors), "expires": expires, **more})


def reference(url: str, expires: int = DAY) -> str:
    return json.dumps({"url": url, "expires": expires})


def _at(path: str, body: str) -> Answer:
    return Answer(path, body)


def _moved(path: str, url: str, status: int = 302) -> Answer:
    return Answer(path, directive=f"return {status} {url};")


def fingerprint(who: Subject) -> tuple[Answer, ...]:
    return (_at(PATH, document({"sha-256": digest(who.leaf)})),)


def two_hashes(who: Subject) -> tuple[Answer, ...]:
    both = {name: digest(who.leaf, name) for name in ("sha-256", "sha-512")}
    return (_at(PATH, document(both)),)


def roll_over(who: Subject) -> tuple[Answer, ...]:
    listed = ({"sha-256": digest(who.another)}, {"sha-256": digest(who.leaf)})
    return (_at(PATH, document(*listed)),)


def referred(who: Subject) -> tuple[Answer, ...]:
    to = f"https://{who.web}{ELSEWHERE}"
    there = document({"sha-256": digest(who.leaf)})
    return (_at(PATH, reference(to)), _at(ELSEWHERE, there))


def redirected(who: Subject) -> tuple[Answer, ...]:
    there = document({"sha-256": digest(who.leaf)})
    return (_moved(PATH, f"https://{who.web}{ELSEWHERE}", 307), _at(ELSEWHERE, there))


def older_json(who: Subject) -> tuple[Answer, ...]:
    return (_at(OLDER_PATH, document({"sha-256": digest(who.leaf)})),)


def older_certificate(who: Subject) -> tuple[Answer, ...]:
    """The form of draft-miller-xmpp-dna-00, with its redirect to the same path elsewhere."""
    here = f"/.well-known/tls/_xmpp-server._tcp.{who.domain}.cer"
    there = f"/.well-known/tls/_xmpp-server._tcp.{who.web}.cer"
    pem = who.leaf.public_bytes(Encoding.PEM).decode()
    return (_moved(here, f"https://{who.web}{there}"), _at(there, pem))


def no_document(who: Subject) -> tuple[Answer, ...]:
    return ()


def of_another(who: Subject) -> tuple[Answer, ...]:
    return (_at(PATH, document({"sha-256": digest(who.another)})),)


def weaker_hash_only(who: Subject) -> tuple[Answer, ...]:
    both = {"sha-256": digest(who.leaf), "sha-512": digest(who.another, "sha-512")}
    return (_at(PATH, document(both)),)


def broken_hash_only(who: Subject) -> tuple[Answer, ...]:
    return (_at(PATH, document({"sha-1": digest(who.leaf, "sha-1")})),)


def expires_now(who: Subject) -> tuple[Answer, ...]:
    return (_at(PATH, document({"sha-256": digest(who.leaf)}, expires=0)),)


def expires_in_words(who: Subject) -> tuple[Answer, ...]:
    return (_at(PATH, document({"sha-256": digest(who.leaf)}, expires="never")),)


def reference_expires_now(who: Subject) -> tuple[Answer, ...]:
    there = document({"sha-256": digest(who.leaf)})
    to = f"https://{who.web}{ELSEWHERE}"
    return (_at(PATH, reference(to, expires=0)), _at(ELSEWHERE, there))


def both_kinds(who: Subject) -> tuple[Answer, ...]:
    url = f"https://{who.web}{ELSEWHERE}"
    return (_at(PATH, document({"sha-256": digest(who.leaf)}, url=url)),)


def second_reference(who: Subject) -> tuple[Answer, ...]:
    there = document({"sha-256": digest(who.leaf)})
    return (
        _at(PATH, reference(f"https://{who.web}{ELSEWHERE}")),
        _at(ELSEWHERE, reference(f"https://{who.web}/third.json")),
        _at("/third.json", there),
    )


def too_large(who: Subject) -> tuple[Answer, ...]:
    body = document({"sha-256": digest(who.leaf)}, padding=" " * TOO_LARGE)
    return (_at(PATH, body),)


def to_http(who: Subject) -> tuple[Answer, ...]:
    return (_moved(PATH, f"http://{who.web}{ELSEWHERE}"),)


def to_http_by_reference(who: Subject) -> tuple[Answer, ...]:
    return (_at(PATH, reference(f"http://{who.web}{ELSEWHERE}")),)


def loop(who: Subject) -> tuple[Answer, ...]:
    return (
        _moved(PATH, f"https://{who.web}{ELSEWHERE}"),
        _moved(ELSEWHERE, f"https://{who.domain}{PATH}"),
    )


def many_redirects(who: Subject) -> tuple[Answer, ...]:
    steps = [f"/step-{number}.json" for number in range(8)]
    ways = zip([PATH, *steps[:-1]], steps, strict=True)
    there = document({"sha-256": digest(who.leaf)})
    moved = [_moved(here, f"https://{who.web}{step}") for here, step in ways]
    return (*moved, _at(steps[-1], there))


def to_forbidden_address(who: Subject) -> tuple[Answer, ...]:
    there = document({"sha-256": digest(who.leaf)})
    return (_moved(PATH, f"https://{who.forbidden}{ELSEWHERE}"), _at(ELSEWHERE, there))


def no_json(who: Subject) -> tuple[Answer, ...]:
    return (_at(PATH, "<html>no such thing</html>"),)


def server_error(who: Subject) -> tuple[Answer, ...]:
    return (Answer(PATH, directive="return 503;"),)


def slow(who: Subject) -> tuple[Answer, ...]:
    return (Answer(PATH, directive="echo_sleep 20; echo late;"),)
