"""Variables of the environment, compared cheaply with what they were.

What is made of them is kept for as long as they stay the same: a request reads them, and may not cost what
parsing them does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

from whorl import _core

__all__ = ["FromEnvironment"]

T = TypeVar("T")


class FromEnvironment(Generic[T]):
    """A value made of variables of the environment, and made anew when one of them has changed.

    :param names: the variables
    :param make: makes the value of the variables' values, in the order of ``names``; of one that is not set,
        None
    """

    __slots__ = ("_known", "_make", "names")

    def __init__(self, names: tuple[str, ...], make: Callable[..., T]) -> None:
        self.names = names
        self._make = make
        # One object, so that threads see the values with what was made of them.
        self._known: tuple[_core.EnvironmentSnapshot, T] | None = None

    def get(self) -> T:
        """The value for the environment as it is."""
        known = self._known
        if known is None or not known[0].is_current():
            # Before they are read: a change meanwhile makes for another snapshot.
            snapshot = _core.EnvironmentSnapshot(self.names)
            known = self._known = snapshot, self._make(*map(os.environ.get, self.names))
        return known[1]
