"""A display: a virtual one, or where there is no Xvfb the one that there is."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


class NoDisplayError(Exception):
    """There is no display, and none can be started."""


@contextmanager
def virtual_display() -> Iterator[str]:
    """Start a display that nobody sees; the value of ``DISPLAY``.

    Raises NoDisplayError.
    """
    xvfb = shutil.which("Xvfb")
    if xvfb is None:
        if not os.environ.get("DISPLAY"):
            raise NoDisplayError("there is no Xvfb (Debian: xvfb), and no display")
        yield os.environ["DISPLAY"]
        return
    reading, writing = os.pipe()
    command = [xvfb, "-displayfd", str(writing), "-screen", "0", "1024x768x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    try:
        with os.fdopen(reading) as numbers:
            number = numbers.readline().strip()
        if not number:
            raise NoDisplayError("Xvfb does not start here")
        yield f":{number}"
    finally:
        server.terminate()
        server.wait()
