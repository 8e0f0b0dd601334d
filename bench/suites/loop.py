"""The event loop, against other event loops: rows, targets and peers."""

from __future__ import annotations

from dataclasses import replace

from bench.peers import Peer
from bench.suite import Limit, Median, Method, Ratio, Row, Suite, Unit, size_name

#: For callbacks, where the loop is all the cost; the kernel is most of what an echo costs.
_THREE_TIMES = (Ratio("asyncio", 3.0),)
#: A server in Rust alone: within 5 %.
_AS_TOKIO = Median("tokio", 0.95, rounds=15)
_IMPORT_LIMIT = Limit(30_000.0, "under 30 ms")

_KIB = 1024


def _callbacks() -> list[Row]:
    return [
        Row(
            "call-soon-chain",
            "call_soon, each callback scheduling the next",
            "call_soon_chain",
            targets=_THREE_TIMES,
        ),
        Row("call-soon-batch", "call_soon, 1,000 callbacks a turn", "call_soon_batch", targets=_THREE_TIMES),
        Row("call-later-cancel", "call_later and cancel", "call_later_cancel", targets=_THREE_TIMES),
        Row("sleep-0", "await asyncio.sleep(0)", "sleep_zero", targets=_THREE_TIMES),
        Row("gather-50k", "gather of 50,000 coroutines, per coroutine", "gather_many", targets=_THREE_TIMES),
        Row("future-wake-up", "a task woken by a future", "future_wake_up", targets=_THREE_TIMES),
        Row(
            "call-soon-readable",
            "call_soon chain with a readable fd",
            "call_soon_readable",
            targets=_THREE_TIMES,
        ),
        Row(
            "call-threadsafe-other",
            "call_soon_threadsafe from another thread",
            "threadsafe_other",
            targets=_THREE_TIMES,
        ),
        Row(
            "call-threadsafe-own",
            "call_soon_threadsafe from the loop's thread",
            "threadsafe_own",
            targets=_THREE_TIMES,
        ),
    ]


def _tcp_echo() -> list[Row]:
    flavours = {
        "protocol": "protocol",
        "buffered": "buffered protocol",
        "streams": "streams",
        "sock": "sock_recv and sock_sendall",
    }
    return [
        Row(
            f"tcp-echo-{flavour}-{size_name(size)}",
            f"TCP echo, {title}, {size_name(size)}",
            f"echo_{flavour}",
            Method.LOADED,
            load="tcp",
            size=size,
            targets=(_AS_TOKIO,) if flavour == "protocol" else (),
            references=("tokio",) if flavour == "protocol" else (),
        )
        for flavour, title in flavours.items()
        for size in (1 * _KIB, 10 * _KIB, 100 * _KIB)
    ]


def _tls() -> list[Row]:
    echo = [
        Row(
            f"tls-echo-{size_name(size)}",
            f"TLS echo, protocol, {size_name(size)}",
            "echo_tls",
            Method.LOADED,
            load="tls",
            size=size,
            targets=() if size > 10 * _KIB else (Ratio("uvloop", 1.5),),
            tls=True,
        )
        for size in (256, 10 * _KIB, 100 * _KIB)
    ]
    handshakes = Row(
        "tls-handshake",
        "TLS handshake, one message, close",
        "reply_and_close_tls",
        Method.LOADED,
        load="handshake",
        size=16,
        tls=True,
    )
    return [*echo, handshakes]


def _aged(rows: list[Row]) -> list[Row]:
    """The same rows in a process whose heap has been used: what a larger program sees.

    Their targets are those of the plain rows, without the factor over one peer.
    """
    return [
        replace(
            row,
            name=f"aged-{row.name}",
            title=f"{row.title}, aged heap",
            targets=tuple(target for target in row.targets if target == _AS_TOKIO),
            aged_heap=True,
        )
        for row in rows
    ]


def _other_transports() -> list[Row]:
    loaded = Method.LOADED
    return [
        Row(
            "accept-close",
            "connection accepted, one message, closed",
            "reply_and_close",
            loaded,
            load="churn",
            size=64,
        ),
        Row("udp-echo", "UDP echo, 1KiB", "echo_udp", loaded, load="udp", size=_KIB),
        Row(
            "unix-echo",
            "Unix socket echo, 1KiB",
            "echo_unix",
            loaded,
            load="unix",
            size=_KIB,
        ),
        Row("pipe-echo", "pipe echo, 1KiB", "echo_fifo", loaded, load="fifo", size=_KIB),
    ]


def _programs() -> list[Row]:
    return [
        Row("spawn-true", "spawn and await true, child included", "spawn_true"),
        Row(
            "memory-idle",
            "memory of an idle TCP connection at 10,000",
            "idle_connections",
            Method.HELD,
            load="hold",
            connections=10_000,
            unit=Unit.BYTES,
        ),
        Row(
            "aiohttp-server",
            "aiohttp server, JSON, 32 keep-alive",
            "aiohttp_server",
            Method.LOADED,
            load="http",
            connections=32,
        ),
        Row(
            "uvicorn",
            "uvicorn with httptools, JSON, 32 keep-alive",
            "uvicorn_server",
            Method.LOADED,
            load="http",
            connections=32,
        ),
        Row(
            "aiohttp-client",
            "aiohttp client, GET of 1KiB, 32 at once",
            "aiohttp_client",
            Method.AGAINST_SERVER,
            path=f"/bytes/{_KIB}",
            size=_KIB,
            connections=32,
        ),
        Row("import", "import, beyond asyncio's", "", Method.IMPORT, targets=(_IMPORT_LIMIT,)),
    ]


_TCP, _TLS = _tcp_echo(), _tls()
_AGED = _aged([row for row in [*_TCP, *_TLS] if row.workload in ("echo_protocol", "echo_tls")])

_NO_TRANSPORTS = "replaces transports; its loop is uvloop's"

_PEERS = (
    Peer("whorl", ("whorl",)),
    Peer("asyncio", (), cannot=(("import", "it is what the import is measured beyond"),)),
    Peer("uvloop", ("uvloop",)),
    Peer(
        "rloop",
        ("rloop",),
        cannot=(
            ("*tls-*", "no TLS"),
            ("unix-*", "no Unix sockets"),
            # 0.5.0 takes the descriptor off its poller, and closes it when the transport is collected.
            ("accept-close", "close() leaves the socket open while the transport is referred to"),
        ),
    ),
    Peer("zuvloop", ("zuvloop",)),
    Peer(
        "aiofastnet",
        ("aiofastnet", "uvloop"),
        cannot=tuple(
            (pattern, _NO_TRANSPORTS)
            for pattern in ("call-*", "sleep-*", "gather-*", "future-*", "spawn-*", "import")
        ),
    ),
    Peer("tokio", (), crate="tokio"),
)

LOOP = Suite(
    "loop",
    "the event loop, against other event loops",
    (*_callbacks(), *_TCP, *_TLS, *_AGED, *_other_transports(), *_programs()),
    {peer.name: peer for peer in _PEERS},
)
