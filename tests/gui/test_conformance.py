"""A small part of CPython's own suite in the main loops of toolkits; ``make gui-conformance`` runs all."""

from __future__ import annotations

import pytest

from tests.conformance import cli
from tests.conformance.loops import TOOLKITS
from tests.gui.support import require_toolkit

MODULES = ("test_runners", "test_streams", "test_unix_events")


@pytest.mark.parametrize("loop", TOOLKITS)
def test_a_part_of_the_suite(loop: str, capsys: pytest.CaptureFixture[str]) -> None:
    require_toolkit(TOOLKITS[loop])
    if cli.suite_modules() is None:
        pytest.skip("this interpreter came without asyncio's test-suite")
    modules = [argument for module in MODULES for argument in ("--module", module)]
    assert cli.main(["--loop", loop, *modules]) == 0, capsys.readouterr().out
