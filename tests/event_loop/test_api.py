"""What the package promises by name, and what a loop is to other libraries."""

from __future__ import annotations

import asyncio
import gc
import inspect
import re
import sys

import pytest

from .conftest import Script
from .support import whorl_only

Loop = asyncio.AbstractEventLoop


@whorl_only
def test_the_public_names(loop: Loop) -> None:
    import whorl

    for name in ("run", "new_event_loop", "EventLoop", "install", "EventLoopPolicy"):
        assert name in whorl.__all__
        assert getattr(whorl, name).__doc__, f"{name} has no docstring"
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", whorl.__version__)
    assert type(loop) is whorl.EventLoop
    other = whorl.EventLoop()
    other.close()
    assert list(inspect.signature(whorl.run).parameters) == ["main", "debug"]


def test_a_loop_is_an_asyncio_loop(loop: Loop) -> None:
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert isinstance(loop, asyncio.BaseEventLoop)
    assert repr(loop)
    assert not loop.is_running()
    assert not loop.is_closed()


def test_a_loop_takes_attributes_and_replaced_methods(loop: Loop) -> None:
    """Instrumentation and tests put things on the instance."""
    loop.label = "mine"  # type: ignore[attr-defined]
    assert loop.__dict__["label"] == "mine"
    calls: list[object] = []
    original = loop.call_soon
    loop.call_soon = lambda *arguments, **options: (calls.append(arguments), original(*arguments, **options))[
        1
    ]  # type: ignore[method-assign, assignment]
    loop.run_until_complete(asyncio.sleep(0))
    loop.call_soon(print)  # type: ignore[unused-ignore]
    assert calls
    del loop.call_soon


def test_a_loop_may_be_subclassed(loop: Loop) -> None:
    class Mine(type(loop)):  # type: ignore[misc]
        def call_later(self, *arguments: object, **options: object) -> object:
            self.counted = getattr(self, "counted", 0) + 1
            return super().call_later(*arguments, **options)

    mine = Mine()
    mine.run_until_complete(asyncio.sleep(0.001))
    mine.close()
    assert mine.counted >= 1


def test_every_public_method_of_asyncios_loop_is_there(loop: Loop) -> None:
    missing = [
        name
        for name in dir(asyncio.SelectorEventLoop)
        if not name.startswith("_") and not hasattr(loop, name)
    ]
    assert missing == []


def test_signatures_agree_with_asyncios(loop: Loop) -> None:
    """Every keyword that asyncio's methods of this version take, ours take."""
    different = []
    for name in dir(asyncio.SelectorEventLoop):
        theirs = getattr(asyncio.SelectorEventLoop, name)
        if name.startswith("_") or not inspect.isfunction(theirs):
            continue
        try:
            ours = inspect.signature(getattr(type(loop), name)).parameters
        except ValueError:
            different.append(f"{name} shows no signature")
            continue
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in ours.values()):
            continue
        missing = [key for key, value in inspect.signature(theirs).parameters.items()
                   if key not in ours and value.kind is value.KEYWORD_ONLY]  # fmt: skip
        if missing:
            different.append(f"{name} lacks {missing}")
    assert different == []


@whorl_only
def test_import_is_quiet_and_starts_no_thread(script: Script) -> None:
    process = script.run("import whorl; print(threading.active_count())")
    assert int(process.stdout) <= 1 + 1  # faulthandler's thread is none of Python's
    assert process.stderr == ""


@pytest.mark.parametrize("how", ["closed", "open"])
def test_a_program_may_end_with_a_loop_of_any_state(script: Script, how: str) -> None:
    close = "loop.close()" if how == "closed" else ""
    script.run(f"""
        loop = new_event_loop()
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.call_soon(print, "never")
        loop.call_later(100, print, "never")
        {close}
    """, flags=("-W", "ignore"))  # fmt: skip


def test_the_loop_survives_garbage_collection_while_it_runs(loop: Loop) -> None:
    async def main() -> None:
        for _ in range(50):
            await asyncio.sleep(0)
            gc.collect()

    loop.run_until_complete(main())
    assert sys.getrefcount(loop) > 0
