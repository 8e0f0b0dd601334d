"""Which toolkits are here."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from tests.programs.support import missing_service
from tools.toolkits import NEEDED


def require_toolkit(package: str) -> None:
    """Skip the test if the package is not here, or fail it where that is asked for."""
    if importlib.util.find_spec(package) is not None:
        return
    if "t" in sys.abiflags and package != "tkinter":
        pytest.skip(f"{package} is not published for the free-threaded build")
    missing_service(f"{package} is not here: it takes {NEEDED[package]}")
