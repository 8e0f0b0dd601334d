"""Under ``whorl run``, every way to a new event loop leads to whorl's."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Run, Script

# `name()` says which loop runs it.
PRELUDE = """
import asyncio, io, sys, threading, warnings

async def name():
    loop = asyncio.get_running_loop()
    return f"{type(loop).__module__}.{type(loop).__qualname__}"

def finish(loop):
    try:
        return loop.run_until_complete(name())
    finally:
        loop.close()
"""

WHORLS = "whorl.event_loop.EventLoop\n"

WAYS = {
    "asyncio.run": "print(asyncio.run(name()))",
    "asyncio.run with debug": "print(asyncio.run(name(), debug=True))",
    "Runner": "with asyncio.Runner() as runner:\n    print(runner.run(name()))",
    "new_event_loop": "print(finish(asyncio.new_event_loop()))",
    "the events module": "print(finish(asyncio.events.new_event_loop()))",
    "imported by name": "from asyncio import new_event_loop, run\nprint(finish(new_event_loop()))",
    "a thread": (
        "thread = threading.Thread(target=lambda: print(asyncio.run(name())))\nthread.start()\nthread.join()"
    ),
    "IsolatedAsyncioTestCase": (
        "import unittest\n"
        "class Test(unittest.IsolatedAsyncioTestCase):\n"
        "    async def test(self):\n"
        "        print(await name())\n"
        "assert unittest.TextTestRunner(stream=io.StringIO()).run(Test('test')).wasSuccessful()"
    ),
}

# Policies, which warn from 3.14 on when the program itself names them.
OLD_WAYS = {
    "the policy": "print(finish(asyncio.get_event_loop_policy().new_event_loop()))",
    "a policy that was reset": "asyncio.set_event_loop_policy(None)\nprint(asyncio.run(name()))",
    "the policy after a reset": (
        "asyncio.set_event_loop_policy(None)\nprint(finish(asyncio.get_event_loop_policy().new_event_loop()))"
    ),
    "a policy of the program's": (
        "class Policy(asyncio.DefaultEventLoopPolicy):\n    pass\n"
        "asyncio.set_event_loop_policy(Policy())\n"
        "print(finish(asyncio.get_event_loop_policy().new_event_loop()))"
    ),
    "whorl.install": "import whorl\nwhorl.install()\nprint(asyncio.run(name()))",
}


@pytest.mark.parametrize("way", WAYS)
def test_new_loops(whorl: Run, script: Script, way: str) -> None:
    script("program.py", PRELUDE + WAYS[way])
    result = whorl("run", "program.py", python=("-W", "error"))
    assert (result.stdout, result.stderr, result.returncode) == (WHORLS, "", 0)


def test_new_loops_in_a_module(whorl: Run, script: Script) -> None:
    script("program.py", PRELUDE + WAYS["asyncio.run"])
    assert whorl("run", "-m", "program").stdout == WHORLS


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="Python 3.16 has no event loop policies")
@pytest.mark.parametrize("way", OLD_WAYS)
def test_policies(whorl: Run, script: Script, way: str) -> None:
    script("program.py", PRELUDE + OLD_WAYS[way])
    result = whorl("run", "program.py", python=("-W", "ignore"))
    assert (result.stdout, result.stderr, result.returncode) == (WHORLS, "", 0)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="from Python 3.14 on, get_event_loop makes no loop")
def test_get_event_loop(whorl: Run, script: Script) -> None:
    script("program.py", PRELUDE + "print(finish(asyncio.get_event_loop()))")
    result = whorl("run", "program.py", python=("-W", "ignore"))
    assert (result.stdout, result.stderr, result.returncode) == (WHORLS, "", 0)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio.EventLoop is new in Python 3.13")
def test_the_default_loop_class(whorl: Run, script: Script) -> None:
    script("program.py", PRELUDE + "print(asyncio.run(name(), loop_factory=asyncio.EventLoop))")
    assert whorl("run", "program.py").stdout == WHORLS


@pytest.mark.parametrize("arguments", ["", "None", "selectors.SelectSelector()"])
def test_the_plain_loop_class(whorl: Run, script: Script, arguments: str) -> None:
    """uvicorn names it where uvloop is not installed."""
    script(
        "program.py",
        PRELUDE
        + f"import selectors\nloop = asyncio.SelectorEventLoop({arguments})\n"
        + "import whorl\n"
        + "print(isinstance(loop, whorl.EventLoop), isinstance(loop, asyncio.SelectorEventLoop))\n"
        + "loop.close()",
    )
    assert whorl("run", "program.py").stdout == "True True\n"


@pytest.mark.parametrize(
    "way",
    [
        "print(uvloop.run(name()))",
        "with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:\n    print(runner.run(name()))",
        "print(finish(uvloop.new_event_loop()))",
        "uvloop.install()\nprint(asyncio.run(name()))",
        "asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())\nprint(asyncio.run(name()))",
    ],
)
def test_uvloop_is_not_used_where_it_is_installed(whorl: Run, script: Script, way: str) -> None:
    # A stand-in, so that the test needs no uvloop: any use of its own functions fails.
    script(
        "uvloop.py",
        """
        def new_event_loop(): raise AssertionError
        def install(): raise AssertionError
        def run(main, **options): raise AssertionError
        class EventLoopPolicy:
            def __init__(self): raise AssertionError
        """,
    )
    script("program.py", f"{PRELUDE}\nimport uvloop\n{way}")
    result = whorl("run", "program.py", python=("-W", "ignore"))
    assert (result.stdout, result.stderr, result.returncode) == (WHORLS, "", 0)


def test_a_missing_uvloop_is_missing(whorl: Run, script: Script) -> None:
    # Where one is installed it is taken off the path; the name is looked up all the same.
    script(
        "program.py",
        """
        import sys
        sys.path[:] = [entry for entry in sys.path if "site-packages" not in entry]
        try:
            import uvloop
        except ModuleNotFoundError as error:
            print(error.name)
        """,
    )
    assert whorl("run", "program.py").stdout == "uvloop\n"
