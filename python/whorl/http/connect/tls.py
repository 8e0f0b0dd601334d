"""The TLS settings of a request and a connector."""

from __future__ import annotations

import functools
import ssl
import warnings
from typing import Final
from weakref import WeakKeyDictionary

from .fingerprint import Fingerprint

__all__ = [
    "SSL_SCHEMES",
    "SSLSetting",
    "context_for",
    "fingerprint_of",
    "is_ssl_setting",
    "keep_tls_session",
    "merge_ssl_params",
    "resumable_session",
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


# The sessions of a context (RFC 8446, section 2.2), by what the server has proved in them; what the client
# has proved is its context's.
_Kept = tuple[ssl.SSLContext, tuple[object, ...]]
_sessions: Final[WeakKeyDictionary[ssl.SSLContext, dict[tuple[object, ...], ssl.SSLSession]]] = (
    WeakKeyDictionary()
)
# So many of each context; the one that was kept first is forgotten first.
_MOST_SESSIONS: Final = 256


def resumable_session(
    context: ssl.SSLContext, host: str, port: int, server_hostname: str
) -> tuple[ssl.SSLSession | None, _Kept]:
    """A session that a connection may resume, and what its own is kept for, by :func:`keep_tls_session`."""
    names = (host, port, server_hostname, context.verify_mode, context.check_hostname)
    known = _sessions.get(context)
    return None if known is None else known.get(names), (context, names)


def keep_tls_session(kept: _Kept, ssl_object: ssl.SSLObject) -> None:
    """Keep the session of a new connection, which has received something by now: its tickets too. It may be
    closed already."""
    session = ssl_object.session
    # Without either there is nothing to resume by.
    if session is None or not (session.has_ticket or session.id):
        return
    context, names = kept
    known = _sessions.setdefault(context, {})
    known.pop(names, None)
    known[names] = session
    if len(known) > _MOST_SESSIONS:
        del known[next(iter(known))]
