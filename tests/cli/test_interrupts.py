"""Ctrl-C in a program that ``whorl run`` runs."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Script

IN_A_COROUTINE = """
    import asyncio

    async def main():
        print("ready", flush=True)
        try:
            await asyncio.sleep(3600)
        finally:
            print("cleaned up", flush=True)

    asyncio.run(main())
"""

IN_A_CALLBACK = """
    import asyncio, time

    def wait():
        print("ready", flush=True)
        time.sleep(3600)

    loop = asyncio.new_event_loop()
    loop.call_soon(wait)
    try:
        loop.run_forever()
    finally:
        loop.close()
        print("cleaned up", flush=True)
"""

IN_RUN_FOREVER = """
    import asyncio

    loop = asyncio.new_event_loop()
    loop.call_soon(lambda: print("ready", flush=True))
    try:
        loop.run_forever()
    finally:
        loop.close()
        print("cleaned up", flush=True)
"""


@pytest.mark.parametrize(
    "source",
    [IN_A_COROUTINE, IN_A_CALLBACK, IN_RUN_FOREVER],
    ids=["in a coroutine", "in a callback", "in run_forever"],
)
def test_an_interrupt_cleans_up_and_ends_by_the_signal(
    script: Script, tmp_path: Path, environment: dict[str, str], source: str
) -> None:
    script("program.py", source)
    with subprocess.Popen(
        [sys.executable, "-m", "whorl", "run", "program.py"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=100)
        finally:
            process.kill()
    assert output == "cleaned up\n"
    assert errors.endswith("KeyboardInterrupt\n")
    assert "whorl/program.py" not in errors
    assert process.returncode == -signal.SIGINT
