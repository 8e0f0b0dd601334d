"""The undocumented parts of asyncio that whorl uses, in one place.

:class:`whorl.EventLoop` stands on the running interpreter's own event loop and calls methods of it that
typeshed does not describe. They are declared here, for the type checker only: at run time
:data:`UnixEventLoop` is asyncio's own class, and the modules are asyncio's own. A new version of CPython is
checked against this list.
"""

from __future__ import annotations

import asyncio
from asyncio import base_events as _base_events
from asyncio import unix_events as _unix_events
from typing import TYPE_CHECKING, Any

__all__ = ["UnixEventLoop", "base_events", "unix_events"]

# Whole modules, not names out of them: a test or a tracer may replace an attribute, and whorl must see it.
#: ``BaseEventLoop`` (methods that :class:`asyncio.SelectorEventLoop` hides) and ``logger``.
base_events: Any = _base_events
#: ``_UnixSubprocessTransport``.
unix_events: Any = _unix_events

if TYPE_CHECKING:
    import socket

    class UnixEventLoop(asyncio.SelectorEventLoop):
        """:class:`asyncio.SelectorEventLoop` with those of its private parts that whorl uses."""

        _debug: bool
        _thread_id: int | None
        _selector: Any
        _internal_fds: int
        # Sockets; None, both of them, once the loop is closed.
        _ssock: Any
        _csock: Any
        _signal_handlers: dict[int, asyncio.Handle]
        _transports: Any
        _asyncgen_firstiter_hook: Any
        _asyncgen_finalizer_hook: Any

        def _check_closed(self) -> None: ...
        def _check_running(self) -> None: ...
        def _set_coroutine_origin_tracking(self, enabled: bool) -> None: ...
        def _make_self_pipe(self) -> None: ...
        def _process_self_data(self, data: bytes) -> None: ...
        async def _create_connection_transport(
            self, sock: socket.socket, protocol_factory: Any, *args: Any, **kwargs: Any
        ) -> Any: ...
        async def _ensure_resolved(self, address: Any, **kwargs: Any) -> Any: ...

else:
    UnixEventLoop = asyncio.SelectorEventLoop
