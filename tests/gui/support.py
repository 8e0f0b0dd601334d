"""Which toolkits are here."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from tests.programs.support import missing_service

#: What each package needs.
NEEDED = {
    "tkinter": "a Python that was built with Tk (Debian: python3-tk, or tk-dev before it is built)",
    "PySide6": "requirements/gui.txt, and Debian's libegl1 libgl1 libxkbcommon-x11-0 and others (.ci/run)",
    "PyQt6": "requirements/gui.txt, and Debian's libegl1 libgl1 libxkbcommon-x11-0 and others (.ci/run)",
    "gi": "requirements/gui-glib.txt, and Debian's gir1.2-gtk-3.0 gir1.2-gtk-4.0",
    "pygame": "requirements/gui.txt",
}


def require_toolkit(package: str) -> None:
    """Skip the test if the package is not here, or fail it where that is asked for."""
    if importlib.util.find_spec(package) is not None:
        return
    if "t" in sys.abiflags and package != "tkinter":
        pytest.skip(f"{package} is not published for the free-threaded build")
    missing_service(f"{package} is not here: it takes {NEEDED[package]}")
