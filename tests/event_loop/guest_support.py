"""A main loop that runs a guest, for the tests of guests."""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from whorl.guest import Guest

from .support import PATIENCE, open_fds


class Host:
    """A main loop of ``select()``: descriptors with callbacks, and handlers that are posted."""

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], object]] = {}
        self.posted: list[Callable[[], object]] = []
        self.quitting = False
        #: How often something was readable.
        self.woken = 0

    def post(self, handler: Callable[[], object]) -> None:
        self.posted.append(handler)

    def quit(self) -> None:
        self.quitting = True

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Runs until :meth:`quit`, or until a condition holds."""
        end = time.monotonic() + PATIENCE
        while not self.quitting and not until():
            if self.posted:
                self.posted.pop(0)()
                continue
            readable, _, _ = select.select(list(self.readers), [], [], max(0, end - time.monotonic()))
            assert readable, "nothing has come"
            self.woken += 1
            for fd in readable:
                if fd in self.readers:
                    self.readers[fd]()


def is_readable(guest: Guest[Any]) -> bool:
    return bool(select.select([guest.fd], [], [], 0)[0])


def settle(guest: Guest[Any]) -> None:
    """Turns until nothing is left to do."""
    for _ in range(1000):
        if guest.turn() != 0 and not is_readable(guest):
            return
    raise AssertionError("the guest does not come to rest")


@contextmanager
def hosted(main: Coroutine[Any, Any, Any], **options: Any) -> Iterator[tuple[Host, Guest[Any]]]:
    """A guest that its host runs, and closes at the end."""
    before = open_fds()
    host = Host()
    with Guest(main, done=lambda _: host.quit(), **options) as guest:
        host.readers[guest.fd] = guest.turn
        yield host, guest
    assert guest.done
    assert asyncio._get_running_loop() is None
    assert open_fds() == before


def run(main: Coroutine[Any, Any, Any]) -> Any:
    with hosted(main) as (host, guest):
        host.run()
        assert guest.done
        return guest.result()


@contextmanager
def closing_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


async def forever() -> None:
    await asyncio.get_running_loop().create_future()
