"""The HTTP client, against other HTTP clients: rows, targets and peers."""

from __future__ import annotations

from typing import Any

from bench.peers import Peer
from bench.suite import AnyOf, Limit, Margin, Method, Ratio, Row, Suite, Target, Unit

_KIB = 1024
_MIB = 1024 * _KIB
#: The references of a row: under TLS the same over OpenSSL as well, which is what the Python clients use.
_HYPER = ("hyper",)
_HYPER_TLS = ("hyper", "hyper-openssl")
#: What the rows of small bodies are compared with first: aiohttp on the loop it is fastest on.
_AIOHTTP = "aiohttp-uvloop"
#: aiohttp, on each loop.
_AIOHTTPS = ("aiohttp", _AIOHTTP, "aiohttp-aiofastnet")
#: The clients of HTTP.
_CLIENTS = (*_AIOHTTPS, "httpx", "pyreqwest", "wreq", "pyqwest")
#: A client in Rust alone: within 15 %.
_AGAINST_HYPER = Ratio("hyper", 1 / 1.15)
#: A resumed session, against OpenSSL's full handshake: half of the 1.3 times that a full one has taken whorl.
_RESUMED = 2 / 1.3
_THREE_TIMES = Ratio(_AIOHTTP, 3.0)
#: Four times ClientSession's read_bufsize of 256 KiB: buffers may overshoot by a read, allocators keep some.
_STREAMING_LIMIT = Limit(1.0 * _MIB, "under 1 MiB")
#: Microseconds that importing may take, and that the first answer may come after a peer's.
_IMPORT = 15_000.0
_IMPORT_TEXT = "15 ms"


def _against_server(
    name: str, title: str, workload: str, *, path: str = "/bytes/{size}", size: int = _KIB, **options: Any
) -> Row:
    """A row of a client; the page of the native server may be called after the size of its body."""
    given: dict[str, Any] = {"references": _HYPER, "peers": _CLIENTS} | options
    return Row(name, title, workload, Method.AGAINST_SERVER, path=path.format(size=size), size=size, **given)


def _requests(name: str, title: str, workload: str = "get", **options: Any) -> Row:
    """A row of requests in a window."""
    # An aged heap is what a program of some size has, and a kindness to loops that read into fresh buffers.
    return _against_server(name, title, workload, throughput=True, aged_heap=True, **options)


def _gets() -> list[Row]:
    targets: dict[int, tuple[Target, ...]] = {
        32: (Ratio("pyreqwest", 2.5), Ratio("hyper", 1.0)),
        256: (Ratio("hyper", 1 / 1.1),),
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
            targets=(_AGAINST_HYPER,),
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
        _requests(
            "get-redirect",
            "GET, 302 followed to 1 KiB, 32 at once",
            "get_redirected",
            path="/redirect/{size}",
            connections=32,
            targets=(_THREE_TIMES,),
        ),
    ]


def _bodies() -> list[Row]:
    return [
        _requests(
            "post-json",
            "POST JSON, JSON answer, 32 at once",
            "post_json",
            path="/json",
            connections=32,
            targets=(Ratio(_AIOHTTP, 5.0),),
        ),
        _requests(
            "post-without-json",
            "POST JSON, JSON answer, by a `json` that does nothing, 32 at once",
            "post_without_json",
            path="/json",
            plain="post_bytes",
            connections=32,
            targets=(Limit(10.0, "10 µs"),),
            peers=_AIOHTTPS,
        ),
        _requests(
            "post-bytes",
            "POST of the same JSON as bytes, the answer read as bytes, 32 at once",
            "post_bytes",
            path="/json",
            connections=32,
        ),
        _requests(
            "post-form",
            "POST of a form of four fields, 32 at once",
            "post_form",
            path="/sink",
            connections=32,
            targets=(_THREE_TIMES,),
        ),
        _requests(
            "post-multipart",
            "POST of a form with a file of 10 MiB",
            "post_multipart",
            path="/sink",
            size=10 * _MIB,
            connections=1,
        ),
        _requests(
            "get-gzip",
            "GET 100 KiB of JSON text, gzip, 8 at once",
            path="/gzip/{size}",
            size=100 * _KIB,
            targets=(_AGAINST_HYPER,),
        ),
        _requests(
            "get-gzip-10MiB",
            "GET 10 MiB of JSON text, gzip, streamed by 64 KiB",
            "stream",
            path="/gzip/{size}",
            size=10 * _MIB,
            connections=1,
            targets=(_AGAINST_HYPER,),
        ),
    ]


def _connections() -> list[Row]:
    closed = "/close/{size}"
    return [
        _requests(
            "connections",
            "connection opened, GET, closed",
            path=closed,
            targets=(Ratio("hyper", 1 / 1.5),),
        ),
        _requests(
            "tls-get",
            "TLS GET 1 KiB, keep-alive, 32 at once",
            connections=32,
            targets=(Ratio(_AIOHTTP, 4.0), Ratio("hyper-openssl", 1 / 1.1)),
            references=_HYPER_TLS,
            tls=True,
        ),
        _requests(
            "tls-handshake",
            "TLS handshake, GET, closed",
            path=closed,
            targets=(Ratio("openssl", 1 / 1.3),),
            references=(*_HYPER_TLS, "openssl"),
            tls=True,
        ),
        _requests(
            "tls-resumed",
            "TLS handshake by a session ticket where the client keeps it, GET, closed",
            path=closed,
            targets=(Ratio("openssl-full", _RESUMED),),
            references=(*_HYPER_TLS, "openssl", "openssl-full"),
            tls=True,
            tickets=True,
        ),
    ]


def _sessions() -> list[Row]:
    """The programs that most people write: a session for each page."""
    text: dict[str, Any] = {"path": "/text/{size}", "connections": 100}
    return [
        _requests(
            "pages",
            "a session for each page: GET 1 KiB as text, 100 at once",
            "pages",
            targets=(AnyOf((_THREE_TIMES, Ratio("hyper", 1 / 1.5))),),
            **text,
        ),
        _requests(
            "tls-pages",
            "a session for each page, TLS: GET 1 KiB as text, 100 at once",
            "pages",
            targets=(AnyOf((_THREE_TIMES, Ratio("hyper-openssl", 1 / 1.5))),),
            references=_HYPER_TLS,
            tls=True,
            **text,
        ),
    ]


def _options() -> list[Row]:
    """What a session may do for each request, against a request that needs none of it."""

    def row(name: str, title: str, workload: str, most: float | None, peers: tuple[str, ...]) -> Row:
        return _requests(
            f"get-{name}",
            f"GET 1 KiB with {title}, 32 at once",
            workload,
            plain="get",
            connections=32,
            targets=() if most is None else (Ratio("whorl-plain", 1 / most),),
            references=("whorl-plain", *_HYPER),
            peers=peers,
        )

    return [
        row(
            "middleware",
            "a middleware that does nothing",
            "get_with_middleware",
            1.5,
            (*_AIOHTTPS, "pyreqwest"),
        ),
        row("trace", "a TraceConfig whose functions do nothing", "get_traced", 2.0, _AIOHTTPS),
        row("trust-env", "trust_env and no proxy set", "get_trusting_env", 1.1, _AIOHTTPS),
        row("skip-auto-headers", "skip_auto_headers", "get_skipping_fields", None, _AIOHTTPS),
    ]


def _websockets() -> list[Row]:
    return [
        _requests(
            f"websocket-{text}",
            f"WebSocket, echo of {title}, 8 at once",
            "echo",
            path="/echo",
            size=size,
            references=("tungstenite",),
            peers=(*_AIOHTTPS, "websockets", "picows", "picows-websockets"),
        )
        for text, title, size in (("64B", "64 B", 64), ("64KiB", "64 KiB", 64 * _KIB))
    ]


def _programs() -> list[Row]:
    return [
        Row(
            "import",
            "import, beyond asyncio's",
            "",
            Method.IMPORT,
            targets=(Limit(_IMPORT, _IMPORT_TEXT),),
            references=_HYPER,
            peers=_CLIENTS,
        ),
        Row(
            "start-up",
            "from the interpreter's start to the first answer",
            "first_response",
            Method.START_UP,
            path=f"/bytes/{_KIB}",
            size=_KIB,
            connections=1,
            targets=(Margin("pyreqwest", _IMPORT, _IMPORT_TEXT),),
            references=_HYPER,
            peers=_CLIENTS,
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
    Peer(
        "pyqwest",
        ("pyqwest", "uvloop"),
        loop="uvloop",
        client="pyqwest",
        cannot=(("post-form", "it encodes no forms"), ("post-multipart", "its forms take no files")),
    ),
    Peer("websockets", ("websockets", "uvloop"), loop="uvloop", client="websockets"),
    Peer("picows", ("picows", "uvloop"), loop="uvloop", client="picows"),
    # Its module with the API of websockets: tasks that await, as in the other clients.
    Peer("picows-websockets", ("picows", "uvloop"), loop="uvloop", client="picows.websockets"),
    # The plain request, in the rows that add something to it.
    Peer("whorl-plain", ("whorl.http",), loop="whorl", client="whorl", reference=True),
    Peer(
        "hyper",
        (),
        crate="hyper",
        cannot=(("import", "a Rust program imports nothing"), ("collections", "Rust has no collector")),
    ),
    Peer("hyper-openssl", (), crate="hyper-openssl", arguments=("--stack", "hyper-openssl")),
    Peer("openssl", (), crate="openssl", arguments=("--stack", "openssl")),
    Peer("openssl-full", (), crate="openssl", arguments=("--stack", "openssl", "--full-handshakes")),
    Peer("tungstenite", (), crate="tokio-tungstenite"),
)

HTTP = Suite(
    "http",
    "the HTTP client, against other HTTP clients",
    (
        *_gets(),
        *_bodies(),
        *_connections(),
        *_sessions(),
        *_options(),
        *_websockets(),
        *_programs(),
    ),
    {peer.name: peer for peer in _PEERS},
)
