"""The event loops that run in a toolkit's main loop, each made as its documentation shows."""

from __future__ import annotations

import asyncio
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import whorl.gui
from tools.toolkits import NEEDED, PACKAGES, TOOLKITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.toolkits import Toolkit


def missing(toolkit: str) -> str | None:
    """Why the toolkit has no window here, or None."""
    package = PACKAGES[toolkit]
    return None if find_spec(package) else f"it takes {NEEDED[package]}"


def open_window(toolkit: str) -> Toolkit:
    """A window of the toolkit, with its application."""
    return TOOLKITS[toolkit]()


def _whorl(window: Toolkit) -> asyncio.AbstractEventLoop:
    return whorl.gui.new_event_loop(window.host)


def _qasync(window: Any) -> asyncio.AbstractEventLoop:
    loop: asyncio.AbstractEventLoop = import_module("qasync").QEventLoop(window.app)
    return loop


def _qtinter(window: Toolkit) -> asyncio.AbstractEventLoop:
    loop: asyncio.AbstractEventLoop = import_module("qtinter").new_event_loop()
    return loop


def _gi_events(window: Any) -> asyncio.AbstractEventLoop:
    loop: asyncio.AbstractEventLoop = import_module("gi.events").GLibEventLoop(
        window.glib.MainContext.default()
    )
    return loop


def _async_tkinter_loop(window: Any) -> asyncio.AbstractEventLoop:
    main_loop = import_module("async_tkinter_loop.async_tkinter_loop").main_loop
    loop = asyncio.new_event_loop()
    _KEPT.append(loop.create_task(main_loop(window.root)))
    return loop


_KEPT: list[asyncio.Task[None]] = []

#: By what a peer calls its loop.
GUI_LOOPS: dict[str, Callable[[Toolkit], asyncio.AbstractEventLoop]] = {
    "whorl.gui": _whorl,
    "qasync": _qasync,
    "qtinter": _qtinter,
    "gi.events": _gi_events,
    "async-tkinter-loop": _async_tkinter_loop,
}
