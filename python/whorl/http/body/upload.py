"""How far the sending of a request's body has come."""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING

from ..exceptions import UploadAbortedError

if TYPE_CHECKING:
    from .writer import StreamWriter

__all__ = ["UploadTracker"]

_MOST_MARKS = 256


class _Attempt(Enum):
    """The state of the latest attempt to send the body."""

    NOT_SENT = auto()
    SENDING = auto()
    SENT = auto()
    FAILED = auto()


class UploadTracker:
    """Follows the sending of one request's body; given as the request's ``upload_tracker``.

    Make it while a loop runs, and a new one for each request. Source of the semantics: aiohttp.

    ``attempts`` counts how often the body was begun (redirects and retries send it again);
    ``upload_complete`` is a future that is done when the body has gone out in full, or has
    :exc:`UploadAbortedError` or the error of the sending.
    """

    def __init__(self) -> None:
        self.attempts = 0
        self.upload_complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._bound = False
        self._attempt = _Attempt.NOT_SENT
        self._error: BaseException | None = None
        self._final = False
        self._writer: StreamWriter | None = None
        self._accepted = 0
        self._flushed = 0
        # Bytes of the body, and the bytes on the wire that hold them: where each piece that was accepted
        # ends.
        self._marks: deque[tuple[int, int]] = deque()

    @property
    def bytes_written(self) -> int:
        """How many bytes of the body the kernel has taken in the current attempt.

        Under compression this is an estimate within the piece that is being sent.
        """
        self._check()
        return self._flushed

    def _check(self) -> None:
        writer = self._writer
        transport = writer.transport if writer is not None else None
        if writer is None or transport is None or transport.is_closing():
            return
        sent = writer.output_size - transport.get_write_buffer_size()
        marks = self._marks
        while len(marks) > 1 and marks[1][1] <= sent:
            marks.popleft()
        flushed, wire = marks[0]
        if len(marks) > 1 and sent > wire:
            next_flushed, next_wire = marks[1]
            flushed += (next_flushed - flushed) * (sent - wire) // (next_wire - wire)
        self._flushed = flushed

    # Called by the session and the request.

    def _bind(self) -> None:
        if self._bound:
            raise RuntimeError("UploadTracker is already bound to a request: make a new one for each")
        self._bound = True

    def _begin(self) -> int:
        """Begin a new attempt; reports of an earlier one have no effect from now on."""
        self.attempts += 1
        self._attempt, self._error, self._writer = _Attempt.NOT_SENT, None, None
        self._accepted = self._flushed = 0
        self._marks.clear()
        return self.attempts

    def _sending(self, attempt: int, writer: StreamWriter) -> None:
        if attempt == self.attempts:
            self._attempt, self._writer = _Attempt.SENDING, writer
            self._marks.append((0, writer.output_size))

    def _add(self, attempt: int, size: int, wire: int) -> None:
        if attempt != self.attempts or self._writer is None:
            return
        self._accepted += size
        # A compressor may have kept the piece to itself.
        if wire > self._marks[-1][1]:
            self._marks.append((self._accepted, wire))
            if len(self._marks) > _MOST_MARKS:
                self._check()

    def _sent(self, attempt: int) -> None:
        if attempt == self.attempts:
            self._flushed = self._accepted
            self._over(_Attempt.SENT, None)

    def _failed(self, attempt: int, error: BaseException | None) -> None:
        """The body did not go out in full: by ``error``, or None if it was cut short."""
        if attempt == self.attempts:
            self._check()
            self._over(_Attempt.FAILED, error)

    def _over(self, outcome: _Attempt, error: BaseException | None) -> None:
        self._attempt, self._error, self._writer = outcome, error, None
        self._marks.clear()
        if self._final:
            self._settle()

    def _finish(self) -> None:
        """The request is over: no further attempt will begin."""
        self._final = True
        if self._attempt is not _Attempt.SENDING:
            self._settle()

    def _settle(self) -> None:
        future = self.upload_complete
        if future.done():
            return
        if self._attempt is _Attempt.SENT:
            future.set_result(None)
            return
        future.set_exception(self._error or UploadAbortedError("The request body was not fully sent"))
        # The exception need not be retrieved.
        future.exception()
