"""Fixtures of the HTTP client's tests: a coroutine test function runs on a new loop of whorl's.

One that uses ``client`` runs three times: with ``whorl.http`` on whorl's loop and on stock asyncio's, and
with aiohttp on asyncio's, which is the control: what is expected of whorl is what aiohttp's users are used
to. A test that says more than aiohttp keeps uses ``ours``, and says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from tests.event_loop.certificates import Certificates
from tests.event_loop.conftest import loop_factory_of
from tests.event_loop.jumping_control import JumpingControl
from whorl.http import steps

#: Seconds after which a coroutine test gives up. Long, so that only a hang reaches it.
PATIENCE = 20.0

_OURS = ["whorl", "whorl-on-asyncio"]


def _client(name: str) -> Any:
    if name == "aiohttp":
        return pytest.importorskip("aiohttp", reason="aiohttp, the control, is not installed")
    return importlib.import_module("whorl.http")


@pytest.fixture(params=[*_OURS, "aiohttp"])
def client(request: pytest.FixtureRequest) -> Any:
    """The client under test, as a module: ``whorl.http``, or aiohttp."""
    return _client(request.param)


@pytest.fixture(params=_OURS)
def ours(request: pytest.FixtureRequest) -> Any:
    """``whorl.http``: for what aiohttp does otherwise."""
    return _client(request.param)


@pytest.fixture(params=["whorl", "asyncio"])
def both_loops() -> None:
    """Runs a coroutine test function on whorl's loop and on stock asyncio's."""


def _loop_factory(item: pytest.Function) -> Callable[[], asyncio.AbstractEventLoop]:
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    names = [name for name in ("client", "ours", "both_loops") if name in parameters]
    on_whorl = not names or parameters[names[0]] == "whorl"
    return loop_factory_of("whorl" if on_whorl else "asyncio", item)


@contextlib.contextmanager
def _time_of_aiohttp(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """aiohttp's pool goes by the system's clock: give it the loop's, where that one jumps."""
    connector = sys.modules.get("aiohttp.connector")
    if connector is None or not isinstance(loop, JumpingControl):
        yield
        return
    with mock.patch.object(connector, "monotonic", loop.time):
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a coroutine test function, and fails it for what reached the loop's exception handler."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    errors: list[object] = []

    async def bounded() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: errors.append(context))
        async with asyncio.timeout(PATIENCE):
            with _time_of_aiohttp(loop):
                await pyfuncitem.obj(**arguments)

    with asyncio.Runner(loop_factory=_loop_factory(pyfuncitem)) as runner:
        runner.run(bounded())
        if {"client", "ours"} & set(arguments):
            # What was left unclosed warns when it is collected, and belongs to this test.
            gc.collect()
    assert not errors, f"the loop's exception handler was called: {errors}"
    return True


@pytest.fixture
def coroutines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A name for each connection that the connector's coroutine makes in place of the native half."""
    called = []
    original = steps.acquire

    def acquire(*args: Any) -> Any:
        called.append("acquire")
        return original(*args)

    monkeypatch.setattr(steps, "acquire", acquire)
    return called


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates for ``localhost`` and 127.0.0.1, and contexts made from them."""
    return Certificates(tmp_path_factory.mktemp("certificates"))
