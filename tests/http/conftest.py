"""Fixtures of the HTTP client's tests: a coroutine test function runs on a new loop of whorl's."""

from __future__ import annotations

import asyncio
import inspect

import pytest

import whorl

#: Seconds after which a coroutine test gives up. Long, so that only a hang reaches it.
PATIENCE = 20.0


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

    with asyncio.Runner(loop_factory=whorl.new_event_loop) as runner:
        runner.run(bounded())
    assert not errors, f"the loop's exception handler was called: {errors}"
    return True
