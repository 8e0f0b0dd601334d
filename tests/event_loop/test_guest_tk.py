"""A guest in the main loop of Tk, under Xvfb."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .support import PATIENCE


def test_tk(tmp_path: Path) -> None:
    """Tk's own main loop, on the display that there is or under Xvfb."""
    pytest.importorskip("tkinter", reason="this interpreter has no tkinter")
    with display() as name:
        script = """
            import asyncio, tkinter, whorl.guest
            root = tkinter.Tk()
            ticks = []

            async def ticker():
                while True:
                    ticks.append(None)
                    await asyncio.sleep(0.001)

            async def main():
                task = asyncio.create_task(ticker())
                while len(ticks) < 5:
                    await asyncio.sleep(0.001)
                # A dialog within a task: the others continue.
                before, done = len(ticks), tkinter.BooleanVar()
                asyncio.get_running_loop().call_later(0.01, done.set, True)
                root.wait_variable(done)
                assert len(ticks) > before
                # A button's handler.
                made = asyncio.get_running_loop().create_future()
                root.after(1, lambda: asyncio.create_task(handler(made)))
                return await made

            async def handler(made):
                made.set_result("from a handler")

            def turn(fd, mask):
                try:
                    guest.turn()
                except BaseException:
                    root.quit()
                    raise

            guest = whorl.guest.Guest(main(), done=lambda guest: root.quit())
            fd = guest.fd
            root.createfilehandler(fd, tkinter.READABLE, turn)
            root.mainloop()
            root.deletefilehandler(fd)
            root.destroy()
            print(guest.result())
        """
        program = tmp_path / "program.py"
        program.write_text(textwrap.dedent(script))
        ran = subprocess.run(
            [sys.executable, program],
            env={**os.environ, "DISPLAY": name},
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE,
        )
        assert (ran.stdout, ran.stderr) == ("from a handler\n", "")


@contextmanager
def display() -> Iterator[str]:
    if os.environ.get("DISPLAY"):
        yield os.environ["DISPLAY"]
        return
    xvfb = shutil.which("Xvfb")
    if xvfb is None:
        pytest.skip("no display, and no Xvfb (Debian: xvfb)")
    reading, writing = os.pipe()
    command = [xvfb, "-displayfd", str(writing), "-screen", "0", "640x480x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    try:
        with os.fdopen(reading) as numbers:
            number = numbers.readline().strip()
        if not number:
            pytest.skip("Xvfb does not start here")
        yield f":{number}"
    finally:
        server.terminate()
        server.wait()
