"""A display for the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.gui.display import NoDisplayError, virtual_display
from tests.programs.support import missing_service


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """The value of ``DISPLAY``."""
    try:
        with virtual_display() as name:
            yield name
    except NoDisplayError as error:
        missing_service(str(error))
