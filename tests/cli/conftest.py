"""Runs programs in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from pathlib import Path

# Far above what anything here needs on a slow machine; it turns a hang into a failure that shows the output.
TIMEOUT = 100


class Run(Protocol):
    """Runs a command in the test's directory and returns what it printed and its exit status."""

    def __call__(self, *arguments: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]: ...


class Script(Protocol):
    """Writes a file in the test's directory and returns its name."""

    def __call__(self, name: str, source: str) -> str: ...


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment of the child processes: ours, without what would change their output or their mode."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    if "PYTHONPATH" in os.environ:
        kept["PYTHONPATH"] = os.environ["PYTHONPATH"]
    # A __pycache__ left by the first of two runs would be a difference between them.
    return kept | {"PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1"}


@pytest.fixture
def run_python(tmp_path: Path, environment: dict[str, str]) -> Run:
    """``python …``"""

    def run(*arguments: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *python, *arguments],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    return run


@pytest.fixture
def whorl(run_python: Run) -> Run:
    """``python -m whorl …``"""

    def run(*arguments: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        return run_python("-m", "whorl", *arguments, python=python)

    return run


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Write a file that a test runs."""

    def write(name: str, source: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
        return name

    return write
