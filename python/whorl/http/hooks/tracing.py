"""Signals about the steps of a request: 16 of them, as in ``aiohttp.tracing``.

A :class:`TraceConfig` has the signals, a session has trace configs, and every request has a :class:`Trace`
for each of them. Without one nothing here is called. In one with receivers for some signals, each other
signal costs a check of an empty list.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from ..auth.redaction import redacted_headers, url_repr
from .signals import Signal

if TYPE_CHECKING:
    from multidict import CIMultiDict
    from yarl import URL

    # The session and the response are the sender's objects: nothing here uses them.
    ClientSession = Any
    ClientResponse = Any

__all__ = [
    "Trace",
    "TraceConfig",
    "TraceConnectionCreateEndParams",
    "TraceConnectionCreateStartParams",
    "TraceConnectionQueuedEndParams",
    "TraceConnectionQueuedStartParams",
    "TraceConnectionReuseconnParams",
    "TraceDnsCacheHitParams",
    "TraceDnsCacheMissParams",
    "TraceDnsResolveHostEndParams",
    "TraceDnsResolveHostStartParams",
    "TraceRequestChunkSentParams",
    "TraceRequestEndParams",
    "TraceRequestExceptionParams",
    "TraceRequestHeadersSentParams",
    "TraceRequestRedirectParams",
    "TraceRequestStartParams",
    "TraceResponseChunkReceivedParams",
]

P = TypeVar("P")
# A receiver takes the session, the context of the request, and what happened.
TracingSignal = Signal[Any, Any, P]


# What receivers get as their third argument: values. Every program that imports the client waits until its
# dataclasses are made, which takes long for each, so there is one for each shape.


@dataclass(frozen=True, slots=True)
class _Params:
    """That something happened says all."""


@dataclass(frozen=True, slots=True)
class _HostParams:
    """What happened to the name of a host."""

    host: str


def _without_credentials(params: Any) -> str:
    """The representation of parameters that have a URL or header fields."""
    shown = {"url": url_repr, "headers": redacted_headers}
    fields = [f"{name}={shown.get(name, repr)(getattr(params, name))}" for name in params.__match_args__]
    return f"{type(params).__name__}({', '.join(fields)})"


@dataclass(frozen=True, slots=True, repr=False)
class _HeadParams:
    """What happened to a request, or its head."""

    method: str
    url: URL
    headers: CIMultiDict[str]

    __repr__ = _without_credentials


@dataclass(frozen=True, slots=True, repr=False)
class _ChunkParams:
    """What happened to a piece of a body."""

    method: str
    url: URL
    chunk: bytes

    __repr__ = _without_credentials


@dataclass(frozen=True, slots=True, repr=False)
class _ResponseParams(_HeadParams):
    """What happened to a request that has a response."""

    response: ClientResponse


class TraceRequestStartParams(_HeadParams):
    """A request begins; ``headers`` may still be changed."""

    __slots__ = ()


class TraceRequestHeadersSentParams(_HeadParams):
    """The head of a request was sent."""

    __slots__ = ()


class TraceRequestChunkSentParams(_ChunkParams):
    """A piece of a request's body was sent."""

    __slots__ = ()


class TraceRequestRedirectParams(_ResponseParams):
    """The response is a redirect that is about to be followed."""

    __slots__ = ()


class TraceRequestEndParams(_ResponseParams):
    """The head of the last response has come."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, repr=False)
class TraceRequestExceptionParams(_HeadParams):
    """The request ended with ``exception``."""

    exception: BaseException


class TraceResponseChunkReceivedParams(_ChunkParams):
    """A piece of a response's body was read."""

    __slots__ = ()


class TraceConnectionQueuedStartParams(_Params):
    """The request waits for one of the connections to become free."""

    __slots__ = ()


class TraceConnectionQueuedEndParams(_Params):
    """The request need not wait for a connection any longer."""

    __slots__ = ()


class TraceConnectionCreateStartParams(_Params):
    """A connection is going to be made."""

    __slots__ = ()


class TraceConnectionCreateEndParams(_Params):
    """A connection was made."""

    __slots__ = ()


class TraceConnectionReuseconnParams(_Params):
    """The request takes a connection from the pool."""

    __slots__ = ()


class TraceDnsResolveHostStartParams(_HostParams):
    """The name of a host is going to be resolved."""

    __slots__ = ()


class TraceDnsResolveHostEndParams(_HostParams):
    """The name of a host was resolved."""

    __slots__ = ()


class TraceDnsCacheHitParams(_HostParams):
    """The addresses of a host were in the cache."""

    __slots__ = ()


class TraceDnsCacheMissParams(_HostParams):
    """The addresses of a host were not in the cache."""

    __slots__ = ()


class _SignalOf(Generic[P]):
    """An attribute that is a signal with parameters of one type, and cannot be replaced."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.attribute = f"_{name}"

    @overload
    def __get__(self, config: None, owner: type) -> Self: ...
    @overload
    def __get__(self, config: TraceConfig, owner: type) -> TracingSignal[P]: ...
    def __get__(self, config: TraceConfig | None, owner: type) -> Self | TracingSignal[P]:
        if config is None:
            return self
        signal: TracingSignal[P] = getattr(config, self.attribute)
        return signal

    def __set__(self, config: TraceConfig, value: object) -> None:
        name = self.attribute.removeprefix("_")
        raise AttributeError(f"{name} is a list of receivers: use {name}.append({value!r})")


class TraceConfig:
    """The receivers of signals about a session's requests.

    Each signal is a list of coroutine functions; a receiver gets the session, the context of the request and
    the parameters of the event. The context is a new object for each request, made by
    ``trace_config_ctx_factory`` with the request's ``trace_request_ctx``: receivers keep their own data
    there.
    """

    on_request_start = _SignalOf[TraceRequestStartParams]()
    on_request_headers_sent = _SignalOf[TraceRequestHeadersSentParams]()
    on_request_chunk_sent = _SignalOf[TraceRequestChunkSentParams]()
    on_request_redirect = _SignalOf[TraceRequestRedirectParams]()
    on_request_end = _SignalOf[TraceRequestEndParams]()
    on_request_exception = _SignalOf[TraceRequestExceptionParams]()
    on_response_chunk_received = _SignalOf[TraceResponseChunkReceivedParams]()
    on_connection_queued_start = _SignalOf[TraceConnectionQueuedStartParams]()
    on_connection_queued_end = _SignalOf[TraceConnectionQueuedEndParams]()
    on_connection_create_start = _SignalOf[TraceConnectionCreateStartParams]()
    on_connection_create_end = _SignalOf[TraceConnectionCreateEndParams]()
    on_connection_reuseconn = _SignalOf[TraceConnectionReuseconnParams]()
    on_dns_resolvehost_start = _SignalOf[TraceDnsResolveHostStartParams]()
    on_dns_resolvehost_end = _SignalOf[TraceDnsResolveHostEndParams]()
    on_dns_cache_hit = _SignalOf[TraceDnsCacheHitParams]()
    on_dns_cache_miss = _SignalOf[TraceDnsCacheMissParams]()

    def __init__(self, trace_config_ctx_factory: Callable[..., Any] = SimpleNamespace) -> None:
        self._make_context = trace_config_ctx_factory
        for attribute in _SIGNALS:
            setattr(self, attribute, Signal(self))

    def trace_config_ctx(self, trace_request_ctx: Any = None) -> Any:
        """Returns the context of a new request."""
        return self._make_context(trace_request_ctx=trace_request_ctx)

    def freeze(self) -> None:
        """Makes the receivers of all signals final; the session does so."""
        for attribute in _SIGNALS:
            getattr(self, attribute).freeze()


# The names under which a config keeps its signals.
_SIGNALS = tuple(value.attribute for value in vars(TraceConfig).values() if isinstance(value, _SignalOf))


class Trace:
    """Sends the signals of one request with one trace config."""

    __slots__ = ("_config", "_context", "_session")

    def __init__(self, session: ClientSession, trace_config: TraceConfig, trace_config_ctx: Any) -> None:
        self._session = session
        self._config = trace_config
        self._context = trace_config_ctx

    @property
    def listens_to_chunks(self) -> bool:
        """Whether there is a receiver for the pieces of a request's body."""
        return bool(self._config.on_request_chunk_sent)

    async def _send(self, signal: TracingSignal[P], make_params: Callable[..., P], *values: object) -> None:
        # The parameters are made only if there is a receiver.
        if signal:
            await signal.send(self._session, self._context, make_params(*values))

    def send_request_start(self, method: str, url: URL, headers: CIMultiDict[str]) -> Awaitable[None]:
        """A request begins; ``headers`` may still be changed."""
        return self._send(self._config.on_request_start, TraceRequestStartParams, method, url, headers)

    def send_request_headers(self, method: str, url: URL, headers: CIMultiDict[str]) -> Awaitable[None]:
        """The head of a request was sent."""
        return self._send(
            self._config.on_request_headers_sent, TraceRequestHeadersSentParams, method, url, headers
        )

    def send_request_chunk_sent(self, method: str, url: URL, chunk: bytes) -> Awaitable[None]:
        """A piece of a request's body was sent."""
        return self._send(self._config.on_request_chunk_sent, TraceRequestChunkSentParams, method, url, chunk)

    def send_request_redirect(
        self, method: str, url: URL, headers: CIMultiDict[str], response: ClientResponse
    ) -> Awaitable[None]:
        """The response is a redirect that is about to be followed."""
        return self._send(
            self._config.on_request_redirect, TraceRequestRedirectParams, method, url, headers, response
        )

    def send_request_end(
        self, method: str, url: URL, headers: CIMultiDict[str], response: ClientResponse
    ) -> Awaitable[None]:
        """The head of the last response has come."""
        return self._send(self._config.on_request_end, TraceRequestEndParams, method, url, headers, response)

    def send_request_exception(
        self, method: str, url: URL, headers: CIMultiDict[str], exception: BaseException
    ) -> Awaitable[None]:
        """The request ended with ``exception``."""
        return self._send(
            self._config.on_request_exception, TraceRequestExceptionParams, method, url, headers, exception
        )

    def send_response_chunk_received(self, method: str, url: URL, chunk: bytes) -> Awaitable[None]:
        """A piece of a response's body was read."""
        return self._send(
            self._config.on_response_chunk_received, TraceResponseChunkReceivedParams, method, url, chunk
        )

    def send_connection_queued_start(self) -> Awaitable[None]:
        """The request waits for one of the connections to become free."""
        return self._send(self._config.on_connection_queued_start, TraceConnectionQueuedStartParams)

    def send_connection_queued_end(self) -> Awaitable[None]:
        """The request need not wait for a connection any longer."""
        return self._send(self._config.on_connection_queued_end, TraceConnectionQueuedEndParams)

    def send_connection_create_start(self) -> Awaitable[None]:
        """A connection is going to be made."""
        return self._send(self._config.on_connection_create_start, TraceConnectionCreateStartParams)

    def send_connection_create_end(self) -> Awaitable[None]:
        """A connection was made."""
        return self._send(self._config.on_connection_create_end, TraceConnectionCreateEndParams)

    def send_connection_reuseconn(self) -> Awaitable[None]:
        """The request takes a connection from the pool."""
        return self._send(self._config.on_connection_reuseconn, TraceConnectionReuseconnParams)

    def send_dns_resolvehost_start(self, host: str) -> Awaitable[None]:
        """The name of a host is going to be resolved."""
        return self._send(self._config.on_dns_resolvehost_start, TraceDnsResolveHostStartParams, host)

    def send_dns_resolvehost_end(self, host: str) -> Awaitable[None]:
        """The name of a host was resolved."""
        return self._send(self._config.on_dns_resolvehost_end, TraceDnsResolveHostEndParams, host)

    def send_dns_cache_hit(self, host: str) -> Awaitable[None]:
        """The addresses of a host were in the cache."""
        return self._send(self._config.on_dns_cache_hit, TraceDnsCacheHitParams, host)

    def send_dns_cache_miss(self, host: str) -> Awaitable[None]:
        """The addresses of a host were not in the cache."""
        return self._send(self._config.on_dns_cache_miss, TraceDnsCacheMissParams, host)
