"""Builds with debug assertions find an object that ends while state of the loop is open."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from whorl import _core

pytestmark = pytest.mark.skipif(
    not hasattr(_core, "_end_in_section"),
    reason="needs an extension with debug assertions, and the tracer of references of Python 3.13",
)


def end_in_section(make: str) -> subprocess.CompletedProcess[str]:
    program = f"from whorl import _core; _core._end_in_section({make})"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_an_object_that_ends_in_a_section_ends_the_process() -> None:
    result = end_in_section("lambda: {1, 2}")
    assert result.returncode == -signal.SIGABRT
    assert "the last reference to a set was dropped in a section" in result.stderr


@pytest.mark.parametrize("make", ["lambda: bytes(100)", "lambda: None"])
def test_what_has_no_finaliser_may_end_there(make: str) -> None:
    result = end_in_section(make)
    assert (result.returncode, result.stderr) == (0, "")
