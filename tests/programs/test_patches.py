"""Packages that patch asyncio at import: what they promise works, or a message says why it does not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.programs.support import DEFAULT_LIMIT, python_command, require_package

require_package("nest_asyncio", "nest_asyncio2", "aiodebug")

NESTING = ["nest_asyncio", "nest_asyncio2"]


def program(loop_name: str, home: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Runs the code as a program of its own on the named loop."""
    path = home / "program.py"
    path.write_text(code, encoding="utf-8")
    return subprocess.run(
        python_command(loop_name, str(path)),
        capture_output=True, text=True, timeout=DEFAULT_LIMIT, check=False,
    )  # fmt: skip


# From Python 3.14 on nest_asyncio's apply() wants a current loop, on any loop; nest_asyncio2 does not.
APPLIED = """
import asyncio
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
import {package}
{package}.apply()

async def main():
    await asyncio.sleep(0.01)
    return await asyncio.gather(asyncio.sleep(0, 1), asyncio.to_thread(int, "2"))

print(asyncio.run(main()), {package}.__name__)
print(loop.run_until_complete(main()))
loop.close()
"""


@pytest.mark.parametrize("package", NESTING)
def test_a_program_that_applies_nest_asyncio_and_does_not_nest_runs(
    loop_name: str, tmp_path: Path, package: str
) -> None:
    ended = program(loop_name, tmp_path, APPLIED.format(package=package))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"[1, 2] {package}\n[1, 2]\n"


NESTED = """
import asyncio
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
import {package}
{package}.apply()

async def inner():
    return "inner"

async def main():
    return asyncio.run(inner())

print(loop.run_until_complete(main()))
"""


@pytest.mark.parametrize("package", NESTING)
def test_a_nested_run_is_refused_with_the_way_out(loop_name: str, tmp_path: Path, package: str) -> None:
    ended = program(loop_name, tmp_path, NESTED.format(package=package))
    if loop_name == "asyncio":
        assert ended.stdout == "inner\n"
        return
    assert ended.returncode == 1
    assert "RuntimeError: This event loop is already running: nest_asyncio does not work" in ended.stderr
    assert "await the coroutine" in ended.stderr
    assert "without `whorl run`" in ended.stderr


SLOW = """
import asyncio, time
import aiodebug.log_slow_callbacks
seen = []
aiodebug.log_slow_callbacks.enable(0.05, lambda name, duration: seen.append(name))

async def blocks():
    time.sleep(0.1)

async def main():
    asyncio.get_running_loop().call_soon(time.sleep, 0.1)
    await asyncio.gather(blocks(), asyncio.sleep(0.01))

asyncio.run(main())
print(len(seen), any("blocks" in name for name in seen), any("sleep" in name for name in seen))
"""


def test_aiodebug_names_slow_callbacks(loop_name: str, tmp_path: Path) -> None:
    ended = program(loop_name, tmp_path, SLOW)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "2 True True\n"
