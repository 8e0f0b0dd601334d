"""A local web site whose pages each answer after a moment, for trying clients without the internet.

    python examples/site.py --pages 100

The pages are the documentation of the standard library's modules as pydoc writes it: real HTML, from one
kilobyte to some hundreds. With --small there are small pages as well, which answer at once. The system
chooses the port. The first line of output is a JSON object with the URLs of both; from then on the site
serves, until it is interrupted.
"""

import argparse
import asyncio
import importlib
import itertools
import json
import os
import pydoc
import signal
import sys
import warnings
from collections.abc import Iterator

from aiohttp import web

SMALL_PAGE = "<!doctype html>\n<title>Small</title>\n<p>A page of a few bytes.\n"

# Importing these opens a browser or a window, or prints.
NOT_FOR_IMPORT = {"antigravity", "idlelib", "this", "tkinter", "turtle", "turtledemo"}


def documentation() -> Iterator[tuple[str, str]]:
    """Yield the path and the HTML of one page after another, one for each module of the standard library."""
    for name in sorted(sys.stdlib_module_names - NOT_FOR_IMPORT):
        if name.startswith("_"):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                module = importlib.import_module(name)
            except ImportError:
                continue  # belongs to another system, or was left out of this interpreter
            yield f"/{name}.html", pydoc.html.page(name, pydoc.html.document(module, name))


def site(pages: dict[str, str], delay: float) -> web.Application:
    """Return the application that answers each of *pages*, by path, after *delay* seconds."""

    async def respond(request: web.Request) -> web.Response:
        await asyncio.sleep(delay)
        page = pages.get(request.path)
        if page is None:
            raise web.HTTPNotFound
        return web.Response(text=page, content_type="text/html")

    async def respond_small(request: web.Request) -> web.Response:
        return web.Response(text=SMALL_PAGE, content_type="text/html")

    application = web.Application()
    application.router.add_get("/{page}", respond)
    application.router.add_get("/small/{number}", respond_small)
    return application


async def serve(pages: dict[str, str], small: int, delay: float, *, stop_with_stdin: bool) -> None:
    """Serve *pages* and *small* further ones on a free port of this machine.

    A signal, or with *stop_with_stdin* the end of standard input, stops it.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if stop_with_stdin:
        # The parent holds the other end of this pipe; however the parent ends, the kernel closes it.
        stdin = sys.stdin.fileno()

        def on_readable() -> None:
            if not os.read(stdin, 1024):
                loop.remove_reader(stdin)
                stop.set()

        loop.add_reader(stdin, on_readable)

    runner = web.AppRunner(site(pages, delay), access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        host, port = runner.addresses[0][:2]
        paths = {"pages": list(pages), "small": [f"/small/{number}" for number in range(small)]}
        urls = {kind: [f"http://{host}:{port}{path}" for path in paths[kind]] for kind in paths}
        print(json.dumps(urls), flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve HTML pages that each answer after a moment.")
    parser.add_argument("--pages", type=int, default=100, help="how many, at most one for each module (100)")
    parser.add_argument("--small", type=int, default=0, help="how many small pages that answer at once (0)")
    parser.add_argument("--delay", type=float, default=0.1, help="seconds before each answer (0.1)")
    parser.add_argument("--stop-with-stdin", action="store_true", help="stop when standard input ends")
    options = parser.parse_args()
    asyncio.run(
        serve(
            dict(itertools.islice(documentation(), options.pages)),
            options.small,
            options.delay,
            stop_with_stdin=options.stop_with_stdin,
        )
    )
