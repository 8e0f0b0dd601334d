"""Certificates for the TLS tests, made on the spot: an authority, a server, an expired server and a
client."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

KEY_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip

DAY = datetime.timedelta(days=1)


class Certificates:
    """Files with certificates and keys in one directory, and contexts made from them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority_key = ec.generate_private_key(ec.SECP256R1())
        self._authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority for tests")])
        #: Path of the authority's certificate.
        self.authority = self._make_authority()
        #: Paths of certificates with their keys.
        self.server_pem = self._make("localhost")
        self.expired_pem = self._make("localhost", ends_in_days=-1)
        self.client_pem = self._make("a client")

    def server(self) -> ssl.SSLContext:
        """A server's context, good for ``localhost`` and 127.0.0.1."""
        return self._serving(self.server_pem)

    def expired(self) -> ssl.SSLContext:
        """A server's context whose certificate ran out yesterday."""
        return self._serving(self.expired_pem)

    def client(self) -> ssl.SSLContext:
        """A client's context that trusts the authority and no other."""
        return ssl.create_default_context(cafile=self.authority)

    @staticmethod
    def _serving(pem: str) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pem)
        return context

    def _make_authority(self) -> str:
        key = self._authority_key
        now = datetime.datetime.now(datetime.UTC)
        usage = {name: name in {"key_cert_sign", "crl_sign"} for name in KEY_USAGES}
        certificate = (
            x509.CertificateBuilder()
            .subject_name(self._authority_name)
            .issuer_name(self._authority_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 30 * DAY)
            .not_valid_after(now + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        path = self._directory / "authority.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return str(path)

    def _make(self, name: str, ends_in_days: int = 30) -> str:
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        usage = {usage: usage == "digital_signature" for usage in KEY_USAGES}
        authority = self._authority_key.public_key()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._authority_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 29 * DAY)
            .not_valid_after(now + ends_in_days * DAY)
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
                ),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), critical=False)
            .sign(self._authority_key, hashes.SHA256())
        )
        path = self._directory / f"{name.replace(' ', '-')}{ends_in_days}.pem"
        path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return str(path)
