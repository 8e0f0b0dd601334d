"""The window of ``make gui``, with few pages and numbers."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from tests.gui.support import require_toolkit
from tests.gui.test_toolkits import ROOT, python_errors
from tests.programs.support import missing_service, require_package

require_package("aiohttp", "rich")

#: What the window calls a toolkit, and the package that it is in.
PACKAGES = {"tk": "tkinter", "qt": "PySide6"}

FEW = ("--pages", "6", "--primes-below", "50000")


@pytest.fixture(params=PACKAGES)
def toolkit(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    require_toolkit(PACKAGES[name])
    return name


def run(display: str | None, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    if display is not None:
        environment["DISPLAY"] = display
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def colours(path: Path) -> int:
    """How many values the bytes of a picture take."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, packed, kinds = 8, b"", []
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length) == (zlib.crc32(kind + body),)
        kinds.append(kind)
        packed += body if kind == b"IDAT" else b""
        at += 12 + length
    assert (kinds[0], kinds[-1]) == (b"IHDR", b"IEND")
    width, height = struct.unpack_from(">II", data, 16)
    pixels = zlib.decompress(packed)
    assert len(pixels) in (height * (1 + 3 * width), height * (1 + 4 * width))
    return len(set(pixels))


def test_all_is_fetched_and_computed(display: str, toolkit: str, tmp_path: Path) -> None:
    picture = tmp_path / "window.png"
    done = run(display, "examples.window", "--toolkit", toolkit, "--auto", "--picture", str(picture), *FEW)
    assert (done.returncode, python_errors(done.stderr)) == (0, "")
    assert f"the window when all was done: {picture}\n" in done.stdout
    # There are 5,133 primes below 50,000.
    words = r"6 of 6 pages, 5,133 primes in 50,000 of 50,000 numbers, (\d+) frames, the last one late by "
    found = re.search(words, done.stdout)
    assert found
    assert int(found[1]) > 1
    assert colours(picture) > 50, "an empty window"


def test_without_a_display_there_is_a_virtual_one(tmp_path: Path) -> None:
    require_toolkit("tkinter")
    if shutil.which("Xvfb") is None:
        missing_service("no Xvfb (Debian: xvfb)")
    done = run(None, "examples.window", "--picture", str(tmp_path / "window.png"), *FEW)
    assert (done.returncode, python_errors(done.stderr)) == (0, "")
    assert "there is no display: the window is in Xvfb" in done.stdout
    assert colours(tmp_path / "window.png") > 50


def test_a_page_that_fails_is_said(display: str, tmp_path: Path) -> None:
    require_toolkit("tkinter")
    picture = str(tmp_path / "window.png")
    done = run(display, "examples.window", "--auto", "--picture", picture, *FEW, "nonsense")
    assert (done.returncode, python_errors(done.stderr)) == (1, "")
    assert "failed 'nonsense': " in done.stdout
    assert "1 of 1 pages, 5,133 primes" in done.stdout


@pytest.mark.parametrize("action", ["closes", "cancels"])
def test_the_end_is_in_order(display: str, toolkit: str, action: str) -> None:
    done = run(display, "tests.gui.window_program", toolkit, action)
    assert (done.returncode, done.stdout, python_errors(done.stderr)) == (0, "ok\n", "")
