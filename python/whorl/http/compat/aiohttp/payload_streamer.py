"""Bodies that a coroutine writes. The names of ``aiohttp.payload_streamer`` that whorl.http has."""

from __future__ import annotations

from whorl.http.abc import AbstractStreamWriter
from whorl.http.body.payload import payload_type
from whorl.http.body.payload_base import Payload
from whorl.http.body.streamer import StreamPayload, StreamWrapperPayload, streamer

__all__ = [
    "AbstractStreamWriter",
    "Payload",
    "StreamPayload",
    "StreamWrapperPayload",
    "payload_type",
    "streamer",
]
