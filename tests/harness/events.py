"""What a worker reports to its supervisor: a file of JSON objects, one to a line.

Each has an ``event``: ``module`` (the ids of the tests found), ``start``, ``end``, ``fixture`` (what stands
around tests and did not succeed) and ``done``. What is written is flushed at once, so that a hang or a crash
is known to the test in which it happened.
"""

from __future__ import annotations

import json
import os
from typing import Any, TextIO

#: The id that stands for a module as a whole when it has no tests to name.
WHOLE_MODULE = "(module)"


class Stream:
    """The file of events. Only the process that opened it writes; a forked child that gets here is ended."""

    def __init__(self, path: str) -> None:
        self._file: TextIO = open(path, "a", encoding="utf-8")
        self._owner = os.getpid()

    def write(self, event: str, **fields: Any) -> None:
        """Append one event and flush it."""
        if os.getpid() != self._owner:
            os._exit(
                70
            )  # a test's forked child fell out of its test; it must not continue as a second test runner
        self._file.write(json.dumps({"event": event, **fields}) + "\n")
        self._file.flush()
