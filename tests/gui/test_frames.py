"""The example of a frame loop, with pygame."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.event_loop.support import PATIENCE
from tests.gui.support import require_toolkit

ROOT = Path(__file__).parents[2]


def test_tasks_run_between_the_frames() -> None:
    """Each ball is moved by a task of its own, the quick ones more often."""
    require_toolkit("pygame")
    ran = subprocess.run(
        [sys.executable, "-m", "examples.frames", "--frames", "60"],
        cwd=ROOT,
        env={**os.environ, "SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"},
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    drawn = re.search(
        r"^60 frames; the balls have moved (\d+), (\d+), (\d+) and (\d+) times$", ran.stdout, re.M
    )
    assert drawn is not None, ran.stdout
    moves = [int(count) for count in drawn.groups()]
    assert moves[-1] > 0
    assert moves == sorted(moves, reverse=True)
