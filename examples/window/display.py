"""The display: whether there is one, and a virtual one."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator


class DisplayError(RuntimeError):
    """There is no display, and none can be started; the text says why."""


def has_display() -> bool:
    """Whether a window of this process can be seen."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY"))


@contextlib.contextmanager
def virtual_display() -> Iterator[str]:
    """Run Xvfb while the context lasts, and yield the value of ``DISPLAY``.

    Raises DisplayError if that cannot be.
    """
    xvfb = shutil.which("Xvfb")
    if xvfb is None:
        raise DisplayError("no Xvfb (Debian: xvfb)")
    reading, writing = os.pipe()
    command = [xvfb, "-displayfd", str(writing), "-screen", "0", "1024x768x24", "-nolisten", "tcp"]
    # A session of its own: Ctrl-C in a terminal must not end the display under the window.
    server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL, start_new_session=True)
    os.close(writing)
    try:
        with os.fdopen(reading) as numbers:
            number = numbers.readline().strip()
        if not number:
            raise DisplayError("Xvfb does not start here")
        yield f":{number}"
    finally:
        server.terminate()
        server.wait()
