"""Coroutine functions as handlers of a toolkit's signals, commands and events."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["slot"]


@overload
def slot(function: Callable[..., Coroutine[Any, Any, Any]], /) -> Callable[..., None]: ...


@overload
def slot(
    *, one_at_a_time: bool = False
) -> Callable[[Callable[..., Coroutine[Any, Any, Any]]], Callable[..., None]]: ...


def slot(
    function: Callable[..., Coroutine[Any, Any, Any]] | None = None, /, *, one_at_a_time: bool = False
) -> Any:
    """Make a handler of a coroutine function: each call makes a task that runs it, and returns at once.

    ::

        @whorl.gui.slot
        async def fetch(self):
            self.label.setText(await self.session.get(...))

        button.clicked.connect(self.fetch)         # Qt
        tkinter.Button(root, command=self.fetch)   # Tk
        button.connect("clicked", self.fetch)      # GTK

    The handler is a plain function, or a method, that returns None, which tells each toolkit to go on as
    usual. Positional arguments that the function has no parameter for are left out, as Qt leaves out those of
    a signal for a slot with fewer: a button's ``checked``, an event. Qt's own decorators go above this one.

    With *one_at_a_time* a call does nothing while the task of the one before is running: a second click on a
    button starts no second download. Each object of a class has its own.

    An exception of the coroutine goes to the loop's exception handler at once; a task that is cancelled is
    not reported.

    Raises :exc:`TypeError` for another function, and when it is called :exc:`RuntimeError` while no loop runs
    on this thread: before :func:`whorl.gui.run` or :func:`whorl.gui.start`, or after the end.
    """
    if function is None:
        return lambda function: _handler(function, one_at_a_time)
    return _handler(function, one_at_a_time)


def _handler(function: Callable[..., Coroutine[Any, Any, Any]], one_at_a_time: bool) -> Callable[..., None]:
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"slot() takes a coroutine function (async def), got {function!r}")
    limit = _positional_limit(function)
    tasks = _Tasks(function, one_at_a_time)

    # A function, and not an object that is called: toolkits ask functions for their parameters, and methods
    # for their objects, which they do not keep alive.
    @wraps(function)
    def handler(*args: Any, **kwargs: Any) -> None:
        tasks.start(args[:limit], kwargs)

    return handler


def _positional_limit(function: Callable[..., Any]) -> int | None:
    """Return how many positional arguments the function takes at most, or None if there is no limit."""
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(kind in positional for kind in kinds)


class _Tasks:
    """The tasks of one handler that are running."""

    def __init__(self, function: Callable[..., Coroutine[Any, Any, Any]], one_at_a_time: bool) -> None:
        self._function = function
        self._one_at_a_time = one_at_a_time
        plain: Any = function
        while isinstance(plain, partial):
            plain = plain.func
        self._name = getattr(plain, "__qualname__", type(plain).__qualname__)
        #: The name of the class whose methods have their objects as first arguments here, or an empty one.
        self._scope = self._name.rpartition(".")[0] if inspect.isfunction(function) else ""
        #: By the object whose method it is. A task keeps its object alive, and so no other has its id.
        self._running: dict[int, set[asyncio.Task[Any]]] = {}

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                f"the handler {self._name}() was called while no event loop runs in this thread; "
                "whorl.gui.run() and whorl.gui.start() run one"
            ) from None
        key = self._key(args)
        if self._one_at_a_time and self._is_running(key):
            return
        # Before the task, which may be an eager one that comes here again.
        running = self._running.setdefault(key, set())
        try:
            task = loop.create_task(self._function(*args, **kwargs), name=self._name)
        except BaseException:
            if not running:
                self._running.pop(key, None)
            raise
        running.add(task)
        task.add_done_callback(lambda task: self._done(key, running, task))

    def _is_running(self, key: int) -> bool:
        running = self._running.get(key)
        # None in it yet: it is being made.
        return running is not None and (not running or not all(task.done() for task in running))

    def _key(self, args: tuple[Any, ...]) -> int:
        """The object whose method is called, by its id; 0 if it is no method, or a static one."""
        if not self._scope or not args:
            return 0
        first = args[0]
        classes = first.__mro__ if isinstance(first, type) else type(first).__mro__
        return id(first) if any(each.__qualname__ == self._scope for each in classes) else 0

    def _done(self, key: int, running: set[asyncio.Task[Any]], task: asyncio.Task[Any]) -> None:
        running.discard(task)
        if not running:
            self._running.pop(key, None)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            task.get_loop().call_exception_handler(
                {
                    "message": f"unhandled exception in the handler {self._name}()",
                    "exception": error,
                    "task": task,
                }
            )
