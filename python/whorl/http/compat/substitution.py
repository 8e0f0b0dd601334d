"""The names of aiohttp that :mod:`whorl.http` substitutes: the one table, and its application.

aiohttp's modules serve both sides. Its server (``aiohttp.web``) was written against its own classes, so
nothing may change in the names it has bound; names that a program or a library binds from now on are whorl's.
Four rules:

- **The package** ``aiohttp`` runs no code of its own, so names are rebound in it: modules that imported it
  earlier see the new ones too.
- **The modules of the client side** (:data:`CLIENT_SIDE`) are replaced, in the package and in
  :data:`sys.modules`, by copies in which the names are rebound. The functions of the original modules
  continue with the originals: a session of aiohttp's own that was made before still works.
- **Exceptions and constants** (:data:`SHARED`) stay aiohttp's, as its server raises and compares them. The
  exceptions of whorl.http are also caught as aiohttp's of the same name, wherever that was bound.
- **Classes of which both sides make instances** (:data:`EITHER`) are rebound to a class derived from whorl's
  for which instances of both are instances. **Abstract classes** (:data:`ABSTRACT`) stay aiohttp's, and
  whorl's are registered with them.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from types import ModuleType
from typing import Any

from whorl import http

from .. import streams
from ..body import payload
from ..exception_type import ExceptionType
from ..websocket import messages as websocket_messages

__all__ = ["ABSTRACT", "CLIENT_SIDE", "EITHER", "SHARED", "counterparts", "exceptions", "substitute"]

#: Modules of aiohttp in which names of whorl.http take the place of the original ones.
CLIENT_SIDE = (
    "_cookie_helpers",
    "client",
    "client_middleware_digest_auth",
    "client_middlewares",
    "client_proto",
    "client_reqrep",
    "client_ws",
    "connector",
    "cookiejar",
    "formdata",
    "helpers",
    "multipart",
    "payload",
    "resolver",
    "streams",
    "tracing",
)

#: Names that stay aiohttp's because its server compares with ``is`` or ``isinstance()``. The messages
#: of WebSockets are made of them on whorl's side too.
SHARED = frozenset(
    {
        "ChainMapProxy",
        "EMPTY_PAYLOAD",
        "ETag",
        "HttpVersion",
        "HttpVersion10",
        "HttpVersion11",
        "WSCloseCode",
        "WS_CLOSED_MESSAGE",
        "WS_CLOSING_MESSAGE",
        "WSMessage",
        "WSMessageTextBytes",
        "WSMsgType",
        "WebSocketError",
        "set_zlib_backend",
        "streamer",
    }
)

#: Classes of which aiohttp's server makes instances as whorl's client does.
EITHER = frozenset({"BodyPartReader", "MultipartReader", "StreamReader"})

#: Abstract classes, by the module of aiohttp that has them. whorl.http checks no type where it takes these.
ABSTRACT = {
    "AbstractCookieJar": "abc",
    "AbstractResolver": "abc",
    "AbstractStreamWriter": "abc",
    "Payload": "payload",
}

#: Names that no ``__all__`` of whorl.http lists, and that ``aiohttp.test_utils`` is written with.
_UNLISTED = (
    "_BaseRequestContextManager",
    "_RequestContextManager",
    "_RequestOptions",
    "_SessionRequestContextManager",
    "_WSRequestContextManager",
)

#: Modules that are not part of the client's interface.
_NOT_COUNTED = ("whorl.http.compat", "whorl.http.exception_type")


def _family() -> list[ModuleType]:
    """Return whorl.http and all of its modules."""
    # Not aiohttp's names of them.
    found = pkgutil.walk_packages(http.__path__[:1], f"{http.__name__}.")
    names = [info.name for info in found if not info.name.startswith(_NOT_COUNTED)]
    return [http, *map(importlib.import_module, names)]


def counterparts() -> dict[str, Any]:
    """Return everything of whorl.http that has a public name, by that name."""
    found: dict[str, Any] = {}
    for module in _family():
        for name in (*getattr(module, "__all__", ()), *_UNLISTED):
            if hasattr(module, name):
                found.setdefault(name, getattr(module, name))
    return found


def exceptions(ours: dict[str, Any], modules: list[ModuleType]) -> dict[str, tuple[ExceptionType, type]]:
    """Return the exception classes that ``modules`` have in common with ``ours``: whorl's and aiohttp's."""
    pairs: dict[str, tuple[ExceptionType, type]] = {}
    for name, mine in ours.items():
        theirs = next((vars(module)[name] for module in modules if name in vars(module)), None)
        if isinstance(mine, ExceptionType) and isinstance(theirs, type):
            pairs[name] = mine, theirs
    return pairs


def substitute(aiohttp: ModuleType) -> None:
    """Put the table in force for ``aiohttp``, the package as it was imported. Not undone.

    Imports ``aiohttp.web`` first, so that the server is bound to aiohttp's own classes.
    """
    importlib.import_module("aiohttp.web")
    originals = {name: importlib.import_module(f"aiohttp.{name}") for name in CLIENT_SIDE}
    with_exceptions = [aiohttp, *originals.values(), importlib.import_module("aiohttp.http_exceptions")]
    ours = counterparts()
    for name, (mine, theirs) in exceptions(ours, with_exceptions).items():
        mine.also_caught_as(theirs)
        del ours[name]
    websocket_messages.adopt(importlib.import_module("aiohttp.http_websocket"))
    for name in SHARED & ours.keys():
        del ours[name]
    for name in EITHER & ours.keys():
        ours[name] = _either(ours[name], getattr(aiohttp, name))
    for name in ABSTRACT.keys() & ours.keys():
        module = importlib.import_module(f"aiohttp.{ABSTRACT[name]}")
        getattr(module, name).register(ours.pop(name))
    _share_registrations()

    _rebind(aiohttp, ours)
    for name, original in originals.items():
        copy = ModuleType(original.__name__, original.__doc__)
        vars(copy).update(vars(original))
        _rebind(copy, ours)
        sys.modules[original.__name__] = copy
        setattr(aiohttp, name, copy)
    # Imported from now on it finds the right names by itself.
    if test_utils := sys.modules.get("aiohttp.test_utils"):
        _rebind(test_utils, ours)


def _rebind(module: ModuleType, ours: dict[str, Any]) -> None:
    """Rebind the names of ``ours`` that ``module`` has."""
    vars(module).update({name: value for name, value in ours.items() if name in vars(module)})


def _either(mine: type, theirs: type) -> type:
    """Return a class derived from ``mine`` of which the instances of ``theirs`` are instances too."""

    def instance_check(cls: type, instance: object) -> bool:
        if cls is either:
            return isinstance(instance, mine | theirs)
        return bool(original_type.__instancecheck__(cls, instance))

    def subclass_check(cls: type, subclass: type) -> bool:
        if cls is either:
            return issubclass(subclass, mine | theirs)
        return bool(original_type.__subclasscheck__(cls, subclass))

    original_type: Any = type(mine)
    checks = {"__instancecheck__": instance_check, "__subclasscheck__": subclass_check}
    namespace = {
        "__module__": mine.__module__,
        "__qualname__": mine.__qualname__,
        "__doc__": mine.__doc__,
        "__slots__": (),
    }
    either: type = type(original_type.__name__, (original_type,), checks)(mine.__name__, (mine,), namespace)
    return either


def _share_registrations() -> None:
    """Have payloads that a program registers made for both sides.

    The names that it registers by (``aiohttp.payload_type``, ``aiohttp.PAYLOAD_REGISTRY``) are whorl's from
    now on; aiohttp's earlier registrations serve the types that whorl's does not know.
    """
    module = importlib.import_module("aiohttp.payload")
    theirs, ours, registry = module.PAYLOAD_REGISTRY, payload.PAYLOAD_REGISTRY, payload.PayloadRegistry

    def register(self: Any, factory: Any, type: Any, *, order: Any = payload.Order.normal) -> None:  # noqa: A002
        registry.register(self, factory, type, order=order)
        theirs.register(factory, type, order=module.Order[order.name])

    def from_theirs(value: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return theirs.get(value, *args, **kwargs)
        except module.LookupError as error:
            raise payload.LookupError(*error.args) from None

    registry.register(ours, from_theirs, object, order=payload.Order.try_last)
    ours.__class__ = type(registry.__name__, (registry,), {"__slots__": (), "register": register})
    theirs.register(module.StreamReaderPayload, streams.StreamReader)
