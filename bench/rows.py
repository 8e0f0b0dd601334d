"""The rows of the table: what each measures, and under which load."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from fnmatch import fnmatchcase


class Kind(Enum):
    """What a row is about; the targets are set by kind."""

    CALLBACK = "callback"
    TIMER = "timer"
    ECHO = "echo"
    TLS_ECHO = "tls echo"
    CONNECTIONS = "connections"
    PROCESS = "process"
    MEMORY = "memory"
    HTTP_SERVER = "http server"
    HTTP_CLIENT = "http client"
    IMPORT = "import"


class Method(Enum):
    """Who drives the measured process, and who reads its clock."""

    #: The measured process runs batches of work and reads its own CPU clock.
    ITSELF = "itself"
    #: A native client drives a server in the measured process, and reads that process's CPU clock.
    LOADED = "loaded"
    #: The measured process is a client of a native server, and reads its own CPU clock.
    AGAINST_SERVER = "against a server"
    #: A native client opens connections and holds them; the measured process reads its own memory.
    HELD = "held"
    #: A fresh interpreter imports the peer and reads its own CPU clock.
    IMPORT = "import"


class Unit(Enum):
    """What a sample's value counts; less is better in all of them."""

    CPU_US = "us"
    BYTES = "B"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    `workload` names a function in bench.workloads, `load` a kind of whorl-bench-load; `size` is in bytes.
    """

    name: str
    title: str
    kind: Kind
    workload: str
    method: Method = Method.ITSELF
    load: str = ""
    size: int = 0
    connections: int = 8
    unit: Unit = Unit.CPU_US
    #: Native references that this row also has.
    references: tuple[str, ...] = field(default=())
    #: In a process whose allocator has seen a large block freed; see bench.worker.age_heap.
    aged_heap: bool = False


_KIB = 1024


def _size_name(size: int) -> str:
    return f"{size // _KIB}KiB" if size >= _KIB else f"{size}B"


def _callbacks() -> list[Row]:
    callback = Kind.CALLBACK
    return [
        Row("call-soon-chain", "call_soon, each callback scheduling the next", callback, "call_soon_chain"),
        Row("call-soon-batch", "call_soon, 1,000 callbacks a turn", callback, "call_soon_batch"),
        Row("call-later-cancel", "call_later and cancel", Kind.TIMER, "call_later_cancel"),
        Row("sleep-0", "await asyncio.sleep(0)", callback, "sleep_zero"),
        Row("gather-50k", "gather of 50,000 coroutines, per coroutine", callback, "gather_many"),
        Row("future-wake-up", "a task woken by a future", callback, "future_wake_up"),
        Row("call-soon-readable", "call_soon chain beside a readable fd", callback, "call_soon_readable"),
        Row(
            "call-threadsafe-other", "call_soon_threadsafe from another thread", callback, "threadsafe_other"
        ),
        Row("call-threadsafe-own", "call_soon_threadsafe from the loop's thread", callback, "threadsafe_own"),
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
            f"tcp-echo-{flavour}-{_size_name(size)}",
            f"TCP echo, {title}, {_size_name(size)}",
            Kind.ECHO,
            f"echo_{flavour}",
            Method.LOADED,
            load="tcp",
            size=size,
            references=("tokio",) if flavour == "protocol" else (),
        )
        for flavour, title in flavours.items()
        for size in (1 * _KIB, 10 * _KIB, 100 * _KIB)
    ]


def _tls() -> list[Row]:
    echo = [
        Row(
            f"tls-echo-{_size_name(size)}",
            f"TLS echo, protocol, {_size_name(size)}",
            Kind.TLS_ECHO,
            "echo_tls",
            Method.LOADED,
            load="tls",
            size=size,
        )
        for size in (256, 10 * _KIB, 100 * _KIB)
    ]
    handshakes = Row(
        "tls-handshake",
        "TLS handshake, one message, close",
        Kind.CONNECTIONS,
        "reply_and_close_tls",
        Method.LOADED,
        load="handshake",
        size=16,
    )
    return [*echo, handshakes]


def _aged(rows: list[Row]) -> list[Row]:
    """The same rows in a process whose heap has been used: what a larger program sees."""
    return [
        replace(row, name=f"aged-{row.name}", title=f"{row.title}, aged heap", aged_heap=True) for row in rows
    ]


def _other_transports() -> list[Row]:
    loaded = Method.LOADED
    return [
        Row(
            "accept-close",
            "connection accepted, one message, closed",
            Kind.CONNECTIONS,
            "reply_and_close",
            loaded,
            load="churn",
            size=64,
        ),
        Row("udp-echo", "UDP echo, 1KiB", Kind.ECHO, "echo_udp", loaded, load="udp", size=_KIB),
        Row("unix-echo", "Unix socket echo, 1KiB", Kind.ECHO, "echo_unix", loaded, load="unix", size=_KIB),
        Row("pipe-echo", "pipe echo, 1KiB", Kind.ECHO, "echo_fifo", loaded, load="fifo", size=_KIB),
    ]


def _programs() -> list[Row]:
    return [
        Row("spawn-true", "spawn and await true, child included", Kind.PROCESS, "spawn_true"),
        Row(
            "memory-idle",
            "memory of an idle TCP connection at 10,000",
            Kind.MEMORY,
            "idle_connections",
            Method.HELD,
            load="hold",
            connections=10_000,
            unit=Unit.BYTES,
        ),
        Row(
            "aiohttp-server",
            "aiohttp server, JSON, 32 keep-alive",
            Kind.HTTP_SERVER,
            "aiohttp_server",
            Method.LOADED,
            load="http",
            connections=32,
        ),
        Row(
            "uvicorn",
            "uvicorn with httptools, JSON, 32 keep-alive",
            Kind.HTTP_SERVER,
            "uvicorn_server",
            Method.LOADED,
            load="http",
            connections=32,
        ),
        Row(
            "aiohttp-client",
            "aiohttp client, GET of 1KiB, 32 at once",
            Kind.HTTP_CLIENT,
            "aiohttp_client",
            Method.AGAINST_SERVER,
            size=_KIB,
            connections=32,
        ),
        Row("import", "import, beyond asyncio's", Kind.IMPORT, "", Method.IMPORT),
    ]


_TCP, _TLS = _tcp_echo(), _tls()
_AGED = _aged([row for row in [*_TCP, *_TLS] if row.workload in ("echo_protocol", "echo_tls")])

ROWS: tuple[Row, ...] = (*_callbacks(), *_TCP, *_TLS, *_AGED, *_other_transports(), *_programs())


def matching(patterns: str) -> list[Row]:
    """The rows whose name matches one of the comma-separated globs. Raises ValueError where there is none."""
    globs = [part.strip() for part in patterns.split(",") if part.strip()]
    chosen = [row for row in ROWS if any(fnmatchcase(row.name, glob) for glob in globs)]
    if not chosen:
        raise ValueError(f"no row matches {patterns!r}; `python -m bench loop --list` names them")
    return chosen
