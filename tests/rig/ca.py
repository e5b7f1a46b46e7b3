"""The private certificate authority. Its certificates carry serverAuth alone, as those of the
public authorities do now."""

import datetime
import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Certificate:
    """Chain and private key, PEM files."""

    cert: Path
    key: Path


def key_digest(certificate: Path) -> str:
    """SHA-256 of its public key, as a TLSA record with selector 1 has it."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    encoding = serialization.Encoding.DER
    der = key.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


class Authority:
    """Issues certificates into a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("fedgate rig authority")
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip
        self._certificate = (
            self._builder(self._name, self._name, self._key, self._now - DAY, self._now + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.root = directory / "ca.crt"
        self.root.write_bytes(_pem(self._certificate))

    def issue(self, label: str, *domains: str, expired: bool = False) -> Certificate:
        """A certificate for `domains`, valid now or a day too old."""
        until = self._now - DAY if expired else self._now + 20 * DAY
        return self._leaf(label, domains, self._now - 10 * DAY, until, self_signed=False)

    def self_signed(self, label: str, *domains: str) -> Certificate:
        """A certificate that nobody vouches for."""
        return self._leaf(label, domains, self._now - DAY, self._now + 20 * DAY, self_signed=True)

    def _leaf(
        self,
        label: str,
        domains: tuple[str, ...],
        begin: datetime.datetime,
        end: datetime.datetime,
        self_signed: bool,
    ) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(domains[0])
        issuer, issuer_key = (subject, key) if self_signed else (self._name, self._key)
        names = x509.SubjectAlternativeName([x509.DNSName(domain) for domain in domains])
        certificate = (
            self._builder(subject, issuer, key, begin, end)
            .add_extension(names, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(issuer_key, hashes.SHA256())
        )
        made = Certificate(self._directory / f"{label}.crt", self._directory / f"{label}.key")
        made.cert.write_bytes(_pem(certificate))
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
        key: ec.EllipticCurvePrivateKey,
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


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> bytes:
    return bytes(certificate.public_bytes(serialization.Encoding.PEM))
