"""Programs as child processes: what the demonstrations run the examples with."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

#: What comes before a program on Python's command line, so that its event loops are whorl's.
WHORL_RUN = ("-m", "whorl", "run")


@contextlib.contextmanager
def child(*command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run *command*, and see to it that the process is gone on leaving, however that happens."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(timeout=5)
                except subprocess.TimeoutExpired:
                    process.kill()


def end_children_on_termination() -> None:
    """Leave every context on SIGTERM: without a handler it would end this process and leave its children."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
