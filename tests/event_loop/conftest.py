"""Fixtures of the event-loop tests.

``loop_factory`` and ``loop`` are parametrised: each test runs on whorl's loop and on stock asyncio's as the
control. The environment variable ``WHORL_TEST_LOOPS`` (default ``whorl,asyncio``) restricts that,
``WHORL_TEST_DEBUG=1`` puts the loops into debug mode. A coroutine test function is run on ``loop``. When a
test has passed, tear-down fails it for what it left behind: exceptions that reached the loop's handler,
tasks, file descriptors, and warnings raised where no one could catch them (a coroutine never awaited, a
transport never closed).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import inspect
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .support import PATIENCE, open_fds

if TYPE_CHECKING:
    from .certificates import Certificates

HERE = Path(__file__).parent
LOOPS = tuple(name for name in os.environ.get("WHORL_TEST_LOOPS", "whorl,asyncio").split(",") if name)
DEBUG = os.environ.get("WHORL_TEST_DEBUG") == "1"

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Sockets = tuple[socket.socket, socket.socket]

call_passed = pytest.StashKey[bool]()
known_fault = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    unknown = set(LOOPS) - {"whorl", "asyncio"}
    if unknown or not LOOPS:
        raise pytest.UsageError(
            f"WHORL_TEST_LOOPS names {sorted(unknown) or 'no loop'}; it takes whorl and asyncio"
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if HERE not in item.path.parents:
            continue
        if config.pluginmanager.hasplugin("timeout") and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(60))
        callspec = getattr(item, "callspec", None)
        name = callspec.params.get("loop_name") if callspec is not None else None
        if item.get_closest_marker("whorl_only") and (name == "asyncio" or "whorl" not in LOOPS):
            item.add_marker(
                pytest.mark.skip(reason="a promise of whorl's alone: stock asyncio is no control for it")
            )
        if name == "asyncio":
            for mark in item.iter_markers("control_xfail"):
                below, since = mark.kwargs["below"], mark.kwargs["since"]
                if (below is None or sys.version_info < below) and (
                    since is None or sys.version_info >= since
                ):
                    item.add_marker(
                        pytest.mark.xfail(
                            reason=f"control: {mark.args[0]}",
                            strict=mark.kwargs["strict"],
                            run=mark.kwargs["run"],
                        )
                    )
                    # What it leaves behind is part of the same fault.
                    item.stash[known_fault] = True


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a coroutine test function on the ``loop`` fixture."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    loop: asyncio.AbstractEventLoop = pyfuncitem.funcargs["loop"]
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}

    async def bounded() -> None:
        # Inside the loop, so that what the test was waiting for shows in the traceback.
        async with asyncio.timeout(PATIENCE * 2):
            await pyfuncitem.obj(**arguments)

    loop.run_until_complete(bounded())
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    if report.when == "call":
        item.stash[call_passed] = report.outcome == "passed" and not item.stash.get(known_fault, False)
    return report


@pytest.fixture(scope="session", autouse=True)
def _quick_collections() -> Iterator[None]:
    """Tear-down collects garbage after every test: what was there before the first need not be walked each
    time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(params=LOOPS)
def loop_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def loop_factory(loop_name: str, request: pytest.FixtureRequest) -> LoopFactory:
    """Makes new event loops of the kind under test. Without whorl installed, its half fails: it is never
    skipped."""
    return loop_factory_of(loop_name, request.node)


def loop_factory_of(loop_name: str, item: pytest.Item) -> LoopFactory:
    """The factory of the loop that a test runs on; ``jumping_clock`` marks those whose clock jumps, and
    ``jumping_clock(False)`` an exception in a file that is marked."""
    mark = item.get_closest_marker("jumping_clock")
    jumps = mark is not None and all(mark.args)
    if loop_name == "asyncio" and not jumps:
        return asyncio.new_event_loop
    import whorl
    from whorl import testing

    from .jumping_control import JumpingControl

    if loop_name == "asyncio":
        return JumpingControl
    factory: LoopFactory = testing.new_event_loop if jumps else whorl.new_event_loop
    return factory


class LoopErrors(list[dict[str, Any]]):
    """What reached the loop's exception handler. A test that expects something takes it out."""

    def record(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.append(context)

    def take(self) -> dict[str, Any]:
        """The one context there is; fails when there is none, or another."""
        assert len(self) == 1, f"expected one call of the exception handler, had {len(self)}: {list(self)}"
        return self.pop()


@pytest.fixture
def loop_errors() -> LoopErrors:
    return LoopErrors()


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaks file descriptors, changes process-wide signal state, or warns where none can
    catch it."""
    # What a failed test before this one left behind is not this one's: drop the traceback that keeps it
    # alive.
    for name in ("last_exc", "last_value", "last_type", "last_traceback"):
        sys.__dict__.pop(name, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
    before = open_fds()
    threads = set(threading.enumerate())
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    unraisable: list[str] = []

    def note(event: sys.UnraisableHookArgs) -> None:
        unraisable.append(
            f"{type(event.exc_value).__name__}: {event.exc_value} ({event.err_msg or ''} {event.object!r})"
        )

    previous_hook, sys.unraisablehook = sys.unraisablehook, note
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
            # The loop's own descriptors may last as long as the loop does: drop it.
            request.node.funcargs.clear()
            gc.collect()
    finally:
        sys.unraisablehook = previous_hook
    if not request.node.stash.get(call_passed, False):
        return
    assert not unraisable, "raised where no one could catch it:\n" + "\n".join(unraisable)

    # Threads of a pool that is being shut down may hold a descriptor for a moment longer.
    deadline = time.monotonic() + 2
    while (leaked := set(open_fds().items()) - set(before.items())) and time.monotonic() < deadline:
        time.sleep(0.01)
        gc.collect()
    assert not leaked, f"file descriptors left open: {sorted(leaked)}"
    lost = {fd: name for fd, name in before.items() if fd not in open_fds()}
    assert not lost, f"file descriptors closed that were not the test's own: {lost}"
    for thread in set(threading.enumerate()) - threads:
        thread.join(5)
        assert not thread.is_alive(), f"thread left running: {thread}"
    now = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    assert now == wakeup, f"signal wake-up descriptor was {wakeup}, is {now}"


@pytest.fixture
def loop(
    request: pytest.FixtureRequest,
    loop_factory: LoopFactory,
    loop_errors: LoopErrors,
    nothing_left_behind: None,
) -> Iterator[asyncio.AbstractEventLoop]:
    """A new event loop with an exception handler that fails the test unless the test takes what it got."""
    loop = loop_factory()
    loop.set_exception_handler(loop_errors.record)
    if DEBUG:
        loop.set_debug(True)
    try:
        yield loop
        passed = request.node.stash.get(call_passed, False)
        tasks: list[str] = []
        if not loop.is_closed() and not loop.is_running():
            # A loop that failed its test may not settle, which the failure has shown.
            with contextlib.nullcontext() if passed else contextlib.suppress(Exception):
                tasks = settle(loop)
                # A job that waits for what the failed test did not do would not end.
                if passed:
                    loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
        # What is never retrieved, or never closed, reports itself when it is collected.
        gc.collect()
        if passed:
            assert not tasks, "tasks left pending:\n" + "\n".join(tasks)
            assert not loop_errors, f"the loop's exception handler was called: {list(loop_errors)}"
    finally:
        if not loop.is_running():
            loop.close()


def settle(loop: asyncio.AbstractEventLoop) -> list[str]:
    """Ends what a test left running on a loop; returns the tasks that it had left pending."""

    async def turn() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    loop.run_until_complete(turn())
    tasks = [task for task in asyncio.all_tasks(loop) if not task.done()]
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=PATIENCE))
    loop.run_until_complete(loop.shutdown_asyncgens())
    return [repr(task) for task in tasks]


@pytest.fixture
def pair() -> Iterator[Sockets]:
    """Two connected sockets that do not block."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    # Here, so that the other tests run where the ``cryptography`` package has no wheel.
    from .certificates import Certificates

    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The TLS engine of the connections that a test makes: the fallback, unless the test sets another."""
    name: str = getattr(request, "param", "object")
    if name == "object":
        monkeypatch.setenv("WHORL_TLS_ENGINE", "object")
    else:
        monkeypatch.delenv("WHORL_TLS_ENGINE", raising=False)
    return name


PRELUDE = """\
import asyncio, contextlib, faulthandler, os, signal, socket, sys, threading, time

if {watchdog}:
    # A hang shows where it hangs, and ends.
    faulthandler.dump_traceback_later({limit}, exit=True)

if {name!r} == "whorl":
    from whorl import new_event_loop
else:
    from asyncio import new_event_loop


def run(main, **options):
    with asyncio.Runner(loop_factory=new_event_loop, **options) as runner:
        return runner.run(main)

"""


class Script:
    """Runs a program in a process of its own, with ``new_event_loop`` and ``run`` of the loop under test at
    hand."""

    def __init__(self, loop_name: str, directory: Path) -> None:
        self.loop_name = loop_name
        self.directory = directory
        self.started: list[subprocess.Popen[str]] = []

    def start(
        self,
        body: str,
        *arguments: str,
        flags: Sequence[str] = ("-W", "error"),
        env: dict[str, str] | None = None,
        watchdog: bool = True,
    ) -> subprocess.Popen[str]:
        """Starts the program in a session of its own; its standard streams are pipes of text.

        ``watchdog=False`` is for programs that fork: the interpreter of the child would wait, at its end, for
        faulthandler's thread, which is not there.
        """
        path = self.directory / f"script_{len(self.started)}.py"
        prelude = PRELUDE.format(name=self.loop_name, limit=PATIENCE * 2, watchdog=watchdog)
        path.write_text(prelude + textwrap.dedent(body), encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, *flags, str(path), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(
        self, body: str, *arguments: str, status: int | None = 0, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Runs the program to its end, and fails unless it ends with ``status`` (``None``: any)."""
        process = self.start(body, *arguments, **options)
        try:
            output, errors = process.communicate(timeout=PATIENCE * 3)
        except subprocess.TimeoutExpired:
            self.finish()
            output, errors = "", "it did not end"
        if status is not None and process.returncode != status:
            pytest.fail(
                f"exit status {process.returncode}, not {status}\n--- output\n{output}\n--- errors\n{errors}"
            )
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def finish(self) -> None:
        for process in self.started:
            # The whole session, so that none of its children holds on to our pipes.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
            process.wait()


@pytest.fixture
def script(loop_name: str, tmp_path: Path, nothing_left_behind: None) -> Iterator[Script]:
    if loop_name == "whorl" and importlib.util.find_spec("whorl") is None:
        pytest.fail("whorl is not installed")
    running = Script(loop_name, tmp_path)
    yield running
    running.finish()
