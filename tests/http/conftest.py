"""Fixtures of the HTTP client's tests: a coroutine test function runs on a new loop of whorl's.

One that asks for ``client`` runs three times: with ``whorl.http`` on whorl's loop and on stock asyncio's, and
with aiohttp on asyncio's, which is the control: what is expected of whorl is what aiohttp's users are used
to. A test that says more than aiohttp keeps asks for ``ours``, and says why.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest

import whorl
from tests.event_loop.certificates import Certificates
from whorl import testing

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


def _loop_factory(item: pytest.Function) -> Callable[[], asyncio.AbstractEventLoop]:
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    chosen = parameters.get("client", parameters.get("ours", "whorl"))
    if chosen != "whorl":
        return asyncio.new_event_loop
    jumps = item.get_closest_marker("jumping_clock")
    return testing.new_event_loop if jumps is not None and all(jumps.args) else whorl.new_event_loop


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
            await pyfuncitem.obj(**arguments)

    with asyncio.Runner(loop_factory=_loop_factory(pyfuncitem)) as runner:
        runner.run(bounded())
        if {"client", "ours"} & set(arguments):
            # What was left unclosed warns when it is collected, and belongs to this test.
            gc.collect()
    assert not errors, f"the loop's exception handler was called: {errors}"
    return True


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates for ``localhost`` and 127.0.0.1, and contexts made from them."""
    return Certificates(tmp_path_factory.mktemp("certificates"))
