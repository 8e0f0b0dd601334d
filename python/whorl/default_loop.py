"""Makes every new event loop of this process whorl's, for ``whorl run``.

A program that is run unchanged reaches its loop in one of these ways, and each needs its own hook:

- ``asyncio.run``, ``Runner`` and ``new_event_loop`` use ``asyncio.events.new_event_loop``, which is replaced.
  Setting a policy would not do: a program may set another one, test frameworks reset it, it warns from
  Python 3.14 on, and 3.16 has no policies.
- ``get_event_loop``, which until 3.13 makes a loop, and policies derived from asyncio's default one use that
  class's loop factory, which is replaced on the class, so that a reset policy and subclasses of it follow.
- ``asyncio.EventLoop`` (3.13) is the platform's default loop class by its general name, and servers name
  ``asyncio.SelectorEventLoop`` as the standard choice on Unix (uvicorn, where uvloop is not installed).
- uvloop's factories: servers choose uvloop by themselves where it is installed.

Another class that the program names itself (``uvloop.Loop()``) stays that class.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any, TypeVar

from whorl.event_loop import EventLoop
from whorl.runner import install, new_event_loop, replace_factories

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["make_default"]

_T = TypeVar("_T")


def make_default() -> None:
    """Make whorl's loop the default of the whole process. Not undone: the process belongs to the program."""
    replace_factories()
    asyncio.SelectorEventLoop = _SelectorEventLoop
    if hasattr(asyncio.events, "set_event_loop_policy"):
        with warnings.catch_warnings():
            # From 3.14 on, looking the class up warns.
            warnings.simplefilter("ignore", DeprecationWarning)
            policy: Any = asyncio.DefaultEventLoopPolicy
        policy._loop_factory = EventLoop
    if "uvloop" in sys.modules:
        _replace_uvloop_factories(sys.modules["uvloop"])
    else:
        sys.meta_path.insert(0, _UvloopFinder())


class _SelectorEventLoop(EventLoop):
    """Stands for ``asyncio.SelectorEventLoop``: it takes a selector, as that does, and has no use for it."""

    def __init__(self, selector: object = None) -> None:
        super().__init__()


class _UvloopFinder:
    """Finds uvloop where it is installed, and has its factories replaced when the program imports it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find ``uvloop`` only; every other name is left to the next finder."""
        if fullname != "uvloop":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            loader.exec_module = _then_replace(loader.exec_module)
        return spec


def _then_replace(exec_module: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def exec_and_replace(module: ModuleType) -> None:
        exec_module(module)
        _replace_uvloop_factories(module)

    return exec_and_replace


def _replace_uvloop_factories(uvloop: Any) -> None:
    uvloop.new_event_loop = new_event_loop
    uvloop.install = install
    uvloop.run = _run_for_uvloop
    if hasattr(asyncio.events, "set_event_loop_policy"):
        from whorl.policy import EventLoopPolicy

        uvloop.EventLoopPolicy = EventLoopPolicy


def _run_for_uvloop(
    main: Coroutine[Any, Any, _T],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = new_event_loop,
    debug: bool | None = None,
) -> _T:
    """``uvloop.run``, which takes a loop factory as :func:`asyncio.run` does from 3.12."""
    with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)
