"""A display for the session."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from examples.window.display import DisplayError, virtual_display
from tests.programs.support import missing_service


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """The value of ``DISPLAY``."""
    if shutil.which("Xvfb") is None and os.environ.get("DISPLAY"):
        yield os.environ["DISPLAY"]
        return
    with ExitStack() as stack:
        try:
            number = stack.enter_context(virtual_display())
        except DisplayError as error:
            missing_service(f"no display, and {error}")
        yield number
