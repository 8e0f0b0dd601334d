"""Repository-wide settings of pytest: what is said at the top of each run, and the end of what hangs."""

import faulthandler
import os
import platform
import sys
import sysconfig
from collections.abc import Generator

import pytest

#: For the tear-down of a test, and for the end of the interpreter, in seconds: only a hang takes as long.
LIMIT = 300

pytest.register_assert_rewrite("tests.guides")

_stderr = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    # The true one: it is captured while tests run.
    config.stash[_stderr] = os.dup(sys.stderr.fileno())


def pytest_report_header(config: pytest.Config) -> str:
    """The interpreter and its threading, and whorl itself: what a report of a failure needs first."""
    build = "free-threaded" if sysconfig.get_config_var("Py_GIL_DISABLED") else "with the GIL"
    interpreter = f"{platform.python_implementation()} {platform.python_version()} ({build})"
    try:
        import whorl
    except ImportError as error:
        return f"{interpreter}, whorl cannot be imported: {error}"
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    enabled = ", which has put the GIL back" if gil and build == "free-threaded" else ""
    return f"{interpreter}, whorl {whorl.__version__}{enabled}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """pytest-timeout stops its clock when a test fails: a hang of what comes after ends the run, with the
    stacks of all threads."""
    faulthandler.dump_traceback_later(LIMIT, exit=True, file=item.config.stash[_stderr])
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def pytest_unconfigure() -> None:
    """A thread that a failed test left running keeps the interpreter from its end."""
    faulthandler.dump_traceback_later(LIMIT, exit=True)
