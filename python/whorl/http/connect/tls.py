"""The TLS settings of a request and a connector."""

from __future__ import annotations

import _ssl
import functools
import ssl
import threading
import warnings
from typing import Final

from .fingerprint import Fingerprint

__all__ = [
    "SSL_SCHEMES",
    "Resumption",
    "SSLSetting",
    "context_for",
    "fingerprint_of",
    "is_ssl_setting",
    "merge_ssl_params",
    "resumption",
]

SSL_SCHEMES = frozenset({"https", "wss"})

SSLSetting = ssl.SSLContext | bool | Fingerprint
"""What ``ssl=`` takes."""


def merge_ssl_params(
    setting: SSLSetting | None,
    verify_ssl: bool | None,
    ssl_context: ssl.SSLContext | None,
    fingerprint: bytes | None,
    stacklevel: int = 4,
) -> SSLSetting:
    """The one setting that ``ssl=`` and its three deprecated forms come to.

    :raises ValueError: if more than one of them is given
    :raises TypeError: for a setting of another type
    """
    chosen: SSLSetting = True if setting is None else setting
    if verify_ssl is False:
        chosen = _replace(chosen, False, "verify_ssl is deprecated, use ssl=False instead", stacklevel)
    if ssl_context is not None:
        text = "ssl_context is deprecated, use ssl=context instead"
        chosen = _replace(chosen, ssl_context, text, stacklevel)
    if fingerprint is not None:
        text = "fingerprint is deprecated, use ssl=Fingerprint(fingerprint) instead"
        chosen = _replace(chosen, Fingerprint(fingerprint), text, stacklevel)
    if not is_ssl_setting(chosen):
        raise TypeError(f"ssl should be SSLContext, bool, Fingerprint or None, got {chosen!r} instead.")
    return chosen


def is_ssl_setting(setting: object) -> bool:
    """Whether ``ssl=`` takes it."""
    return isinstance(setting, ssl.SSLContext | bool) or _is_fingerprint(setting)


def _is_fingerprint(setting: object) -> bool:
    """Whether it is a :class:`Fingerprint`, or another library's class of that name, which checks a transport
    alike."""
    return isinstance(setting, Fingerprint) or (
        type(setting).__name__ == "Fingerprint" and callable(getattr(setting, "check", None))
    )


def _replace(chosen: SSLSetting, new: SSLSetting, deprecation: str, stacklevel: int) -> SSLSetting:
    warnings.warn(deprecation, DeprecationWarning, stacklevel=stacklevel)
    if chosen is not True:
        raise ValueError("verify_ssl, ssl_context, fingerprint and ssl parameters are mutually exclusive")
    return new


# They show no certificate.
_made_here: Final[list[ssl.SSLContext]] = []


@functools.cache
def _default_context(verified: bool) -> ssl.SSLContext:
    """The context for ``ssl=True`` or ``ssl=False``; made once, on first use, as reading the authorities
    takes long."""
    if verified:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.options |= ssl.OP_NO_COMPRESSION
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_default_verify_paths()
    context.set_alpn_protocols(("http/1.1",))
    _made_here.append(context)
    return context


def context_for(request: SSLSetting, connector: SSLSetting) -> ssl.SSLContext:
    """The context of a connection: by the request's setting, or else the connector's."""
    for setting in (request, connector):
        if isinstance(setting, ssl.SSLContext):
            return setting
        if setting is not True:
            # Not verified at all, or by its fingerprint.
            return _default_context(False)
    return _default_context(True)


def fingerprint_of(request: SSLSetting, connector: SSLSetting) -> Fingerprint | None:
    """The fingerprint that the connection is checked for, if any."""
    for setting in (request, connector):
        if not isinstance(setting, bool | ssl.SSLContext):
            return setting
    return None


# What a context demands of a server, as integers: the properties of ssl.SSLContext make enums of them.
_DEMANDS: Final = {
    name: vars(_ssl._SSLContext)[name].__get__
    for name in (
        "verify_mode",
        "verify_flags",
        "check_hostname",
        "_host_flags",
        "options",
        "minimum_version",
        "maximum_version",
    )
}
_CHECKS_REVOCATION: Final = ssl.VERIFY_CRL_CHECK_LEAF | ssl.VERIFY_CRL_CHECK_CHAIN

# Where a context has its sessions: a session refers to its context, and so only the collector frees the two.
_ATTRIBUTE: Final = "_whorl_tls_sessions"
# So many of each context; the one that was kept first is forgotten first.
_MOST_SESSIONS: Final = 256
_lock: Final = threading.Lock()


class Resumption:
    """Resumes the session of an earlier connection (RFC 8446, section 2.2), and keeps that of the new one.

    A session stands for what both sides have proved in it. So it is resumed for the same host, port and name,
    with the same context as long as its demands are the same, and if the same certificate is shown to the
    server. Where the certificate cannot be known, no session is kept but of contexts that are made here: they
    have none.
    """

    __slots__ = ("_certificate", "_context", "_names")

    def __init__(self, context: ssl.SSLContext, host: str, port: int, server_hostname: str) -> None:
        self._context = context
        self._names = (host, port, server_hostname, *_demands(context))
        self._certificate: bytes | None = None

    def begin(self, ssl_object: ssl.SSLObject, certificate: bytes | None) -> None:
        """Resume a session with a new object.

        :param certificate: the digest of the certificate that it shows, empty if none, None if not known
        """
        if certificate is None and self._context in _made_here:
            certificate = b""
        self._certificate = certificate
        known = getattr(self._context, _ATTRIBUTE, {}).get(self._names)
        if known is not None and known[0] == certificate:
            ssl_object.session = known[1]

    def keep(self, ssl_object: ssl.SSLObject) -> None:
        """Keep the session of the connection, which has received something by now: its tickets too. It may be
        closed already."""
        session = ssl_object.session
        # Without either there is nothing to resume by.
        if self._certificate is None or session is None or not (session.has_ticket or session.id):
            return
        with _lock:
            known = vars(self._context).setdefault(_ATTRIBUTE, {})
            known.pop(self._names, None)
            known[self._names] = self._certificate, session
            if len(known) > _MOST_SESSIONS:
                del known[next(iter(known))]


def resumption(context: ssl.SSLContext, host: str, port: int, server_hostname: str) -> Resumption | None:
    """What resumes and keeps sessions of connections with ``context``; None for a context of another kind."""
    if not isinstance(context, ssl.SSLContext):
        return None
    return Resumption(context, host, port, server_hostname)


def _demands(context: ssl.SSLContext) -> tuple[object, ...]:
    demands: dict[str, int] = {name: demand(context) for name, demand in _DEMANDS.items()}
    if demands["verify_flags"] & _CHECKS_REVOCATION:
        # Lists of revoked certificates may come later.
        demands |= context.cert_store_stats()
    return tuple(demands.values())
