"""Private certificate authorities. Their certificates carry serverAuth alone, as those of the
public authorities do now."""

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Flaw = Literal["sha-1", "small"]  # signed with SHA-1; an RSA key of 1024 bits

DAY = datetime.timedelta(days=1)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
DIGESTS = {1: hashlib.sha256, 2: hashlib.sha512}  # by matching type (RFC 6698 §2.1.3)


@dataclass(frozen=True)
class Certificate:
    """Chain and private key, PEM files."""

    cert: Path
    key: Path

    @property
    def leaf(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.cert.read_bytes())


def association(certificate: x509.Certificate, selector: int, matching: int) -> str:
    """What a TLSA record with this selector and matching type says of a certificate."""
    der = serialization.Encoding.DER
    if selector == 0:
        data = certificate.public_bytes(der)
    else:
        info = serialization.PublicFormat.SubjectPublicKeyInfo
        data = certificate.public_key().public_bytes(der, info)
    return DIGESTS[matching](data).hexdigest() if matching else data.hex()


def key_digest(certificate: Path) -> str:
    """SHA-256 of its public key, as a TLSA record with selector 1 has it."""
    return association(x509.load_pem_x509_certificate(certificate.read_bytes()), 1, 1)


class Authority:
    """Issues certificates into a directory."""

    def __init__(
        self,
        directory: Path,
        name: str = "fedgate rig authority",
        above: "Authority | None" = None,
    ) -> None:
        self._directory = directory
        self._now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        # what has to be sent with a certificate of this authority
        self._below_root: list[x509.Certificate] = []
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip
        issuer, issuer_key = (above._name, above._key) if above else (self._name, self._key)
        begin, end = self._now - DAY, self._now + 30 * DAY
        self.certificate = (
            self._builder(self._name, issuer, self._key, begin, end)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(issuer_key, hashes.SHA256())
        )
        if above:
            self._below_root = [self.certificate, *above._below_root]
        self.root = directory / f"{name.replace(' ', '-')}.crt"
        self.root.write_bytes(_pem(self.certificate))

    def age(self) -> float:
        """Seconds since it was made, from when the days of its certificates count."""
        now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        return (now - self._now).total_seconds()

    def issue(self, label: str, *domains: str, expired: bool = False) -> Certificate:
        """A certificate for `domains`, valid now or a day too old."""
        days = (-10, -1) if expired else (-10, 20)
        return self.mint(label, _dns_names(domains), days=days)

    def self_signed(self, label: str, *domains: str) -> Certificate:
        """A certificate that nobody vouches for."""
        return self.mint(label, _dns_names(domains), self_signed=True)

    def mint(
        self,
        label: str,
        names: Sequence[x509.GeneralName],
        common: str | None = None,
        days: tuple[float, float] = (-10, 20),
        self_signed: bool = False,
        with_root: bool = False,
        flaw: Flaw | None = None,
    ) -> Certificate:
        """A certificate for `names`, valid between two days counted from now. Its file has the
        authorities between it and the root, and the root too if asked for."""
        key: Key = ec.generate_private_key(ec.SECP256R1())
        if flaw == "small":
            key = rsa.generate_private_key(65537, 1024)
        subject = _name(common or label[:64])
        issuer, issuer_key = (subject, key) if self_signed else (self._name, self._key)
        begin, end = (self._now + number * DAY for number in days)
        builder = (
            self._builder(subject, issuer, key, begin, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        digest = hashes.SHA1() if flaw == "sha-1" else hashes.SHA256()
        chain = [builder.sign(issuer_key, digest)]
        if not self_signed:
            chain += self._below_root
            if with_root and not self._below_root:
                chain.append(self.certificate)
        made = Certificate(self._directory / f"{label}.crt", self._directory / f"{label}.key")
        made.cert.write_bytes(b"".join(_pem(certificate) for certificate in chain))
        made.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return made

    def _builder(
        self,
        subject: x509.Name,
        issuer: x509.Name,
        key: Key,
        begin: datetime.datetime,
        end: datetime.datetime,
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
        )


def _dns_names(domains: Sequence[str]) -> list[x509.GeneralName]:
    return [x509.DNSName(domain) for domain in domains]


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> bytes:
    return bytes(certificate.public_bytes(serialization.Encoding.PEM))
