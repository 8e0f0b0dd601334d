"""Cycles through the client's native classes are found by the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import whorl
from whorl._core import ConnectionPool, PoolSlot, PoolWaiter, RequestTarget

KEY = ("localhost", 80, False, True, None, None, None, None)


class Marked:
    """Something with attributes, which weak references follow."""

    other: Any = None


def pool_of(event_loop: asyncio.AbstractEventLoop) -> ConnectionPool:
    return ConnectionPool(event_loop, limit=1, limit_per_host=0, keepalive_timeout=None, force_close=False)


def test_a_url_that_knows_what_was_prepared_for_it() -> None:
    url: Any = Marked()
    url.other = RequestTarget(KEY, url, url, None, "/", "localhost")
    reference = weakref.ref(url)
    del url
    gc.collect()
    assert reference() is None


def test_a_loop_that_knows_a_place_in_its_pool() -> None:
    event_loop = asyncio.new_event_loop()
    slot = pool_of(event_loop).checkout(KEY)
    assert isinstance(slot, PoolSlot)
    event_loop.slot = slot  # type: ignore[attr-defined]
    event_loop.close()
    reference = weakref.ref(event_loop)
    del event_loop, slot
    gc.collect()
    assert reference() is None


def test_a_future_whose_callback_refers_to_its_waiter() -> None:
    event_loop = asyncio.new_event_loop()
    pool = pool_of(event_loop)
    slot = pool.checkout(KEY)
    waiter = pool.checkout(KEY)
    assert isinstance(waiter, PoolWaiter)
    mark = Marked()
    mark.other = waiter
    waiter.future.add_done_callback(lambda _future, mark=mark: None)  # type: ignore[misc]
    event_loop.close()
    reference = weakref.ref(mark)
    del event_loop, pool, slot, waiter, mark
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("new_event_loop", [asyncio.new_event_loop, whorl.new_event_loop])
def test_a_permit_is_given_back_after_the_loop_is_closed(
    new_event_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """As by coroutines that the collector closes then: the next in the queue has no loop to be woken on."""
    event_loop = new_event_loop()
    pool = pool_of(event_loop)
    slot, waiter = pool.checkout(KEY), pool.checkout(KEY)
    assert isinstance(slot, PoolSlot)
    assert isinstance(waiter, PoolWaiter)
    waiter.future.add_done_callback(lambda _: None)
    event_loop.close()
    slot.give_back()
    waiter.give_back()
    assert not waiter.future.done()
