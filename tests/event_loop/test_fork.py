"""Fork: the child never touches the parent's poller, and gets a clear error or a loop of its own."""

from __future__ import annotations

import sys
import textwrap

import pytest

from .conftest import Script
from .support import control_xfail

# Forking with threads about warns from Python 3.12 on; these programs have none when they fork.
FLAGS = ("-W", "ignore::DeprecationWarning")

COMMON = """
def finish(check):
    '''Ends a forked child: status 0 when check() succeeds, else its traceback and 1.'''
    try:
        check()
    except BaseException:
        import traceback
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


async def parent_lives(child, sockets):
    '''The child ended well, and our watched socket, timers and threads still work.'''
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        await asyncio.sleep(0.01)
    assert os.waitstatus_to_exitcode(status) == 0, status
    loop = asyncio.get_running_loop()
    ours, theirs = sockets
    theirs.send(b"x")
    seen = loop.create_future()
    loop.readable = lambda: (ours.recv(10), seen.done() or seen.set_result(1))
    await asyncio.wait_for(seen, 5)
    await asyncio.wait_for(asyncio.to_thread(int), 5)
    print("parent lives")


async def watch():
    loop = asyncio.get_running_loop()
    sockets = socket.socketpair()
    loop.readable = lambda: None
    loop.add_reader(sockets[0], lambda: loop.readable())
    await asyncio.sleep(0.01)
    return sockets
"""


def check(script: Script, body: str) -> None:
    process = script.run(textwrap.dedent(COMMON) + textwrap.dedent(body), flags=FLAGS, watchdog=False)
    assert process.stdout == "parent lives\n", process.stderr
    assert not process.stderr


def test_a_child_has_no_running_loop(script: Script) -> None:
    check(script, """
        async def main():
            sockets = await watch()
            child = os.fork()
            if not child:
                def no_loop():
                    try:
                        asyncio.get_running_loop()
                    except RuntimeError:
                        return
                    raise AssertionError("there is a running loop")
                finish(no_loop)
            await parent_lives(child, sockets)

        run(main())
    """)  # fmt: skip


def test_a_child_can_run_a_loop_of_its_own(script: Script) -> None:
    check(script, """
        async def in_child():
            server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert await reader.read() == b""
            writer.close()
            server.close()
            await asyncio.sleep(0.01)

        async def main():
            sockets = await watch()
            child = os.fork()
            if not child:
                finish(lambda: run(in_child()))
            await parent_lives(child, sockets)

        run(main())
    """)  # fmt: skip


@control_xfail("asyncio's child changes the parent's epoll set", strict=False)
def test_the_parents_loop_used_in_the_child_leaves_the_parent_alone(script: Script) -> None:
    """A clear error, or no effect: never a change to what the parent waits for."""
    check(script, """
        async def main():
            sockets = await watch()
            loop = asyncio.get_running_loop()
            child = os.fork()
            if not child:
                def misuse():
                    for call in (
                        lambda: loop.call_soon(print),
                        lambda: loop.call_later(1, print),
                        lambda: loop.call_soon_threadsafe(print),
                        lambda: loop.add_reader(sockets[1], print),
                        lambda: loop.remove_reader(sockets[0]),
                        lambda: loop.add_writer(sockets[0], print),
                        lambda: loop.remove_writer(sockets[0]),
                        lambda: loop.stop(),
                    ):
                        with contextlib.suppress(RuntimeError):
                            call()
                    with contextlib.suppress(RuntimeError):
                        loop.close()
                finish(misuse)
            await parent_lives(child, sockets)

        run(main())
    """)  # fmt: skip


@pytest.mark.whorl_only
def test_running_the_parents_loop_in_the_child_is_a_clear_error(script: Script) -> None:
    check(script, """
        loop = new_event_loop()

        async def main():
            sockets = await watch()
            child = os.fork()
            if not child:
                def misuse():
                    coroutine = asyncio.sleep(0)
                    try:
                        loop.run_until_complete(coroutine)
                    except RuntimeError as error:
                        assert "fork" in str(error) or "running" in str(error), error
                    else:
                        raise AssertionError("it ran")
                    finally:
                        coroutine.close()
                finish(misuse)
            await parent_lives(child, sockets)

        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    """)  # fmt: skip


@pytest.mark.whorl_only
def test_a_loop_made_before_the_fork_and_run_after_it_is_a_clear_error_or_works(script: Script) -> None:
    check(script, """
        loop = new_event_loop()
        loop.run_until_complete(asyncio.sleep(0))
        child = os.fork()
        if not child:
            def use():
                coroutine = asyncio.sleep(0.01)
                try:
                    loop.run_until_complete(coroutine)
                except RuntimeError as error:
                    assert "fork" in str(error), error
                finally:
                    coroutine.close()
            finish(use)

        async def main():
            await parent_lives(child, await watch())

        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    """)  # fmt: skip


@control_xfail("asyncio's child closes what it inherited, the parent's wake-up with it", run=False)
def test_a_child_that_ends_in_the_ordinary_way_leaves_the_parent_alone(script: Script) -> None:
    """The interpreter's shutdown in the child destroys the loop object and whatever it holds."""
    check(script, """
        loop = new_event_loop()
        sockets = loop.run_until_complete(watch())
        child = os.fork()
        if not child:
            del loop
            import gc
            gc.collect()
            sys.exit(0)
        loop.run_until_complete(parent_lives(child, sockets))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    """)  # fmt: skip


@control_xfail("asyncio unset the wake-up descriptor in the child from 3.12 on", below=(3, 12), strict=False)
def test_signals_to_the_child_do_not_reach_the_parents_handlers(script: Script) -> None:
    check(script, """
        async def main():
            sockets = await watch()
            loop = asyncio.get_running_loop()
            got = []
            loop.add_signal_handler(signal.SIGUSR1, got.append, os.getpid())
            read, write = os.pipe()
            child = os.fork()
            if not child:
                def wait():
                    os.write(write, b"x")
                    deadline = time.monotonic() + 0.5
                    while time.monotonic() < deadline:
                        time.sleep(0.01)
                finish(wait)
            os.read(read, 1)
            os.kill(child, signal.SIGUSR1)
            await parent_lives(child, sockets)
            assert got == [], got
            os.kill(os.getpid(), signal.SIGUSR1)
            while not got:
                await asyncio.sleep(0.01)
            loop.remove_signal_handler(signal.SIGUSR1)

        run(main())
    """)  # fmt: skip


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="a child inherits the running loop's handlers before 3.12"
)
def test_a_child_can_handle_signals_on_its_own_loop(script: Script) -> None:
    check(script, """
        async def in_child(write):
            stop = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
            os.write(write, b"x")
            await stop.wait()

        async def main():
            sockets = await watch()
            got = []
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, got.append, 1)
            read, write = os.pipe()
            child = os.fork()
            if not child:
                finish(lambda: run(in_child(write)))
            os.read(read, 1)
            os.kill(child, signal.SIGTERM)
            await parent_lives(child, sockets)
            assert got == []

        run(main())
    """)  # fmt: skip


def test_multiprocessing_by_fork_from_a_running_loop(script: Script) -> None:
    check(script, """
        import multiprocessing

        async def in_child(number):
            await asyncio.sleep(0.01)
            return number * 2

        def work(number):
            return run(in_child(number))

        async def main():
            sockets = await watch()
            pool = multiprocessing.get_context("fork").Pool(2)
            assert pool.map(work, [1, 2, 3]) == [2, 4, 6]
            pool.close()
            pool.join()
            child = os.fork()
            if not child:
                os._exit(0)
            await parent_lives(child, sockets)

        run(main())
    """)  # fmt: skip
