"""The programs in the guides under docs: how they are found there, and how a test runs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

DOCS = Path(__file__).parents[1] / "docs"

# A program, and what it prints where the guide shows that right behind it.
_BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^## (.*)$", re.MULTILINE)
_TITLE = re.compile(r"^#{1,2} (.*)$", re.MULTILINE)


class Program(NamedTuple):
    """A program of a guide."""

    line: int
    section: str
    text: str
    output: str | None


def programs(guide: Path) -> list[Program]:
    """The guide's programs, in their order."""
    text = guide.read_text()
    found = [
        Program(
            text.count("\n", 0, match.start()) + 2,
            _TITLE.findall(text, 0, match.start())[-1],
            match[1],
            match[2],
        )
        for match in _BLOCK.finditer(text)
    ]
    # None is passed over because it is fenced in another way.
    assert len(found) == text.count("```python")
    return found


def sections(guide: Path) -> set[str]:
    """The headings of the guide's sections."""
    return set(_HEADING.findall(guide.read_text()))


def every_program(guide: Path) -> pytest.MarkDecorator:
    """Runs a test with each program of a guide."""
    return pytest.mark.parametrize(
        "program", programs(guide), ids=lambda program: f"{program.section}, line {program.line}"
    )


def check_program(program: Program, text: str, directory: Path) -> None:
    """Run a program as `text`, which names the servers of the test in place of the guide's.

    It has to end well, without a warning, and to print what the guide says.
    """
    script = directory / "program.py"
    script.write_text(text)
    # No proxy of this machine's may come in between.
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    done = subprocess.run(
        [sys.executable, "-W", "error", script.name],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    if program.output is not None:
        assert done.stdout == program.output


def hosts(program: Program) -> set[str]:
    """The hosts of the URLs in a program."""
    return set(re.findall(r"\w+://(?:\w+(?::\w+)?@)?([\w.-]+)", program.text))
