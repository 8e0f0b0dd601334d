"""Which steps of a session's calls are a program's own, and the options that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from whorl import _core

from ..arguments import check_loop
from ..client_request import ClientRequest, automatic_headers, parsed_version
from ..connect.connector import BaseConnector
from ..context import _RequestContextManager
from ..cookies.jar import CookieJar, DummyCookieJar
from ..response import ClientResponse

if TYPE_CHECKING:
    from ..session import ClientSession
    from ..typedefs import StrOrURL


_OVERRIDE_POINTS: Final[dict[type, dict[str, object]]] = {}


def _note_override_points(owner: type, *names: str) -> None:
    """Note methods of ``owner`` that a call does not call while they are as they are here.

    Tools replace them, in the class or in one derived from it, to see requests or to change them.
    """
    _OVERRIDE_POINTS[owner] = {name: getattr(owner, name) for name in names}


_note_override_points(
    ClientResponse, "__init__", "start", "raise_for_status", "ok", "__aenter__", "__aexit__", "release"
)


def _is_replaced(cls: object, *names: str) -> bool:
    if not isinstance(cls, type):
        # A function that makes instances.
        return True
    originals = next((_OVERRIDE_POINTS[base] for base in cls.__mro__ if base in _OVERRIDE_POINTS), None)
    return originals is None or any(getattr(cls, name) is not originals[name] for name in names)


def note_session_class(cls: type) -> None:
    """Note the override points of a session."""
    _note_override_points(cls, "_build_url", "_prepare_headers", "_request")


_note_override_points(BaseConnector, "connect")


_note_override_points(CookieJar, "filter_cookies")


_note_override_points(DummyCookieJar, "filter_cookies")


_note_override_points(
    ClientRequest,
    "__init__",
    "is_ssl",
    "send",
    "update_auth",
    "update_cookies",
    "update_headers",
    "write_bytes",
)


def _overrides(session: ClientSession) -> frozenset[str]:
    """Which steps of the session's calls are a program's own: see ``Overrides`` in the native half."""
    connector, jar = session._connector, session._cookie_jar
    of_classes = _overrides_of(_classes(session), session._request_class)
    of_objects = set()
    if "connect" in vars(connector):
        of_objects.add("connect")
    if type(jar) not in _JARS or "filter_cookies" in vars(jar):
        of_objects.add("cookies")
    if not vars(session).keys().isdisjoint(("_build_url", "_prepare_headers")):
        of_objects.add("headers")
    return of_classes | of_objects if of_objects else of_classes


_JARS: Final = frozenset({CookieJar, DummyCookieJar})


# By the classes and their versions, which change with the classes.
_known_overrides: Final[dict[tuple[object, ...], frozenset[str]]] = {}


_MOST_KNOWN: Final = 256


def _classes(session: ClientSession) -> tuple[type, type, object, type]:
    """The classes whose methods the session's calls may call: of a jar that is not ours all are."""
    jar_class = type(session._cookie_jar)
    return (
        type(session),
        type(session._connector),
        session._response_class,
        jar_class if jar_class in _JARS else CookieJar,
    )


def _watched(classes: tuple[object, ...]) -> list[type]:
    """The classes whose changes may change what is overridden."""
    return [cls for cls in (*classes, ClientRequest) if isinstance(cls, type)]


def _overrides_of(classes: tuple[type, type, object, type], request_class: object) -> frozenset[str]:
    session_class, connector_class, response_class, jar_class = classes
    versions = _core.class_versions(_watched(classes))
    key = (*classes, request_class, versions)
    if versions is not None and (known := _known_overrides.get(key)) is not None:
        return known
    replaced = {
        "request": request_class is not ClientRequest
        or _is_replaced(ClientRequest, *_OVERRIDE_POINTS[ClientRequest]),
        "connect": not issubclass(connector_class, BaseConnector) or _is_replaced(connector_class, "connect"),
        "response": _is_replaced(response_class, "__init__", "start"),
        "enter": _is_replaced(response_class, "__aenter__"),
        "release": _is_replaced(response_class, "__aexit__", "release"),
        "status": _is_replaced(response_class, "raise_for_status", "ok"),
        "headers": _is_replaced(session_class, "_build_url", "_prepare_headers"),
        "call": _is_replaced(session_class, "_request"),
        "cookies": _is_replaced(jar_class, "filter_cookies"),
    }
    found = frozenset(name for name, is_replaced in replaced.items() if is_replaced)
    if versions is not None:
        if len(_known_overrides) >= _MOST_KNOWN:
            _known_overrides.clear()
        _known_overrides[key] = found
    return found


# The signals of a Trace, in the order of ``Signal`` in the native half.
_SIGNALS: Final = (
    ("request_start",),
    ("request_headers_sent",),
    ("request_chunk_sent",),
    ("request_redirect",),
    ("request_end",),
    ("request_exception",),
    ("response_chunk_received",),
    (
        "connection_queued_start",
        "connection_queued_end",
        "connection_create_start",
        "connection_create_end",
        "connection_reuseconn",
        "dns_resolvehost_start",
        "dns_resolvehost_end",
        "dns_cache_hit",
        "dns_cache_miss",
    ),
)


def _signals(configs: Sequence[object]) -> int:
    """A bit for each group of signals that has a receiver."""
    if not configs:
        return 0
    return sum(
        1 << bit
        for bit, names in enumerate(_SIGNALS)
        if any(getattr(config, f"on_{name}", True) for config in configs for name in names)
    )


def configure(session: ClientSession) -> None:
    """Have the native half read the session's options, which it finds in the session's attributes by their
    names, and give it what is made of them.

    :raises RuntimeError: if the session is closed
    """
    connector, jar = session._connector, session._cookie_jar
    if connector is None:
        raise RuntimeError("Session is closed")
    is_ours = isinstance(connector, BaseConnector)
    session._configure(
        pool=connector._pool if is_ours else None,
        force_close=is_ours and connector.force_close,
        overrides=_overrides(session),
        version=parsed_version(session._version),
        automatic=automatic_headers(ClientRequest),
        cookies=jar._records if type(jar) is CookieJar else {},
        signals=_signals(session._trace_configs),
        debug=session._loop.get_debug(),
        classes=_watched(_classes(session)),
    )


def is_request_replaced(session: ClientSession) -> bool:
    """Whether a tool responds to requests itself, by a ``_request()`` of its own."""
    return "_request" in vars(session) or _is_replaced(type(session), "_request")


def replaced_request(
    session: ClientSession, method: str, url: StrOrURL, allow_redirects: bool | None, options: dict[str, Any]
) -> _RequestContextManager:
    """A request to which a tool responds itself."""
    if allow_redirects is not None:
        options = {"allow_redirects": allow_redirects, **options}
    return _RequestContextManager(session._request(method, url, **options))


def check_session(session: ClientSession) -> None:
    """Check that a session is used on the loop that runs.

    :raises RuntimeError: if it is not its own
    """
    check_loop(session._loop)
