"""Fixtures for pytest: ``pytest_plugins = ["whorl.testing.pytest_plugin"]`` in a ``conftest.py``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from whorl.testing import new_event_loop

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["jumping_clock"]


@pytest.fixture
def jumping_clock() -> Iterator[asyncio.Runner]:
    """An :class:`asyncio.Runner` on a loop whose clock jumps: ``jumping_clock.run(main())``."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        yield runner
