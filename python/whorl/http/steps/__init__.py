"""The steps of a call that are Python.

A call is native (``crates/python/src/http/client``). It calls these functions, by name, where a step needs a
class of this package, or code of the program's: what is not there costs nothing. A function that returns an
awaitable is a step that is awaited. The modules are imported when one of their steps is first taken.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from whorl import _core

from ..exceptions import ClientOSError

_MODULES: Final[dict[str, tuple[str, ...]]] = {
    "..arguments": (
        "check_list",
        "check_names",
        "check_sizes",
        "deprecated",
        "header_fields",
        "params_error",
    ),
    "..connect.native": ("connect_failed", "connection_timeout", "connector_error", "dial_plan"),
    "..connect.tunnel": ("begin_tunnel", "check_tunnel"),
    "..options": ("unknown_option",),
    "..urls": ("host_field",),
    ".bodies": ("begin_upload", "bytes_payload", "payload"),
    ".call_options": (
        "check_auth",
        "check_proxy",
        "headers_for_proxy",
        "proxy_url",
        "timeout",
        "tls_setting",
    ),
    ".connecting": ("acquire", "connect", "connection", "proxy_request"),
    ".from_environment": ("environment",),
    ".making": (
        "construct",
        "cookie_field",
        "cookies_for",
        "target",
        "through_middlewares",
    ),
    ".overrides": (
        "check_session",
        "configure",
        "is_request_replaced",
        "replaced_request",
    ),
    ".responding": (
        "answer_of",
        "close_before_retry",
        "failure",
        "note_origin",
        "redirect_target",
        "release",
        "response_error",
        "start",
        "too_many_redirects",
    ),
    ".signals": ("clean_up", "make_traces", "send_signal", "start_traces", "warn_unclosed"),
}
_MODULE_OF: Final = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_MODULE_OF)

# A step of each module that every request needs, or the error for its connection.
_NEEDED: Final = ("target", "dial_plan", "failure", "redirect_target")


def prepare() -> None:
    """Import what every request needs, for a session that is made: a request may come when no descriptor is
    left to read a module with."""
    for name in _NEEDED:
        if name not in globals():
            getattr(sys.modules[__name__], name)


# Hidden from type checkers, for which it would make any name one of the package's.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        try:
            module = _MODULE_OF[name]
        except KeyError:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
        try:
            imported = import_module(module, __name__)
        except OSError as error:
            # As where no descriptor is left.
            raise ClientOSError(error.errno, error.strerror) from error
        value = globals()[name] = getattr(imported, name)
        return value


_core.give_steps(sys.modules[__name__])
