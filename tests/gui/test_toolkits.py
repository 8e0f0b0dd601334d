"""``whorl.gui`` in the main loop of each toolkit; each case is a process (:mod:`tests.gui.cases`)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.event_loop.support import PATIENCE
from tests.gui.support import require_toolkit
from tests.programs.support import missing_service
from tools.toolkits import PACKAGES, TOOLKITS

ROOT = Path(__file__).parents[2]

#: What each case prints.
EVERYWHERE = {
    "results": "ok",
    "freed": "ok",
    "network": "ok",
    "handlers": "ok",
    "started": "ok",
    "runner": "ok",
    "modal": "ok",
    "events_in_tasks": "ok",
    "exits_in_a_task": "cancelled True\nexit 3",
    "exits_in_a_callback": "cancelled True\nexit 3",
    "exits_within_a_dialog": "cancelled True\nexit 3",
    "window_closed": "cancelled\nok",
    "window_closed_by_a_task": "ok",
    "ctrl_c_often": "ok",
    "busy": "ok",
    "busy_toolkit": "ok",
    "busy_with_threads": "ok",
    "idle": "ok",
}
SOME = {
    ("PySide6", "qt_decorated"): "ok",
    ("PyQt6", "qt_decorated"): "ok",
    ("PySide6", "qt_closed_in_nested_dialogs"): "ok",
    ("PyQt6", "qt_closed_in_nested_dialogs"): "ok",
    ("gtk3", "gtk_awaitables"): "ok",
    ("gtk3", "gtk_application"): "cancelled\nok",
    ("gtk4", "gtk_application"): "cancelled\nok",
    ("gtk3", "gtk_signals"): "ok",
    ("gtk4", "gtk_signals"): "ok",
    ("tk", "tk_many_descriptors"): "Tk before version 9 watches descriptors by s\nok",
}
#: Without GLib Qt has a dispatcher of its own.
DISPATCHED = ("modal", "busy", "busy_toolkit", "idle", "exits_within_a_dialog")

#: The child's exit in a task is reported as on asyncio, as no other task has seen it.
EXPECTED_ERRORS = ("SystemExit: 3",)


def start(
    display: str, toolkit: str, case: str, within: tuple[str, ...] = (), **environment: str
) -> subprocess.Popen[str]:
    require_toolkit(PACKAGES[toolkit])
    return subprocess.Popen(
        [*within, sys.executable, "-m", "tests.gui.cases", toolkit, case],
        env={**os.environ, "DISPLAY": display, "GTK_A11Y": "none", **environment},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return the exit status, the output, and the errors that Python has printed."""
    try:
        output, errors = process.communicate(timeout=3 * PATIENCE)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        output, errors = process.communicate()
        pytest.fail(f"no end after:\n{output}\n{errors}")
    return process.returncode, output, python_errors(errors)


def python_errors(errors: str) -> str:
    """Leave out what toolkits say of a machine without a desktop."""
    if re.search(r"Traceback|Fatal|Error|Exception|never (awaited|retrieved)", errors):
        return errors
    return ""


@pytest.mark.parametrize("toolkit", TOOLKITS)
@pytest.mark.parametrize("case", EVERYWHERE)
def test_case(display: str, toolkit: str, case: str) -> None:
    status, output, errors = finish(start(display, toolkit, case))
    if any(expected in errors for expected in EXPECTED_ERRORS) and case.startswith("exits"):
        errors = ""
    assert (status, output, errors) == (0, EVERYWHERE[case] + "\n", "")


@pytest.mark.parametrize(("toolkit", "case"), SOME)
def test_case_of_one_toolkit(display: str, toolkit: str, case: str) -> None:
    assert finish(start(display, toolkit, case)) == (0, SOME[toolkit, case] + "\n", "")


@pytest.mark.parametrize("toolkit", ["gtk3", "gtk4"])
def test_a_second_instance(display: str, toolkit: str) -> None:
    bus = shutil.which("dbus-run-session")
    if bus is None:
        missing_service("there is no dbus-run-session (Debian: dbus-daemon)")
    process = start(display, toolkit, "gtk_second_instance", within=(bus, "--"), NO_AT_BRIDGE="1")
    status, output, errors = finish(process)
    errors = "".join(line for line in errors.splitlines(True) if not line.startswith("dbus-daemon"))
    assert (status, output, errors) == (0, "activated\nactivated\nsecond None\nok\n", "")


@pytest.mark.parametrize("toolkit", ["PySide6", "PyQt6"])
@pytest.mark.parametrize("case", DISPATCHED)
def test_case_without_glib(display: str, toolkit: str, case: str) -> None:
    status, output, errors = finish(
        start(display, toolkit, case, QT_NO_GLIB="1", QT_QPA_PLATFORM="offscreen")
    )
    assert (status, output, errors) == (0, EVERYWHERE[case] + "\n", "")


@pytest.mark.parametrize("toolkit", TOOLKITS)
@pytest.mark.parametrize("case", ["ctrl_c", "ctrl_c_started", "ctrl_c_twice"])
def test_ctrl_c(display: str, toolkit: str, case: str) -> None:
    process = start(display, toolkit, case)
    assert process.stdout is not None
    for _ in range(2 if case == "ctrl_c_twice" else 1):
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
    status, output, errors = finish(process)
    expected = "interrupted\n" if case == "ctrl_c_twice" else "cancelled\ninterrupted\n"
    assert (status, output, errors) == (0, expected, "")
