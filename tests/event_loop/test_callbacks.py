"""Callbacks: order, contexts, batches, cancellation, and where their exceptions go."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import signal
import socket
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import LoopErrors, LoopFactory
from .support import PATIENCE, Recorder, connected, control_xfail, open_fds, turns, until, whorl_only

Loop = asyncio.AbstractEventLoop
var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")


class Thing:
    """Something a weak reference can point at."""


def test_callbacks_run_in_the_order_they_were_queued(loop: Loop) -> None:
    ran: list[int] = []
    for number in range(1000):
        loop.call_soon(ran.append, number)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == list(range(1000))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 9])
def test_callbacks_get_their_arguments(loop: Loop, count: int) -> None:
    got: list[tuple[Any, ...]] = []
    loop.call_soon(lambda *arguments: got.append(arguments), *range(count))
    loop.call_soon_threadsafe(lambda *arguments: got.append(arguments), *range(count))
    loop.call_later(0, lambda *arguments: (got.append(arguments), loop.stop()), *range(count))
    loop.run_forever()
    assert got == [tuple(range(count))] * 3


def test_context_is_captured_when_scheduled(loop: Loop) -> None:
    seen: list[str] = []

    def observe(last: bool = False) -> None:
        seen.append(var.get())
        if last:
            loop.stop()

    def schedule() -> None:
        var.set("scheduled")
        loop.call_soon(observe)
        loop.call_soon_threadsafe(observe)
        loop.call_later(0, observe)
        loop.call_at(loop.time() + 0.001, observe, True)
        var.set("changed")

    contextvars.copy_context().run(schedule)
    loop.run_forever()
    assert seen == ["scheduled"] * 4


@pytest.mark.jumping_clock
def test_an_explicit_context_is_entered_and_keeps_what_is_set_in_it(loop: Loop) -> None:
    context = contextvars.copy_context()
    context.run(var.set, "explicit")
    seen: list[str] = []

    def observe_and_set(value: str) -> None:
        seen.append(var.get())
        var.set(value)
        if value == "fourth":
            loop.stop()

    loop.call_soon(observe_and_set, "first", context=context)
    loop.call_soon_threadsafe(observe_and_set, "second", context=context)
    loop.call_later(0.001, observe_and_set, "third", context=context)
    loop.call_at(loop.time() + 0.002, observe_and_set, "fourth", context=context)
    loop.run_forever()
    assert seen == ["explicit", "first", "second", "third"]
    assert context[var] == "fourth"
    assert var.get() == "unset"


async def test_context_of_add_reader_is_the_one_it_was_added_in(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    seen: asyncio.Future[str] = loop.create_future()
    with ours, theirs:
        context = contextvars.copy_context()
        context.run(var.set, "added")
        context.run(loop.add_reader, ours, lambda: seen.done() or seen.set_result(var.get()))
        theirs.send(b"x")
        assert await seen == "added"
        loop.remove_reader(ours)


async def test_protocol_callbacks_run_in_the_context_of_create_connection(loop: Loop) -> None:
    """uvloop #348."""
    seen: list[str] = []

    class Contexts(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            seen.append(f"made {var.get()}")
            super().connection_made(transport)

        def data_received(self, data: bytes) -> None:
            seen.append(f"data {var.get()}")
            super().data_received(data)

        def eof_received(self) -> bool | None:
            seen.append(f"eof {var.get()}")
            return super().eof_received()

        def connection_lost(self, exc: BaseException | None) -> None:
            seen.append(f"lost {var.get()}")
            super().connection_lost(exc)

    async def connect() -> None:
        var.set("connect")
        async with connected(Contexts) as pair:
            var.set("later")
            await pair.peer_sends(b"x")
            await pair.protocol.received(1)
            pair.peer.close()
            await pair.protocol.lost

    await asyncio.create_task(connect())
    assert seen == ["made connect", "data connect", "eof connect", "lost connect"]


async def test_protocol_callbacks_run_in_the_context_of_create_server(loop: Loop) -> None:
    """uvloop #305."""
    seen: list[str] = []
    protocols: list[Recorder] = []

    class Contexts(Recorder):
        def __init__(self) -> None:
            super().__init__()
            seen.append(f"factory {var.get()}")
            protocols.append(self)

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            seen.append(f"made {var.get()}")
            super().connection_made(transport)

        def data_received(self, data: bytes) -> None:
            seen.append(f"data {var.get()}")
            super().data_received(data)

        def connection_lost(self, exc: BaseException | None) -> None:
            seen.append(f"lost {var.get()}")
            super().connection_lost(exc)

    async def serve() -> asyncio.Server:
        var.set("serve")
        server = await loop.create_server(Contexts, "127.0.0.1", 0)
        var.set("later")
        return server

    server = await asyncio.create_task(serve())
    with socket.create_connection(server.sockets[0].getsockname()) as client:
        client.sendall(b"x")
        await until(lambda: protocols and protocols[0].data)
    await protocols[0].lost
    server.close()
    await server.wait_closed()
    assert seen == ["factory serve", "made serve", "data serve", "lost serve"]


@control_xfail("cpython #140947: resume_reading adds the reader in the caller's context", strict=False)
async def test_resume_reading_does_not_leak_the_callers_context(loop: Loop) -> None:
    """cpython #140947."""
    seen: list[str] = []

    class Contexts(Recorder):
        def data_received(self, data: bytes) -> None:
            seen.append(var.get())
            super().data_received(data)

    async def connect() -> None:
        var.set("connect")
        async with connected(Contexts) as pair:
            await turns()
            pair.transport.pause_reading()
            await pair.peer_sends(b"x")

            async def resume() -> None:
                var.set("resume")
                pair.transport.resume_reading()

            await asyncio.create_task(resume())
            await pair.protocol.received(1)

    await asyncio.create_task(connect())
    assert seen == ["connect"]


@pytest.mark.parametrize("how", ["soon", "later", "threadsafe"])
def test_arguments_are_dropped_on_cancel(loop: Loop, how: str) -> None:
    """A cancelled handle that someone keeps must not keep what it would have been called with."""
    loop.set_debug(False)
    thing = Thing()
    alive = weakref.ref(thing)
    if how == "soon":
        handle = loop.call_soon(print, thing)
    elif how == "threadsafe":
        handle = loop.call_soon_threadsafe(print, thing)
    else:
        handle = loop.call_later(3600, print, thing)
    handle.cancel()
    assert handle.cancelled()
    del thing
    gc.collect()
    assert alive() is None
    assert "cancelled" in repr(handle)


def test_arguments_are_dropped_after_the_call(loop: Loop) -> None:
    thing = Thing()
    alive = weakref.ref(thing)
    loop.call_soon(id, thing)
    loop.call_later(0, id, thing)
    loop.call_soon_threadsafe(id, thing)
    del thing
    loop.run_until_complete(turns())
    gc.collect()
    assert alive() is None


def test_cancelled_callbacks_do_not_run_even_when_cancelled_in_the_same_batch(loop: Loop) -> None:
    ran: list[str] = []
    handles: list[asyncio.Handle] = []
    loop.call_soon(lambda: handles[0].cancel())
    handles.append(loop.call_soon(ran.append, "cancelled"))
    loop.call_soon(ran.append, "kept")
    loop.run_until_complete(asyncio.sleep(0))
    assert ran == ["kept"]
    handles[0].cancel()  # once more does no harm


def test_cancelling_a_handle_after_it_ran_does_no_harm(loop: Loop) -> None:
    ran: list[int] = []
    handle = loop.call_soon(ran.append, 1)
    timer = loop.call_later(0, ran.append, 2)
    loop.run_until_complete(turns())
    handle.cancel()
    timer.cancel()
    assert ran == [1, 2]


def test_a_batch_is_what_was_queued_when_the_turn_began(loop: Loop) -> None:
    ran: list[str] = []

    def first() -> None:
        ran.append("first")
        loop.call_soon(ran.append, "next turn")
        loop.stop()

    loop.call_soon(first)
    loop.call_soon(ran.append, "second")
    loop.run_forever()
    assert ran == ["first", "second"]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == ["first", "second", "next turn"]


def test_stop_finishes_the_batch(loop: Loop) -> None:
    ran: list[int] = []
    loop.call_soon(loop.stop)
    loop.call_soon(ran.append, 1)
    loop.call_soon(ran.append, 2)
    loop.run_forever()
    assert ran == [1, 2]


def test_stop_before_run_makes_one_turn(loop: Loop) -> None:
    ran: list[int] = []

    def again(number: int) -> None:
        ran.append(number)
        loop.call_soon(again, number + 1)

    loop.call_soon(again, 0)
    loop.stop()
    loop.run_forever()
    assert ran == [0]
    loop.stop()
    loop.run_forever()
    assert ran == [0, 1]


def test_a_chain_of_callbacks_does_not_starve_io(loop: Loop) -> None:
    """Draining the ready queue is bounded: a chain that never ends lets sockets, timers and other threads
    through."""
    ours, theirs = socket.socketpair()
    missing = {"reader", "timer", "thread"}

    def came(what: str) -> None:
        missing.discard(what)
        if what == "reader":
            loop.remove_reader(ours)

    def chain() -> None:
        if missing:
            loop.call_soon(chain)
        else:
            loop.stop()

    with ours, theirs:
        theirs.send(b"x")
        loop.add_reader(ours, came, "reader")
        loop.call_later(0.01, came, "timer")
        thread = threading.Timer(0.01, loop.call_soon_threadsafe, (came, "thread"))
        thread.start()
        loop.call_soon(chain)
        loop.run_forever()
        thread.join()
    assert not missing


def test_a_flood_from_another_thread_does_not_starve_timers_and_callbacks(loop: Loop) -> None:
    enough = threading.Event()

    def flood() -> None:
        while not enough.is_set():
            handle = loop.call_soon_threadsafe(int)
            del handle

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        loop.run_until_complete(asyncio.sleep(0.02))
        loop.run_until_complete(turns(10))
    finally:
        enough.set()
        thread.join()


def test_an_exception_goes_to_the_handler_and_the_loop_continues(loop: Loop, loop_errors: LoopErrors) -> None:
    error = ValueError("raised by a callback")
    ran: list[int] = []

    def fail() -> None:
        raise error

    handle = loop.call_soon(fail)
    loop.call_soon(ran.append, 1)
    loop.run_until_complete(asyncio.sleep(0))
    context = loop_errors.take()
    assert context["exception"] is error
    assert "fail" in context["message"]
    assert context["handle"] is handle
    assert ran == [1]


@pytest.mark.parametrize("source", ["soon", "later", "threadsafe", "reader", "writer", "done callback"])
def test_an_exception_from_any_source_goes_to_the_handler(
    loop: Loop, loop_errors: LoopErrors, source: str
) -> None:
    ours, theirs = socket.socketpair()

    def fail(*_: object) -> None:
        loop.remove_reader(ours)
        loop.remove_writer(ours)
        loop.call_soon(loop.stop)
        raise ZeroDivisionError

    with ours, theirs:
        schedule(loop, source, fail, ours, theirs)
        loop.run_forever()
    assert isinstance(loop_errors.take()["exception"], ZeroDivisionError)


def schedule(
    loop: Loop, source: str, callback: Callable[..., None], ours: socket.socket, theirs: socket.socket
) -> None:
    """Has ``callback`` called once the loop runs, by way of ``source``."""
    if source == "soon":
        loop.call_soon(callback)
    elif source == "later":
        loop.call_later(0.001, callback)
    elif source == "threadsafe":
        loop.call_soon_threadsafe(callback)
    elif source == "reader":
        theirs.send(b"x")
        loop.add_reader(ours, callback)
    elif source == "writer":
        loop.add_writer(ours, callback)
    elif source == "done callback":
        future = loop.create_future()
        future.add_done_callback(callback)
        future.set_result(None)
    elif source == "signal":
        loop.add_signal_handler(signal.SIGUSR1, callback)
        loop.call_soon(signal.raise_signal, signal.SIGUSR1)
    else:
        raise AssertionError(source)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize(
    "source", ["soon", "later", "threadsafe", "reader", "writer", "done callback", "signal"]
)
def test_keyboard_interrupt_and_system_exit_leave_run_forever(
    loop: Loop, source: str, kind: type[BaseException]
) -> None:
    ours, theirs = socket.socketpair()

    def fail(*_: object) -> None:
        loop.remove_reader(ours)
        loop.remove_writer(ours)
        raise kind

    with ours, theirs:
        schedule(loop, source, fail, ours, theirs)
        with pytest.raises(kind):
            loop.run_forever()
        assert not loop.is_running()
        loop.remove_signal_handler(signal.SIGUSR1)
        # The loop can be run again.
        assert loop.run_until_complete(asyncio.sleep(0, "again")) == "again"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_keyboard_interrupt_and_system_exit_in_data_received_leave_run_forever(
    loop: Loop, kind: type[BaseException]
) -> None:
    class Fails(Recorder):
        def data_received(self, data: bytes) -> None:
            raise kind

    async def main() -> None:
        async with connected(Fails) as pair:
            await pair.peer_sends(b"x")
            await asyncio.sleep(PATIENCE)

    task = loop.create_task(main())
    with pytest.raises(kind):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


def test_what_was_queued_behind_a_keyboard_interrupt_is_kept(loop: Loop) -> None:
    ran: list[int] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    loop.call_soon(interrupt)
    loop.call_soon(ran.append, 1)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.run_until_complete(asyncio.sleep(0))
    assert ran == [1]


@pytest.mark.parametrize("kind", [GeneratorExit, asyncio.CancelledError, BaseException])
def test_every_other_base_exception_goes_to_the_handler(
    loop: Loop, loop_errors: LoopErrors, kind: type[BaseException]
) -> None:
    def fail() -> None:
        raise kind

    loop.call_soon(fail)
    loop.run_until_complete(asyncio.sleep(0))
    assert type(loop_errors.take()["exception"]) is kind


def test_without_a_handler_the_error_is_logged(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.set_exception_handler(None)
    loop.call_soon(lambda: 1 / 0)
    with caplog.at_level(logging.ERROR, "asyncio"):
        loop.run_until_complete(asyncio.sleep(0))
    assert "Exception in callback" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_handler_that_raises_is_logged_and_the_loop_continues(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(_: Loop, context: dict[str, Any]) -> None:
        raise LookupError("raised by the handler")

    loop.set_exception_handler(handler)
    ran: list[int] = []
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(ran.append, 1)
    with caplog.at_level(logging.ERROR, "asyncio"):
        loop.run_until_complete(asyncio.sleep(0))
    assert "Unhandled error in exception handler" in caplog.text
    assert ran == [1]


def test_exception_handler_must_be_callable(loop: Loop) -> None:
    with pytest.raises(TypeError, match="callable"):
        loop.set_exception_handler("handler")  # type: ignore[arg-type]


def test_a_callback_that_is_no_callable_does_not_break_the_loop(loop: Loop, loop_errors: LoopErrors) -> None:
    """Refused at once, or reported when it is called: never lost, never fatal."""
    try:
        loop.call_soon(None)  # type: ignore[arg-type]
    except TypeError:
        pass
    else:
        loop.run_until_complete(asyncio.sleep(0))
        assert isinstance(loop_errors.take()["exception"], TypeError)
    assert loop.run_until_complete(asyncio.sleep(0, "alive")) == "alive"


def test_handles_know_their_context_and_show_their_callback(loop: Loop) -> None:
    context = contextvars.copy_context()
    handle = loop.call_soon(print, "argument", context=context)
    timer = loop.call_later(10, print, context=context)
    assert "print" in repr(handle)
    assert "print" in repr(timer)
    if sys.version_info >= (3, 12):
        assert handle.get_context() is context
        assert timer.get_context() is context
    handle.cancel()
    timer.cancel()
    assert "cancelled" in repr(timer)


def test_call_soon_threadsafe_wakes_a_blocked_loop(loop: Loop) -> None:
    loop.call_later(PATIENCE, loop.stop)
    began = loop.time()
    thread = threading.Timer(0.05, loop.call_soon_threadsafe, (loop.stop,))
    thread.start()
    loop.run_forever()
    thread.join()
    assert loop.time() - began < PATIENCE


def test_call_soon_threadsafe_from_a_callback_and_before_running(loop: Loop) -> None:
    ran: list[str] = []
    loop.call_soon_threadsafe(ran.append, "before")
    loop.call_soon_threadsafe(lambda: loop.call_soon_threadsafe(lambda: (ran.append("nested"), loop.stop())))
    loop.run_forever()
    assert ran == ["before", "nested"]


@pytest.mark.parametrize(
    "call",
    [
        lambda loop: loop.call_soon(print),
        lambda loop: loop.call_soon_threadsafe(print),
        lambda loop: loop.call_later(1, print),
        lambda loop: loop.call_at(1, print),
        lambda loop: loop.run_forever(),
        lambda loop: loop.run_until_complete(loop.create_future()),
        lambda loop: loop.run_in_executor(None, print),
        lambda loop: loop.add_reader(0, print),
        lambda loop: loop.add_writer(0, print),
        lambda loop: loop.add_signal_handler(signal.SIGUSR1, print),
    ],
    ids=[
        "call_soon",
        "call_soon_threadsafe",
        "call_later",
        "call_at",
        "run_forever",
        "run_until_complete",
        "run_in_executor",
        "add_reader",
        "add_writer",
        "add_signal_handler",
    ],
)
def test_a_closed_loop_refuses(loop: Loop, call: Callable[[Loop], object]) -> None:
    loop.close()
    assert loop.is_closed()
    with pytest.raises(RuntimeError, match="closed"):
        call(loop)
    loop.close()


def test_a_closed_loop_drops_what_was_queued(loop: Loop) -> None:
    thing = Thing()
    alive = weakref.ref(thing)
    loop.call_soon(print, thing)
    loop.call_later(100, print, thing)
    loop.call_soon_threadsafe(print, thing)
    del thing
    loop.close()
    gc.collect()
    assert alive() is None


def test_a_closed_loop_can_be_collected(loop_factory: LoopFactory) -> None:
    """Whatever cycles a loop makes with what was scheduled on it, the collector can undo them."""
    other = loop_factory()
    other.run_until_complete(turns())
    other.call_soon(other.stop)
    other.call_later(100, other.stop)
    alive = weakref.ref(other)
    other.close()
    del other
    gc.collect()
    assert alive() is None


def test_closing_a_loop_closes_its_descriptors(loop_factory: LoopFactory) -> None:
    """At once, as with stock asyncio, not when the object is collected."""
    before = open_fds()
    other = loop_factory()
    other.run_until_complete(turns())
    assert len(open_fds()) > len(before)
    other.close()
    assert open_fds() == before


@whorl_only
def test_a_callback_that_cannot_be_shown_does_not_take_the_loop_down(
    loop: Loop, loop_errors: LoopErrors
) -> None:
    """asyncio makes the repr while it handles the exception, and what that raises ends its loop."""

    class Unprintable:
        def __call__(self) -> None:
            raise ZeroDivisionError

        def __repr__(self) -> str:
            raise LookupError

    loop.call_soon(Unprintable())
    loop.run_until_complete(asyncio.sleep(0))
    context = loop_errors.take()
    assert "Unprintable" in context["message"]
    assert isinstance(context["exception"], ZeroDivisionError)


@whorl_only
def test_an_interrupt_while_a_callback_is_shown_is_not_lost(loop: Loop) -> None:
    class Interrupted:
        def __call__(self) -> None:
            raise ZeroDivisionError

        def __repr__(self) -> str:
            raise KeyboardInterrupt

    loop.call_soon(Interrupted())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.sleep(0))


@pytest.mark.parametrize(
    "call",
    [
        lambda loop: loop.call_soon(print, callback=print),
        lambda loop: loop.call_later(1, print, callback=print),
        lambda loop: loop.call_later(1, print, delay=3),
        lambda loop: loop.call_at(1, print, when=3),
    ],
    ids=["callback of call_soon", "callback of call_later", "delay", "when"],
)
def test_an_argument_is_given_once(loop: Loop, call: Callable[[Loop], object]) -> None:
    with pytest.raises(TypeError, match="multiple values"):
        call(loop)


def test_a_delay_that_no_float_holds(loop: Loop) -> None:
    with pytest.raises(OverflowError):
        loop.call_later(10**400, print)
