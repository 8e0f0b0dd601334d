"""Fetch web pages with asyncio and aiohttp, all together or one by one.

    python examples/fetch.py https://www.python.org https://docs.python.org

Prints status and size of every page, or why it could not be fetched; the exit status is 1 if any could not.
Each page has a session of its own; with --connections they share one, and so its connections.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import functools
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable

import aiohttp
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

TIMEOUT = aiohttp.ClientTimeout(total=60, connect=15)  # seconds


@dataclasses.dataclass
class Page:
    """What came of one URL: a status and a size in bytes, or an error."""

    url: str
    status: int | None = None
    size: int = 0
    error: str | None = None


async def fetch_data(url: str) -> Page:
    """Fetch one page with a session of its own."""
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        return await fetch_with(session, url)


async def fetch_with(session: aiohttp.ClientSession, url: str) -> Page:
    """Fetch one page. A failure is a result too, so that one bad URL does not take the others with it."""
    try:
        async with session.get(url) as response:
            await response.text(errors="replace")
            return Page(url, response.status, len(await response.read()))
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Page(url, error=describe(error))


def describe(error: Exception) -> str:
    """Say why a page could not be fetched, in one line."""
    if isinstance(error, aiohttp.NonHttpUrlClientError):
        return "not an http or https URL"
    if isinstance(error, aiohttp.InvalidURL):
        return f"malformed URL: {error.description}" if error.description else "malformed URL"
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, aiohttp.ClientConnectorError) and error.errno:
        # Of the system's error numbers the positive ones are its own, the negative ones the resolver's.
        return f"cannot connect: {os.strerror(error.errno) if error.errno > 0 else error.strerror}"
    return str(error) or type(error).__name__


async def main(
    urls: list[str],
    *,
    one_by_one: bool,
    connections: int | None,
    at_once: int | None,
    progress: Progress,
) -> list[Page]:
    """Fetch *urls* and return a page for each, in the same order."""
    done = progress.add_task("one by one" if one_by_one else "all together", total=len(urls))
    fetch: Callable[[str], Awaitable[Page]] = fetch_data

    async def fetch_and_count(url: str) -> Page:
        async with free:
            page = await fetch(url)
        if not progress.disable:
            progress.advance(done)
        return page

    async with contextlib.AsyncExitStack() as stack:
        if connections is not None:
            session = await stack.enter_async_context(aiohttp.ClientSession(timeout=TIMEOUT))
            fetch = functools.partial(fetch_with, session)
        free = asyncio.Semaphore(connections or at_once or len(urls))

        if one_by_one:
            return [await fetch_and_count(url) for url in urls]
        tasks = [asyncio.create_task(fetch_and_count(url)) for url in urls]
        return await asyncio.gather(*tasks)


def report(pages: list[Page]) -> str:
    """Return a line for each page: what was fetched, or why it was not."""
    return "\n".join(
        f"{page.status:>6} {page.size:>11,} bytes  {page.url}"
        if page.error is None
        else f"failed {page.url!r}: {page.error}"
        for page in pages
    )


def summary(pages: list[Page], seconds: float) -> str:
    """Return one line: how much was fetched, and in what time."""
    fetched = [page for page in pages if page.error is None]
    size = sum(page.size for page in fetched)
    return f"{len(fetched)} of {len(pages)} pages, {size:,} bytes in {seconds:.2f} s"


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Fetch web pages, all together or one by one.")
    parser.add_argument("urls", nargs="+", metavar="URL")
    parser.add_argument("--one-by-one", action="store_true", help="start a page when the one before is there")
    parser.add_argument(
        "--connections", type=int, metavar="N", help="share one session, and fetch N pages at once"
    )
    parser.add_argument("--at-once", type=int, metavar="N", help="fetch no more than N pages at once")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=sys.stderr.isatty(),
        help="show a progress bar on standard error (default: if that is a terminal)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    options = arguments()
    progress = Progress(
        TextColumn("{task.description:>12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=not options.progress,
    )
    try:
        with progress:
            start, cpu_start = time.perf_counter(), time.process_time()
            way = {name: getattr(options, name) for name in ("one_by_one", "connections", "at_once")}
            pages = asyncio.run(main(options.urls, **way, progress=progress))
            seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    except KeyboardInterrupt:
        sys.exit(130)  # 128 + SIGINT, as shells count it

    if options.json:
        result = {"seconds": seconds, "cpu_seconds": cpu_seconds}
        print(json.dumps(result | {"pages": [dataclasses.asdict(page) for page in pages]}))
    else:
        print(report(pages), summary(pages, seconds), sep="\n")
    sys.exit(any(page.error is not None for page in pages))
