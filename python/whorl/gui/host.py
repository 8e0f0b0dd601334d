"""What a toolkit's main loop does for a guest."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from whorl.event_loop import EventLoop

__all__ = ["AGE_LIMIT", "Host", "Watch"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: Seconds that a guest, which has let the toolkit go first, waits at most while the toolkit is busy.
AGE_LIMIT = 0.01


class Watch(ABC):
    """A main loop's watch of one descriptor. It calls a function while the descriptor is readable."""

    @abstractmethod
    def let_others_go_first(self) -> None:
        """Call the function when the toolkit has handled its events and redrawn; after AGE_LIMIT in any case.

        The watch rests until :meth:`resume`, which the function is to call.
        """

    @abstractmethod
    def pause(self) -> None:
        """Call the function after AGE_LIMIT, and not before, though nothing else may be to be done.

        Meanwhile the main loop sees nothing of the descriptor. The watch rests until :meth:`resume`.
        """

    @abstractmethod
    def resume(self) -> None:
        """Call the function whenever the descriptor is readable, as at the beginning."""

    @abstractmethod
    def close(self) -> None:
        """Call the function no more. The main loop may have ended before; closing twice does nothing."""


class Host(ABC):
    """The main loop of a toolkit, on the thread that made this object.

    :func:`whorl.gui.tk`, :func:`whorl.gui.qt` and :func:`whorl.gui.glib` make one. It may serve several runs,
    one after the other.
    """

    #: The toolkit, in error messages.
    toolkit: ClassVar[str]

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    async def modal(self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call ``function(*args, **kwargs)``, which runs a main loop of its own, and return its result.

        For modal dialogs (``await host.modal(dialog.exec)``): the toolkit's main loop calls the function when
        the turn of this task is over, so that the task waits as for anything else, and all other tasks
        continue while the dialog is open. Called directly in a task, the dialog works as well; but then
        callbacks in the context of that task wait for it.

        What the function raises is raised here. If the task is cancelled meanwhile, the dialog stays open,
        and its result is dropped.

        Raises :exc:`RuntimeError` on another thread, on a loop that does not run in this host, and once the
        main loop has ended, while the coroutine of :func:`whorl.gui.run` deals with its cancellation: the
        function may be called itself there, as long as the toolkit is there.
        """
        self.check_thread()
        loop: Any = asyncio.get_running_loop()
        host = getattr(loop, "_gui_host", None)
        if host is None or not self.is_same_as(host):
            raise RuntimeError(
                f"modal() is for tasks that run in the main loop of {self.toolkit}, by whorl.gui.run()"
            )
        if not loop._runs_by_turns:
            raise RuntimeError(f"the main loop of {self.toolkit} has ended: call the function itself")
        result: asyncio.Future[_T] = loop.create_future()

        def call() -> None:
            if result.cancelled():
                return
            try:
                value = function(*args, **kwargs)
            except BaseException as error:
                if not result.done():
                    # A future takes any other exception.
                    result.set_exception(_not_raised(error) if isinstance(error, StopIteration) else error)
            else:
                if not result.done():
                    result.set_result(value)

        self.post(call)
        return await result

    @abstractmethod
    def quit(self) -> None:
        """End the main loop, as if the last window was closed. Does nothing if it does not run."""

    # -- for the modules of this package ---------------------------------------------------------------------

    @abstractmethod
    def run(self) -> None:
        """Run the main loop until :meth:`quit`, or until it ends for a reason of its own."""

    @abstractmethod
    def watch(self, fd: int, function: Callable[[], None]) -> Watch:
        """Have the main loop call ``function`` while ``fd`` is readable. The function raises nothing."""

    @abstractmethod
    def post(self, function: Callable[[], None]) -> None:
        """Have the main loop call ``function`` once, soon. The function raises nothing."""

    @property
    @abstractmethod
    def has_ended(self) -> bool:
        """Whether the toolkit is gone, and its main loop cannot be run any more."""

    def adopt(self, loop: EventLoop) -> None:
        """Take note of ``loop``, which is to run in this main loop."""
        hosted: Any = loop
        hosted._gui_host = self

    def is_same_as(self, other: Host) -> bool:
        """Whether ``other`` is the same main loop: a toolkit has one in each thread."""
        return type(other) is type(self) and other._thread == self._thread

    def check_thread(self) -> None:
        """Raise :exc:`RuntimeError` on another thread than the host's."""
        if threading.get_ident() != self._thread:
            raise RuntimeError(f"the main loop of {self.toolkit} belongs to another thread")


def _not_raised(error: BaseException) -> RuntimeError:
    replaced = RuntimeError("the function raised StopIteration")
    replaced.__cause__ = error
    return replaced
