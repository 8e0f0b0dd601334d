"""What is made on first use: attributes, and regular expressions."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, AnyStr, Generic, TypeVar, cast, overload

__all__ = ["lazy", "lazy_pattern"]

_T = TypeVar("_T")


class lazy(Generic[_T]):  # noqa: N801
    """An attribute that is made on first use, and may be set: tools that make responses of their own do.

    Unlike :func:`functools.cached_property` it has no lock, on any version.
    """

    def __init__(self, make: Callable[[Any], _T]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> lazy[_T]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> _T: ...
    def __get__(self, instance: object | None, owner: type[Any]) -> lazy[_T] | _T:
        if instance is None:
            return self
        value = self._make(instance)
        instance.__dict__[self._name] = value
        return value

    if TYPE_CHECKING:

        def __set__(self, instance: object, value: _T) -> None: ...


class _LazyPattern:
    """Stands for a :class:`re.Pattern`; its methods are looked up there once."""

    def __init__(self, text: str | bytes, flags: int) -> None:
        self._text = text
        self._flags = flags

    def __getattr__(self, name: str) -> Any:
        value = self.__dict__[name] = getattr(re.compile(self._text, self._flags), name)
        return value


def lazy_pattern(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Returns a regular expression that is compiled on first use: compiling takes longer than importing the
    module that it is in."""
    return cast("re.Pattern[AnyStr]", _LazyPattern(text, flags))
