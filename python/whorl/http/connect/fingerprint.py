"""Pinned certificates: the server is known by the digest of its certificate, not by its issuer."""

from __future__ import annotations

import asyncio
from typing import Any

from ..exceptions import ServerFingerprintMismatch

__all__ = ["Fingerprint"]

# The digests that a length can mean; of these, collisions can be made.
_INSECURE = {16: "MD5", 20: "SHA-1"}
# Of a SHA-256 digest, in bytes.
_SIZE = 32


class Fingerprint:
    """The SHA-256 digest of the certificate (in DER) that a server has to show: 32 bytes.

    Given as ``ssl=``, it replaces the check of the certificate's chain and host name. Raises
    :exc:`ValueError` for another length, and so for digests of MD5 and SHA-1.
    """

    __slots__ = ("_fingerprint",)

    def __init__(self, fingerprint: bytes) -> None:
        length = len(fingerprint)
        if length in _INSECURE:
            raise ValueError(
                "md5 and sha1 are insecure and not supported. Use sha256. "
                f"(The fingerprint has {length} bytes, as one of {_INSECURE[length]}.)"
            )
        if length != _SIZE:
            raise ValueError(
                f"fingerprint has invalid length {length}, not {_SIZE}: "
                "it is the SHA-256 digest of a certificate"
            )
        self._fingerprint = fingerprint

    @property
    def fingerprint(self) -> bytes:
        """The digest."""
        return self._fingerprint

    def check(self, transport: asyncio.Transport) -> None:
        """Raises :exc:`ServerFingerprintMismatch` if the transport's peer has shown another certificate.

        A connection without TLS has none, and passes.
        """
        if not transport.get_extra_info("sslcontext"):
            return
        # Not imported by a program that has no fingerprints.
        import hmac
        from hashlib import sha256

        certificate = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        got = sha256(certificate).digest()
        if not hmac.compare_digest(got, self._fingerprint):
            peer = transport.get_extra_info("peername")
            # The name of a Unix domain socket is its path.
            host, port = peer[:2] if isinstance(peer, (tuple, list)) else (str(peer), 0)
            raise ServerFingerprintMismatch(self._fingerprint, got, host, port)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fingerprint) and self._fingerprint == other._fingerprint

    def __hash__(self) -> int:
        return hash(self._fingerprint)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._fingerprint.hex()}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._fingerprint,)
