"""The whole programs in docs/gui.md and docs/guest.md run in Tk; the first one's window is closed at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gui.support import require_toolkit
from tests.guides import DOCS, check_program, programs

#: What is the first program's last line, and what has its window closed once the main loop runs.
RUN = "whorl.gui.run(main())\n"
CLOSED = "root.after(1, root.destroy)\nassert whorl.gui.run(main()) is None\n"


def test_the_window_of_the_guide(display: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_toolkit("tkinter")
    monkeypatch.setenv("DISPLAY", display)
    program = programs(DOCS / "gui.md")[0]
    assert program.text.endswith(RUN)
    check_program(program, program.text.removesuffix(RUN) + CLOSED, tmp_path)


def test_the_adapter_of_the_guide(display: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_toolkit("tkinter")
    monkeypatch.setenv("DISPLAY", display)
    [program] = programs(DOCS / "guest.md")
    check_program(program, program.text, tmp_path)
