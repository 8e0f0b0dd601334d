"""Signals: handlers on the loop, the wake-up descriptor, and interrupts at every point of a run."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import socket
import textwrap
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import LoopErrors, LoopFactory, Script
from .support import PATIENCE, control_xfail, cpu_seconds_while_idle, turns, until

Loop = asyncio.AbstractEventLoop


@pytest.fixture(autouse=True)
def _dispositions_restored() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    yield
    after = {number: signal.getsignal(number) for number in before}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == before, "the loop left its own handlers behind"


async def test_handlers_run_on_the_loop(loop: Loop) -> None:
    got: list[tuple[Any, ...]] = []
    loop.add_signal_handler(
        signal.SIGUSR1, lambda *arguments: got.append((*arguments, threading.get_ident())), 1, 2
    )
    os.kill(os.getpid(), signal.SIGUSR1)
    await until(lambda: got)
    assert got == [(1, 2, threading.get_ident())]
    assert loop.remove_signal_handler(signal.SIGUSR1)
    assert not loop.remove_signal_handler(signal.SIGUSR1)


async def test_a_second_handler_replaces_the_first(loop: Loop) -> None:
    got: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, got.append, "first")
    loop.add_signal_handler(signal.SIGUSR1, got.append, "second")
    signal.raise_signal(signal.SIGUSR1)
    await until(lambda: got)
    await turns(5)
    assert got == ["second"]
    loop.remove_signal_handler(signal.SIGUSR1)


async def test_handlers_run_in_the_context_they_were_added_in(loop: Loop) -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")
    got: list[str] = []
    context = contextvars.copy_context()
    context.run(var.set, "added")
    context.run(loop.add_signal_handler, signal.SIGUSR1, lambda: got.append(var.get()))
    signal.raise_signal(signal.SIGUSR1)
    await until(lambda: got)
    assert got == ["added"]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_a_signal_wakes_a_blocked_loop(loop: Loop) -> None:
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    loop.run_forever()
    timer.join()
    loop.remove_signal_handler(signal.SIGUSR1)


def test_a_signal_delivered_to_another_thread_wakes_the_loop(loop: Loop) -> None:
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    ready = threading.Event()

    def other() -> None:
        ready.wait()
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    thread = threading.Thread(target=other)
    thread.start()
    loop.call_soon(ready.set)
    loop.run_forever()
    thread.join()
    loop.remove_signal_handler(signal.SIGUSR1)


def test_plain_signal_handlers_run_while_the_loop_waits(loop: Loop) -> None:
    """A handler of the ``signal`` module is not held up until the loop has something to do."""
    ran: list[int] = []

    def handler(number: int, frame: object) -> None:
        ran.append(number)
        loop.call_soon_threadsafe(loop.stop)

    previous = signal.signal(signal.SIGUSR2, handler)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR2))
    timer.start()
    try:
        loop.run_forever()
    finally:
        timer.join()
        signal.signal(signal.SIGUSR2, previous)
    assert ran == [signal.SIGUSR2]


def test_plain_signal_handlers_may_raise_out_of_the_loop(loop: Loop) -> None:
    class Stop(KeyboardInterrupt):
        pass

    def handler(number: int, frame: object) -> None:
        raise Stop

    previous = signal.signal(signal.SIGUSR2, handler)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR2))
    # Started by the loop, so that the signal cannot come before it runs, however slow the machine.
    loop.call_soon(timer.start)
    try:
        with pytest.raises(Stop):
            loop.run_forever()
    finally:
        timer.join()
        signal.signal(signal.SIGUSR2, previous)
    assert not loop.is_running()
    assert loop.run_until_complete(asyncio.sleep(0, "alive")) == "alive"


async def test_a_storm_of_signals(loop: Loop) -> None:
    got = {signal.SIGUSR1: 0, signal.SIGUSR2: 0}

    def count(number: signal.Signals) -> None:
        got[number] += 1

    for number in got:
        loop.add_signal_handler(number, count, number)
    for _ in range(200):
        signal.raise_signal(signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)
    await until(lambda: all(got.values()))
    await turns()
    before = got[signal.SIGUSR1]
    signal.raise_signal(signal.SIGUSR1)
    await until(lambda: got[signal.SIGUSR1] > before)
    for number in got:
        loop.remove_signal_handler(number)


async def test_a_handler_that_raises_is_reported(loop: Loop, loop_errors: LoopErrors) -> None:
    loop.add_signal_handler(signal.SIGUSR1, lambda: 1 / 0)
    signal.raise_signal(signal.SIGUSR1)
    await until(lambda: loop_errors)
    assert isinstance(loop_errors.take()["exception"], ZeroDivisionError)
    loop.remove_signal_handler(signal.SIGUSR1)


async def test_a_handler_may_remove_itself(loop: Loop) -> None:
    got: list[bool] = []
    loop.add_signal_handler(signal.SIGUSR1, lambda: got.append(loop.remove_signal_handler(signal.SIGUSR1)))
    signal.raise_signal(signal.SIGUSR1)
    await until(lambda: got)
    assert got == [True]


@pytest.mark.parametrize(
    ("number", "error"),
    [
        ("text", TypeError),
        (None, TypeError),
        (1.5, TypeError),
        (0, ValueError),
        (-1, ValueError),
        (10_000, ValueError),
    ],
)
def test_what_is_no_signal_is_refused(loop: Loop, number: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        loop.add_signal_handler(number, print)
    with pytest.raises(error):
        loop.remove_signal_handler(number)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_signals_that_cannot_be_caught_are_refused(loop: Loop, number: int) -> None:
    with pytest.raises((RuntimeError, OSError, ValueError)):
        loop.add_signal_handler(number, print)
    assert loop.run_until_complete(asyncio.sleep(0, "alive")) == "alive"


def test_coroutine_functions_are_refused(loop: Loop) -> None:
    async def handler() -> None: ...

    with pytest.raises(TypeError, match="coroutine"):
        loop.add_signal_handler(signal.SIGUSR1, handler)


def test_other_threads_cannot_add_handlers(loop: Loop) -> None:
    errors: list[BaseException] = []

    def add() -> None:
        try:
            loop.add_signal_handler(signal.SIGUSR1, print)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=add)
    thread.start()
    thread.join()
    assert isinstance(errors[0], (ValueError, RuntimeError))


def test_closing_the_loop_removes_its_handlers(loop: Loop) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    loop.add_signal_handler(signal.SIGUSR1, print)
    assert signal.getsignal(signal.SIGUSR1) != before
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == before
    assert current_wakeup_fd() == -1


def current_wakeup_fd() -> int:
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd)
    return fd


def test_the_wake_up_descriptor_is_given_back(loop: Loop) -> None:
    assert current_wakeup_fd() == -1
    loop.run_until_complete(asyncio.sleep(0))
    assert current_wakeup_fd() == -1
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.run_until_complete(asyncio.sleep(0))
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.run_until_complete(asyncio.sleep(0))
    assert current_wakeup_fd() == -1


@control_xfail("asyncio sets -1, whatever there was before")
def test_a_wake_up_descriptor_that_was_there_before_is_restored(loop_factory: LoopFactory) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        signal.set_wakeup_fd(ours.fileno())
        try:
            loop = loop_factory()
            loop.add_signal_handler(signal.SIGUSR1, print)
            loop.run_until_complete(asyncio.sleep(0))
            loop.remove_signal_handler(signal.SIGUSR1)
            loop.close()
            assert current_wakeup_fd() == ours.fileno()
        finally:
            signal.set_wakeup_fd(-1)


def test_a_loop_in_another_thread_leaves_the_wake_up_descriptor_alone(loop_factory: LoopFactory) -> None:
    runs, checked = threading.Event(), threading.Event()

    def work() -> None:
        loop = loop_factory()

        async def main() -> None:
            runs.set()
            await until(checked.is_set)

        loop.run_until_complete(main())
        loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    assert runs.wait(PATIENCE)
    while_it_runs = current_wakeup_fd()
    checked.set()
    thread.join()
    assert (while_it_runs, current_wakeup_fd()) == (-1, -1)


@control_xfail("asyncio spins once its self-pipe is at its end", strict=False)
async def test_end_of_file_on_the_wake_up_descriptor_does_not_spin(loop: Loop) -> None:
    """Where the wake-up descriptor is a socket, anyone who inherited it can end it."""
    loop.add_signal_handler(signal.SIGUSR1, print)
    fd = current_wakeup_fd()
    try:
        shared = socket.socket(fileno=os.dup(fd))
    except OSError:
        used = 0.0  # no socket: it has no end of file
    else:
        with shared:
            shared.shutdown(socket.SHUT_RDWR)
            used = await cpu_seconds_while_idle()
    loop.remove_signal_handler(signal.SIGUSR1)
    assert used < 0.03


# SIGINT in every phase

PHASES = {
    "while it waits": """
        async def main():
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            await asyncio.sleep(3600)
    """,
    "in a callback": """
        async def main():
            asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
            await asyncio.sleep(3600)
    """,
    "in a task step": """
        async def main():
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(3600)
    """,
    "in a timer": """
        async def main():
            asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGINT)
            await asyncio.sleep(3600)
    """,
    "while callbacks run without a pause": """
        async def main():
            loop = asyncio.get_running_loop()
            def again():
                loop.call_soon(again)
            again()
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            await asyncio.sleep(3600)
    """,
    "in data_received": """
        async def main():
            loop = asyncio.get_running_loop()
            ours, theirs = socket.socketpair()
            class Interrupts(asyncio.Protocol):
                def data_received(self, data):
                    os.kill(os.getpid(), signal.SIGINT)
            transport, _ = await loop.create_unix_connection(Interrupts, sock=ours)
            theirs.send(b"x")
            try:
                await asyncio.sleep(3600)
            finally:
                transport.abort()
                theirs.close()
                await asyncio.sleep(0)
    """,
    "while an executor works": """
        async def main():
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            await asyncio.to_thread(time.sleep, 0.3)
            await asyncio.sleep(3600)
    """,
    "while a child runs": """
        async def main():
            process = await asyncio.create_subprocess_exec("sleep", "3600", start_new_session=True)
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                await process.wait()
            finally:
                process.kill()
                await process.wait()
    """,
}


@pytest.mark.parametrize("phase", PHASES)
def test_sigint_under_a_runner(script: Script, phase: str) -> None:
    """The main task is cancelled, cleans up, and KeyboardInterrupt comes out of ``run``."""
    body = textwrap.dedent(PHASES[phase]) + textwrap.dedent("""
        async def outer():
            try:
                await main()
            except asyncio.CancelledError:
                await asyncio.sleep(0.01)
                print("cleaned up", flush=True)
                raise

        try:
            run(outer())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """)
    assert script.run(body).stdout.split("\n") == ["cleaned up", "interrupted", ""]


@control_xfail(
    "asyncio's loop, interrupted on a free-threaded build, now and then still says that it runs",
    since=(3, 14),
    strict=False,
)
@pytest.mark.parametrize("phase", [phase for phase in PHASES if "child" not in phase])
def test_sigint_without_a_runner(script: Script, phase: str) -> None:
    """KeyboardInterrupt leaves ``run_forever`` and the loop can be run again."""
    body = textwrap.dedent(PHASES[phase]) + textwrap.dedent("""
        loop = new_event_loop()
        task = loop.create_task(main())
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        assert not loop.is_running()
        if task.done():
            assert isinstance(task.exception(), KeyboardInterrupt)
        else:
            task.cancel()
            try:
                loop.run_until_complete(task)
            except asyncio.CancelledError:
                print("cancelled", flush=True)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    """)
    lines = script.run(body).stdout.split()
    assert lines[0] == "interrupted"
    assert lines[1:] in ([], ["cancelled"])


def test_a_second_sigint_interrupts_at_once(script: Script) -> None:
    body = """
        async def main():
            try:
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                print("cleaning up", flush=True)
                threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
                await asyncio.sleep(3600)

        try:
            run(main())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    assert script.run(body).stdout.split("\n") == ["cleaning up", "interrupted", ""]


def test_sigint_while_the_runner_shuts_down(script: Script) -> None:
    body = """
        async def stubborn():
            try:
                await asyncio.sleep(3600)
            finally:
                threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
                await asyncio.sleep(3600)

        async def main():
            asyncio.get_running_loop().stubborn = asyncio.create_task(stubborn())
            await asyncio.sleep(0)

        try:
            run(main())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    assert script.run(body, flags=()).stdout == "interrupted\n"


def test_sigint_ends_a_program_that_does_not_catch_it(script: Script) -> None:
    body = """
        async def main():
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(3600)

        run(main())
    """
    process = script.run(body, status=-signal.SIGINT)
    assert process.stderr.rstrip().endswith("KeyboardInterrupt")


def test_sigint_with_a_handler_on_the_loop_is_no_interrupt(script: Script) -> None:
    body = """
        async def main():
            stop = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
            os.kill(os.getpid(), signal.SIGINT)
            await stop.wait()
            print("stopped in order")

        run(main())
    """
    assert script.run(body).stdout == "stopped in order\n"


def test_sigint_is_left_alone_by_a_loop_in_another_thread(script: Script) -> None:
    body = """
        result = []

        async def main():
            await asyncio.sleep(0.3)
            result.append("finished")

        thread = threading.Thread(target=lambda: run(main()))
        thread.start()
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
        except KeyboardInterrupt:
            print("interrupted")
        thread.join()
        print(*result)
    """
    assert script.run(body).stdout == "interrupted\nfinished\n"
