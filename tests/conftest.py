"""Repository-wide settings of pytest: what is said at the top of each run."""

import platform
import sys
import sysconfig

import pytest


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
