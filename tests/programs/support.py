"""What the tests of real programs share: the loops they run on, and a guard that nothing is left behind.

Each program runs on every loop that ``WHORL_TEST_LOOPS`` names, by commas; ``whorl,asyncio`` unless set.
Stock asyncio is the control: what fails there too is a defect of the test or of the program, not of the loop.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
import ssl
import sys
import warnings
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import pytest

if TYPE_CHECKING:
    import trustme

T = TypeVar("T")
LoopFactory = Callable[[], asyncio.AbstractEventLoop]

KNOWN_LOOPS = ("whorl", "asyncio", "uvloop")
REQUIRE_SERVICES = os.environ.get("WHORL_REQUIRE_SERVICES") == "1"

# A program's own limit in seconds. Generous: it is there to end a hang with a traceback, not to measure.
DEFAULT_LIMIT = 60.0

_warmed_up: set[str] = set()


@dataclass(frozen=True)
class Tls:
    """A server's and a client's context of one private authority, and the same as files.

    Attributes:
        server: for ``localhost`` and 127.0.0.1.
        client: trusts this authority alone.
        authority: the authority itself.
        authority_path: its certificate, as a PEM file.
        chain_path: the server's certificate, as a PEM file.
        key_path: the server's private key, as a PEM file.
    """

    server: ssl.SSLContext
    client: ssl.SSLContext
    authority: trustme.CA
    authority_path: str
    chain_path: str
    key_path: str


def loop_names() -> list[str]:
    """The loops to test on, in order. An unknown name is an error: misspelt, it must not pass for success."""
    names = [
        name.strip()
        for name in os.environ.get("WHORL_TEST_LOOPS", "whorl,asyncio").split(",")
        if name.strip()
    ]
    unknown = [name for name in names if name not in KNOWN_LOOPS]
    if unknown or not names:
        raise pytest.UsageError(
            f"WHORL_TEST_LOOPS names {unknown or 'nothing'}; known: {', '.join(KNOWN_LOOPS)}"
        )
    return names


def loop_factory(name: str) -> LoopFactory:
    """The factory of the named loop. One that cannot be imported fails the test: it is what is tested."""
    if name == "whorl":
        import whorl

        return whorl.new_event_loop
    if name == "uvloop":
        import uvloop

        factory: LoopFactory = uvloop.new_event_loop
        return factory
    return asyncio.SelectorEventLoop


def python_command(name: str, *arguments: str) -> list[str]:
    """The command line which runs ``python *arguments`` with every new event loop being the named one.

    Stock asyncio needs nothing; whorl's is the user's own way in, ``whorl run``. uvloop has no such command.
    """
    if name == "whorl":
        return [sys.executable, "-m", "whorl", "run", *arguments]
    if name == "asyncio":
        return [sys.executable, *arguments]
    pytest.skip(f"{name} has no command which runs another program on it")


def require_package(*modules: str) -> None:
    """Skip the calling test module, out loud, when a package is not installed for this interpreter.

    With ``WHORL_REQUIRE_SERVICES=1`` it fails instead: what is wanted there is every program, run.
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if not missing:
        return
    tag = f"{sys.version_info.major}.{sys.version_info.minor}{sys.abiflags}"
    reason = f"not installed for Python {tag}: {', '.join(missing)} (requirements/programs.txt)"
    if REQUIRE_SERVICES:
        raise ModuleNotFoundError(reason)
    pytest.skip(reason, allow_module_level=True)


def require_psycopg() -> None:
    """The same for psycopg, which needs libpq: its own, or where it has no compiled part, the machine's."""
    require_package("psycopg")
    try:
        importlib.import_module("psycopg")
    except ImportError as error:
        if REQUIRE_SERVICES:
            raise
        pytest.skip(f"libpq not found (Debian: apt-get install libpq5): {error}", allow_module_level=True)


def missing_service(reason: str) -> NoReturn:
    """Skip with the reason, or fail with it when ``WHORL_REQUIRE_SERVICES=1``."""
    if REQUIRE_SERVICES:
        pytest.fail(f"{reason}; WHORL_REQUIRE_SERVICES=1 forbids skipping", pytrace=False)
    pytest.skip(reason)


def kernel_objects() -> dict[int, str]:
    """The process's open sockets, pipes, epolls, eventfds and pidfds: what a loop could leave behind."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the listing's own descriptor
        if target.startswith(("socket:", "pipe:", "anon_inode:")):
            found[int(name)] = target
    return found


class Harness:
    """Runs coroutines, each on a fresh loop of one kind, and remembers what went wrong outside them.

    Attributes:
        name: the loop's name, one of `KNOWN_LOOPS`.
        factory: makes a loop of that kind.
        complaints: one line for each unhandled loop exception and each task left running.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.factory = loop_factory(name)
        self.complaints: list[str] = []

    def __call__(
        self, main: Coroutine[Any, Any, T], *, limit: float = DEFAULT_LIMIT, debug: bool | None = None
    ) -> T:
        """Run `main` to its end on a new loop and return its result.

        Raises:
            TimeoutError: `main` took more than `limit` seconds.
        """
        with asyncio.Runner(loop_factory=self.factory, debug=debug) as runner:
            runner.get_loop().set_exception_handler(self._unhandled)
            return runner.run(self._bounded(main, limit))

    async def _bounded(self, main: Coroutine[Any, Any, T], limit: float) -> T:
        loop = asyncio.get_running_loop()
        assert type(loop).__module__.split(".")[0] == self.name, (
            f"running on {type(loop)!r}, not on {self.name}"
        )
        result = await asyncio.wait_for(main, limit)
        for _ in range(10):  # what was closed just now may finish in the next turns
            await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            self.complaints.append(f"task left running: {task!r}")
        return result

    def _unhandled(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        exception = context.get("exception")
        self.complaints.append(f"unhandled in the loop: {context.get('message')}: {exception!r} {context!r}")


@contextmanager
def guarded_harness(name: str) -> Iterator[Harness]:
    """A `Harness`; on leaving, fails if a loop complained or a descriptor is open that was not before."""
    harness = Harness(name)
    if name not in _warmed_up:  # a loop may keep something for the whole process: made here, it is not a leak
        harness(asyncio.sleep(0))
        _warmed_up.add(name)
    before = kernel_objects()
    yield harness
    gc.collect()  # a task's unseen exception is reported when the task is collected
    assert not harness.complaints, "\n".join(harness.complaints)
    left = {fd: what for fd, what in kernel_objects().items() if before.get(fd) != what}
    assert not left, f"descriptors left open: {left}"


def collected_after_its_loop(run: Harness, connect: Callable[[], Coroutine[Any, Any, object]]) -> list[str]:
    """Make a connection, close its loop, then have it collected; returns the exceptions out of finalisers."""
    kept: list[object] = []
    raised: list[str] = []

    async def main() -> None:
        kept.append(await connect())

    run(main())
    hook, sys.unraisablehook = sys.unraisablehook, lambda args: raised.append(repr(args.exc_value))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # it was left open
            kept.clear()
            gc.collect()
    finally:
        sys.unraisablehook = hook
    return raised
