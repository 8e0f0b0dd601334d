"""What ``make gui`` shows: a window that stays responsive while it fetches and computes.

    python -m examples.window                        in Tk, with the pages of a local site
    python -m examples.window --toolkit qt URL…      in Qt, with these pages

A shop: one cashier who serves the next customer while another looks for his purse is concurrency, and several
cashiers are parallelism. "Fetch" is the first: one thread, the window's own, waits for many pages at once.
"Compute" is the second: processes of their own count primes on all cores. Meanwhile a clock's hand moves 60
times a second by the toolkit's timer, and the window says how late its frames are.

The window stays until it is closed, which may be at any time. With --auto, and without a display, where Xvfb
is started, the program clicks both buttons, and when all is done writes a picture of the window and ends.
The exit status is 1 if something has failed, 2 if there is no display, and 130 after Ctrl-C.
"""

import argparse
import asyncio
import contextlib
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Protocol

import whorl.gui
from examples.demo import local_site, say
from examples.fetch import report
from examples.window.display import DisplayError, has_display, virtual_display
from examples.window.screenshot import ScreenshotError
from examples.window.work import Work

VIEWS = {"tk": ("examples.window.tk_view", "TkView"), "qt": ("examples.window.qt_view", "QtView")}


class View(Protocol):
    """A window of one toolkit, which shows the work with each frame."""

    host: whorl.gui.Host

    def click(self) -> None: ...

    def save(self, path: Path) -> None: ...

    def close(self) -> None: ...


async def main(work: Work, view: View, picture: Path | None) -> None:
    """Serve the window until it is closed; with a path for a *picture*, do what its user does."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, sys.exit, 128 + signal.SIGTERM)
    async with work:
        if picture is None:
            await loop.create_future()
            return
        view.click()
        await asyncio.sleep(0)  # the two tasks begin
        while work.busy:
            await asyncio.sleep(0.05)
        # What has come since the last frame is in the next ones.
        await asyncio.sleep(0.1)
        try:
            view.save(picture)
            say(f"the window when all was done: {picture}")
        except ScreenshotError as error:
            work.errors.append(f"no picture of the window: {error}")
        view.close()


def run(options: argparse.Namespace, urls: list[str], picture: Path | None) -> int:
    """Open the window, and return the exit status when it is closed."""
    work = Work(urls, options.primes_below)
    module, name = VIEWS[options.toolkit]
    view: View = getattr(importlib.import_module(module), name)(work)
    whorl.gui.run(main(work, view, picture), view.host)
    failed = [page for page in work.pages if page.error is not None]
    if failed:
        say(report(failed))
    say(f"{work.fetched}, {work.computed}, {work.frames.text}")
    for error in work.errors:
        say(f"failed: {error}")
    return 1 if failed or work.errors or (picture is not None and not work.complete) else 0


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.window", description="Fetch and compute in a window."
    )
    parser.add_argument("urls", nargs="*", metavar="URL", help="fetch these, not the local site's")
    parser.add_argument("--toolkit", choices=VIEWS, default="tk", help="tk (default) or qt, by PySide6")
    parser.add_argument("--pages", type=int, default=100, help="how many pages the local site has (100)")
    parser.add_argument(
        "--primes-below", type=int, default=1_000_000, metavar="N", help="count primes below N (1000000)"
    )
    parser.add_argument("--auto", action="store_true", help="click the buttons, write a picture, and end")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="where to (default: .build/gui-TOOLKIT.png)"
    )
    return parser.parse_args()


def start() -> int:
    """Run the program and return its exit status."""
    options = arguments()
    # Without a handler, SIGTERM would end this process and leave its children.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    auto = options.auto
    with contextlib.ExitStack() as stack:
        if not has_display():
            auto = True
            try:
                os.environ["DISPLAY"] = stack.enter_context(virtual_display())
            except DisplayError as error:
                say(f"there is no display, and {error}")
                return 2
            say("there is no display: the window is in Xvfb, and the program clicks its buttons")
        urls = options.urls
        if not urls:
            say(f"starting a local site: {options.pages} pages of HTML that each answer after 100 ms")
            urls, _ = stack.enter_context(local_site(options.pages, 0))
        picture = None
        if auto:
            picture = options.picture or Path(".build") / f"gui-{options.toolkit}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
        return run(options, urls, picture)


if __name__ == "__main__":
    try:
        sys.exit(start())
    except KeyboardInterrupt:
        sys.exit(130)  # 128 + SIGINT, as shells count it
