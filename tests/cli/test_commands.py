"""The commands themselves: help, version, and what is said about a wrong command line."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run, Script


def test_version(whorl: Run) -> None:
    result = whorl("--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"whorl {version('whorl')}\n", "")


def test_the_installed_command_is_the_same(environment: dict[str, str]) -> None:
    command = shutil.which("whorl", path=sysconfig.get_path("scripts"))
    if command is None:
        pytest.skip("whorl is importable here but not installed: no `whorl` next to this interpreter")
    result = subprocess.run(
        [command, "--version"], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert (result.returncode, result.stdout) == (0, f"whorl {version('whorl')}\n")


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(whorl: Run, option: str) -> None:
    result = whorl(option)
    assert result.returncode == 0
    assert result.stdout.startswith("usage: whorl ")
    assert "run a Python program" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_on_run(whorl: Run, option: str) -> None:
    result = whorl("run", option)
    assert result.returncode == 0
    assert result.stdout.startswith("usage: whorl run ")
    assert "-m module" in result.stdout
    assert result.stderr == ""


def test_without_a_command_the_help_goes_to_standard_error(whorl: Run) -> None:
    result = whorl()
    assert result.returncode == 2
    assert result.stdout == ""
    assert "usage: whorl " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["walk"], "invalid choice"),
        (["run"], "missing a script, or -m and a module"),
        (["run", "--"], "missing a script, or -m and a module"),
        (["run", "-m"], "missing the name of a module after -m"),
        (["run", "--fast", "program.py"], "unrecognized arguments: --fast"),
        (["run", "-"], "reading the program from standard input is not supported"),
    ],
)
def test_a_wrong_command_line(whorl: Run, arguments: list[str], message: str) -> None:
    result = whorl(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_script(whorl: Run, tmp_path: Path) -> None:
    result = whorl("run", "missing.py")
    file = str(tmp_path / "missing.py")
    assert result.returncode == 2
    assert result.stderr == f"whorl run: can't open file {file!r}: [Errno 2] No such file or directory\n"


def test_a_script_that_cannot_be_opened(whorl: Run, tmp_path: Path) -> None:
    # A link to itself: unreadable for root too, whom permissions do not stop.
    (tmp_path / "circle.py").symlink_to("circle.py")
    result = whorl("run", "circle.py")
    assert result.returncode == 2
    assert "can't open file" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_module_that_does_not_exist(whorl: Run) -> None:
    result = whorl("run", "-m", "no_such_module")
    assert result.returncode == 1  # as `python -m` has it
    assert "No module named no_such_module" in result.stderr
    assert "Traceback" not in result.stderr


def test_options_after_the_program_are_the_programs(whorl: Run, script: Script) -> None:
    program = script("arguments.py", "import sys; print(sys.argv[1:])")
    arguments = ["--help", "-m", "--version", "--", "-h", ""]
    assert whorl("run", program, *arguments).stdout == f"{arguments}\n"
    assert whorl("run", "--", program, *arguments).stdout == f"{arguments}\n"
    assert whorl("run", "-m", "arguments", *arguments).stdout == f"{arguments}\n"
