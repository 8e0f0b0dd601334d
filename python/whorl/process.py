"""Waiting for child processes: by pidfd, and by a thread where the kernel has none (before Linux 5.3).

A pidfd needs neither a signal handler nor a thread. asyncio's child watchers are not used. A status that
another ``wait`` of the process has taken is reported as 255.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from whorl.asyncio_private import base_events

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["watch_child"]

#: The status that asyncio reports for a child that other code has waited for.
UNKNOWN_STATUS = 255


def watch_child(loop: Any, pid: int, exited: Callable[[int], None]) -> None:
    """Call ``exited(returncode)`` on the loop's thread once child ``pid`` has ended.

    The return code is negative for a child ended by a signal, and 255 if the status was taken by someone
    else's wait. A pidfd (Linux 5.3) needs no signal handler and no thread; where there is none, a thread
    waits.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except (AttributeError, OSError):
        _watch_by_thread(loop, pid, exited)
        return

    def on_ready() -> None:
        loop._remove_reader(pidfd)
        os.close(pidfd)
        exited(_reap(pid))

    try:
        loop._add_reader(pidfd, on_ready)
    except BaseException:
        os.close(pidfd)
        raise


def _reap(pid: int) -> int:
    while True:
        try:
            _, status = os.waitpid(pid, 0)
        except InterruptedError:
            continue
        except ChildProcessError:
            base_events.logger.warning(
                "child process pid %d exit status already read: will report returncode %d",
                pid,
                UNKNOWN_STATUS,
            )
            return UNKNOWN_STATUS
        return os.waitstatus_to_exitcode(status)


def _watch_by_thread(loop: Any, pid: int, exited: Callable[[int], None]) -> None:
    def wait() -> None:
        returncode = _reap(pid)
        if loop.is_closed():
            base_events.logger.warning("Loop %r that handles pid %r is closed", loop, pid)
            return
        loop.call_soon_threadsafe(exited, returncode)

    threading.Thread(target=wait, name=f"whorl-waitpid-{pid}", daemon=True).start()
