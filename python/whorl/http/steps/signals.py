"""Signals to the receivers of a call, and its end."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from yarl import URL

from ..auth.redaction import redacted_url
from ..hooks.tracing import Trace

if TYPE_CHECKING:
    from ..body import payload as payloads
    from ..body.upload import UploadTracker
    from ..session import ClientSession


def make_traces(session: ClientSession, context: object) -> list[Trace]:
    """A Trace for each of the session's trace configs."""
    return [
        Trace(session, config, config.trace_config_ctx(trace_request_ctx=context))
        for config in session._trace_configs
    ]


async def start_traces(traces: list[Trace], args: tuple[Any, ...]) -> None:
    """Send the first signal by each Trace; one that is not reached has no part in the call, and is taken
    out."""
    waiting, traces[:] = traces.copy(), ()
    for trace in waiting:
        await trace.send_request_start(*args)
        traces.append(trace)


async def send_signal(traces: list[Trace], name: str, args: tuple[Any, ...]) -> None:
    """Send a signal by the method ``name`` of each Trace."""
    for trace in traces:
        await getattr(trace, name)(*args)


async def clean_up(
    body: payloads.Payload | None, signal: Awaitable[None] | None, tracker: UploadTracker | None
) -> None:
    """The end of a call that has failed."""
    try:
        if body is not None:
            await body.close()
        if signal is not None:
            await signal
    finally:
        if tracker is not None:
            tracker._finish()


def warn_unclosed(loop: asyncio.AbstractEventLoop, method: str, url: URL) -> None:
    """In debug mode: a response that was not released."""
    text = f"Unclosed response <ClientResponse({redacted_url(url)})> to {method}"
    warnings.warn(text, ResourceWarning, stacklevel=2)
    loop.call_exception_handler({"message": text})
