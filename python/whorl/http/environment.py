"""Variables of the environment, compared cheaply with what they were.

What is made of them is kept for as long as they stay the same: a request reads them, and may not cost what
parsing them does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["FromEnvironment"]

T = TypeVar("T")


class FromEnvironment(Generic[T]):
    """A value made of variables of the environment, and made anew when one of them has changed.

    :param names: the variables
    :param make: makes the value of the variables' values, in the order of ``names``; of one that is not set,
        None
    """

    __slots__ = ("_encoded", "_known", "_make", "_names")

    def __init__(self, names: tuple[str, ...], make: Callable[..., T]) -> None:
        self._names = names
        self._encoded = tuple(map(os.fsencode, names))
        self._make = make
        # One object, so that threads see the values with what was made of them.
        self._known: tuple[tuple[Any, ...], T] | None = None

    def get(self) -> T:
        """The value for the environment as it is."""
        # os.environ decodes each value, and raises and catches an exception for each that is not set. The
        # dictionary behind it has octets.
        data = getattr(os.environ, "_data", None)
        if type(data) is dict:
            state = tuple(map(data.get, self._encoded))
        else:
            state = tuple(map(os.environ.get, self._names))
        known = self._known
        if known is None or known[0] != state:
            known = self._known = state, self._make(*map(os.environ.get, self._names))
        return known[1]
