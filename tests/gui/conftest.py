"""A display: the one that there is, or a virtual one for the session."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.programs.support import missing_service


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """The value of ``DISPLAY``."""
    xvfb = shutil.which("Xvfb")
    if xvfb is None:
        if os.environ.get("DISPLAY"):
            yield os.environ["DISPLAY"]
            return
        missing_service("no Xvfb (Debian: xvfb), and no display")
    reading, writing = os.pipe()
    command = [xvfb, "-displayfd", str(writing), "-screen", "0", "1024x768x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    try:
        with os.fdopen(reading) as numbers:
            number = numbers.readline().strip()
        if not number:
            missing_service("Xvfb does not start here")
        yield f":{number}"
    finally:
        server.terminate()
        server.wait()
