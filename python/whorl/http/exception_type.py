"""The metaclass of the client's exceptions, by which ``except`` clauses of another library can catch them.

An ``except`` clause checks the method resolution order of the exception's class, and nothing else: no
``__instancecheck__``, no :meth:`abc.ABCMeta.register`. Giving a class another base afterwards is refused by
CPython (3.11 to 3.14) for all that derive directly from a built-in exception, :exc:`ClientError` among them;
a metaclass may extend the order itself.
"""

from __future__ import annotations

__all__ = ["ExceptionType"]


class ExceptionType(type):
    """The type of exception classes that can be made, at run time, to be caught as another class too."""

    def mro(cls) -> list[type]:
        """Return the method resolution order: the class's own, then the classes it is also caught as.

        They come last, before :class:`object` and after :exc:`BaseException`, whose methods call no other, so
        that ``except``, ``isinstance()`` and ``issubclass()`` see them, and they take no part in anything
        else.
        """
        *own, root = super().mro()
        others: list[type] = []
        for other in vars(cls).get("_caught_as", ()):
            others += [base for base in other.__mro__[:-1] if base not in own and base not in others]
        return [*own, *others, root]

    def also_caught_as(cls, other: type[BaseException]) -> None:
        """Have ``except other`` catch this class as well, and with it all that derive from it.

        The two have to be of one layout: both an :exc:`OSError`, or neither. Raises :exc:`TypeError` if not.
        Not undone; a second time is no harm.
        """
        caught_as: tuple[type, ...] = vars(cls).get("_caught_as", ())
        if other in cls.__mro__:
            return
        cls._caught_as = (*caught_as, other)
        try:
            # When the bases are assigned, CPython computes the order anew, here and in the classes that
            # derive from this one.
            cls.__bases__ = cls.__bases__
        except TypeError:
            cls._caught_as = caught_as
            raise
