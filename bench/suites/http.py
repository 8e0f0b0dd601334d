"""The HTTP client, against other HTTP clients: rows, targets and peers."""

from __future__ import annotations

from typing import Any

from bench.peers import Peer
from bench.suite import Limit, Method, Ratio, Row, Suite, Target, Unit

_KIB = 1024
_MIB = 1024 * _KIB
_HYPER = ("hyper",)
#: What the rows of small bodies are compared with first: aiohttp on the loop it is fastest on.
_AIOHTTP = "aiohttp-uvloop"
#: A client in Rust alone: within 15 %.
_AGAINST_HYPER = Ratio("hyper", 1 / 1.15)
#: Four times ClientSession's read_bufsize of 256 KiB: buffers may overshoot by a read, allocators keep some.
_STREAMING_LIMIT = Limit(1.0 * _MIB, "under 1 MiB")


def _against_server(
    name: str, title: str, workload: str, *, path: str = "/bytes/{size}", size: int = _KIB, **options: Any
) -> Row:
    """A row of a client; the page of the native server may be called after the size of its body."""
    return Row(
        name,
        title,
        workload,
        Method.AGAINST_SERVER,
        path=path.format(size=size),
        size=size,
        references=_HYPER,
        **options,
    )


def _requests(name: str, title: str, workload: str = "get", **options: Any) -> Row:
    """A row of requests in a window."""
    # An aged heap is what a program of some size has, and a kindness to loops that read into fresh buffers.
    return _against_server(name, title, workload, throughput=True, aged_heap=True, **options)


def _gets() -> list[Row]:
    targets: dict[int, tuple[Target, ...]] = {
        32: (Ratio(_AIOHTTP, 10.0), Ratio("pyreqwest", 3.0), _AGAINST_HYPER)
    }
    streamed: dict[str, Any] = {"size": 10 * _MIB, "connections": 1}
    return [
        *(
            _requests(
                f"get-1KiB-{connections}",
                f"GET 1 KiB, {connections} at once",
                connections=connections,
                targets=targets.get(connections, ()),
            )
            for connections in (1, 32, 256)
        ),
        _requests("get-100KiB", "GET 100 KiB, 8 at once", size=100 * _KIB),
        _requests(
            "get-10MiB",
            "GET 10 MiB, streamed by 64 KiB",
            "stream",
            **streamed,
        ),
        _against_server(
            "get-10MiB-memory",
            "GET 10 MiB, streamed: peak of resident memory over what it was before",
            "peak_memory",
            unit=Unit.BYTES,
            targets=(_STREAMING_LIMIT,),
            **streamed,
        ),
    ]


def _bodies() -> list[Row]:
    five_times = (Ratio(_AIOHTTP, 5.0),)
    return [
        _requests(
            "post-json",
            "POST JSON, JSON answer, 32 at once",
            "post_json",
            path="/json",
            connections=32,
            targets=five_times,
        ),
        _requests(
            "get-gzip",
            "GET 100 KiB of JSON text, gzip, 8 at once",
            path="/gzip/{size}",
            size=100 * _KIB,
            targets=five_times,
        ),
    ]


def _connections() -> list[Row]:
    closed = "/close/{size}"
    return [
        _requests("connections", "connection opened, GET, closed", path=closed),
        _requests(
            "tls-get",
            "TLS GET 1 KiB, keep-alive, 32 at once",
            connections=32,
            targets=(Ratio(_AIOHTTP, 4.0),),
            tls=True,
        ),
        _requests("tls-handshake", "TLS handshake, GET, closed", path=closed, tls=True),
    ]


def _programs() -> list[Row]:
    return [
        Row("import", "import, beyond asyncio's", "", Method.IMPORT, references=_HYPER),
        Row(
            "start-up",
            "from the interpreter's start to the first answer",
            "first_response",
            Method.START_UP,
            path=f"/bytes/{_KIB}",
            size=_KIB,
            connections=1,
            references=_HYPER,
        ),
        _against_server(
            "memory-in-flight",
            "memory of a request in flight, at 10,000",
            "memory_in_flight",
            path="/hold/{size}",
            connections=10_000,
            unit=Unit.BYTES,
            targets=(Ratio("aiohttp", 2.0), Ratio(_AIOHTTP, 2.0)),
        ),
        _against_server(
            "collections",
            "garbage collections in 1,000 GETs of 1 KiB, 32 at once",
            "collections",
            connections=32,
            unit=Unit.COUNT,
        ),
    ]


_SAME_IMPORT = (("import", "the import is aiohttp's"),)

_PEERS = (
    Peer("whorl", ("whorl.http",), client="whorl"),
    Peer("aiohttp", ("aiohttp",), loop="asyncio", client="aiohttp"),
    Peer("aiohttp-uvloop", ("aiohttp", "uvloop"), loop="uvloop", client="aiohttp", cannot=_SAME_IMPORT),
    Peer(
        "aiohttp-aiofastnet",
        ("aiohttp", "aiofastnet", "uvloop"),
        loop="aiofastnet",
        client="aiohttp",
        cannot=_SAME_IMPORT,
    ),
    # On the loop that serves them best.
    Peer(
        "httpx",
        ("httpx", "uvloop"),
        loop="uvloop",
        client="httpx",
        cannot=(("memory-in-flight", "its pool looks through all requests for each: minutes for 10,000"),),
    ),
    Peer("pyreqwest", ("pyreqwest", "uvloop"), loop="uvloop", client="pyreqwest"),
    Peer("wreq", ("wreq", "uvloop"), loop="uvloop", client="wreq"),
    Peer("pyqwest", ("pyqwest", "uvloop"), loop="uvloop", client="pyqwest"),
    Peer(
        "hyper",
        (),
        crate="hyper",
        cannot=(("import", "a Rust program imports nothing"), ("collections", "Rust has no collector")),
    ),
)

HTTP = Suite(
    "http",
    "the HTTP client, against other HTTP clients",
    (*_gets(), *_bodies(), *_connections(), *_programs()),
    {peer.name: peer for peer in _PEERS},
)
