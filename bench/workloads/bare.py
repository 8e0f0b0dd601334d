"""What the bytes of a query cost without a driver and without a loop: a blocking socket, and nothing decoded.

Each function has the name of the workload that it is the reference for.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bench.workloads.databases import PIPELINED, TIMES

if TYPE_CHECKING:
    from bench.workloads import Batch, Setting

#: Operations in a batch.
_TIMES = 100
_READ_SIZE = 256 * 1024
#: What PostgreSQL ends each answer with outside of a transaction.
_READY = b"Z\x00\x00\x00\x05I"


def _message(kind: bytes, body: bytes = b"") -> bytes:
    """A message of PostgreSQL's protocol."""
    return kind + struct.pack("!I", len(body) + 4) + body


_SYNC = _message(b"S")
#: Bind the statement "s" to the unnamed portal, with every result in binary; execute that.
_QUERY = _message(b"B", b"\0s\0" + struct.pack("!4H", 0, 0, 1, 1)) + _message(b"E", b"\0" + bytes(4))


def asyncpg_select(setting: Setting) -> Batch:
    """A prepared statement, one at a time."""
    return _postgres(setting, "select 1", _QUERY + _SYNC)


psycopg_select = asyncpg_select


def asyncpg_rows(setting: Setting) -> Batch:
    """A large result."""
    return _postgres(setting, TIMES, _QUERY + _SYNC)


def psycopg_pipeline(setting: Setting) -> Batch:
    """A prepared statement, many in one message."""
    return _postgres(setting, "select 1", _QUERY * PIPELINED + _SYNC, operations=PIPELINED)


def redis_get(setting: Setting) -> Batch:
    """GETs, one at a time."""
    connection = _connected(setting)
    _exchange(connection, b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$1\r\n1\r\n", b"\r\n")
    return _batch(connection, b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n", b"1\r\n", 1)


def _connected(setting: Setting) -> socket.socket:
    url = urlsplit(setting.target)
    connection = socket.create_connection((url.hostname, url.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _exchange(connection: socket.socket, request: bytes, end: bytes) -> int:
    """Sends a request and reads up to the bytes that its answer ends with; returns the answer's size."""
    connection.sendall(request)
    size = 0
    while True:
        data = connection.recv(_READ_SIZE)
        if not data:
            raise RuntimeError("the server has closed the connection")
        size += len(data)
        if data.endswith(end):
            return size


def _postgres(setting: Setting, query: str, request: bytes, operations: int = 1) -> Batch:
    """A connection on which `query` is the prepared statement "s"."""
    url = urlsplit(setting.target)
    connection = _connected(setting)
    parameters = f"user\0{url.username}\0database\0{url.path[1:]}\0\0".encode()
    _exchange(connection, struct.pack("!II", len(parameters) + 8, 3 << 16) + parameters, _READY)
    parse = _message(b"P", b"s\0" + query.encode() + b"\0" + bytes(2))
    _exchange(connection, parse + _SYNC, _READY)
    return _batch(connection, request, _READY, operations)


def _batch(connection: socket.socket, request: bytes, end: bytes, operations: int) -> Batch:
    expected = _exchange(connection, request, end)

    def batch() -> int:
        for _ in range(_TIMES):
            if _exchange(connection, request, end) != expected:
                raise RuntimeError("the answer has another size than the first")
        return _TIMES * operations

    return batch
