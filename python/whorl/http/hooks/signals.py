"""Lists of receivers that are called in turn, as ``aiosignal.Signal``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableSequence
from typing import Any, SupportsIndex, TypeVar, TypeVarTuple, overload

__all__ = ["Signal"]

Arguments = TypeVarTuple("Arguments")
T = TypeVar("T")


class Signal(MutableSequence[Callable[[*Arguments], Awaitable[object]]]):
    """A list of coroutine functions that take the same arguments.

    It can be changed until it is frozen, by list methods or as a decorator, and sent from then on; the other
    way round is a :exc:`RuntimeError`. An empty one is false, so that the sender can see that nothing
    listens. ``owner`` is what it belongs to, for its representation.
    """

    __slots__ = ("_frozen", "_owner", "_receivers")

    def __init__(self, owner: object) -> None:
        self._owner = owner
        self._receivers: list[Callable[[*Arguments], Awaitable[object]]] = []
        self._frozen = False

    @property
    def frozen(self) -> bool:
        """Whether the receivers are final."""
        return self._frozen

    def freeze(self) -> None:
        """Makes the receivers final."""
        self._frozen = True

    async def send(self, *args: *Arguments, **kwargs: Any) -> None:
        """Calls every receiver with these arguments, one after the other; an exception ends the call.

        :raises RuntimeError: before it is frozen
        """
        if not self._frozen:
            raise RuntimeError(f"Cannot send non-frozen signal {self!r}: call freeze() first")
        for receiver in self._receivers:
            await receiver(*args, **kwargs)

    def __call__(self, func: Callable[[*Arguments], Awaitable[T]]) -> Callable[[*Arguments], Awaitable[T]]:
        """Appends a receiver, and returns it: the signal as a decorator."""
        self.append(func)
        return func

    def _change(self) -> list[Callable[[*Arguments], Awaitable[object]]]:
        if self._frozen:
            raise RuntimeError(f"Cannot modify frozen list {self!r}: add receivers before it is in use")
        return self._receivers

    def __len__(self) -> int:
        return len(self._receivers)

    def __iter__(self) -> Iterator[Callable[[*Arguments], Awaitable[object]]]:
        return iter(self._receivers)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Callable[[*Arguments], Awaitable[object]]: ...
    @overload
    def __getitem__(self, index: slice) -> list[Callable[[*Arguments], Awaitable[object]]]: ...
    def __getitem__(self, index: Any) -> Any:
        return self._receivers[index]

    @overload
    def __setitem__(self, index: SupportsIndex, value: Callable[[*Arguments], Awaitable[object]]) -> None: ...
    @overload
    def __setitem__(
        self, index: slice, value: Iterable[Callable[[*Arguments], Awaitable[object]]]
    ) -> None: ...
    def __setitem__(self, index: Any, value: Any) -> None:
        self._change()[index] = value

    def __delitem__(self, index: SupportsIndex | slice) -> None:
        del self._change()[index]

    def insert(self, index: SupportsIndex, value: Callable[[*Arguments], Awaitable[object]]) -> None:
        """Inserts a receiver before the one at ``index``."""
        self._change().insert(index, value)

    def __eq__(self, other: object) -> bool:
        return self._receivers == (other._receivers if isinstance(other, Signal) else other)

    def __hash__(self) -> int:
        if not self._frozen:
            raise RuntimeError(f"Cannot hash unfrozen signal {self!r}: call freeze() first")
        return hash(tuple(self._receivers))

    def __repr__(self) -> str:
        return f"<Signal owner={self._owner}, frozen={self._frozen}, {self._receivers!r}>"
