"""What ``make run`` shows: a plain asyncio program, run unchanged on whorl's event loop.

    python -m examples.demo            the pages of a local site, one by one and then all together
    python -m examples.demo URL…       these pages instead

:mod:`examples.fetch` is run by ``whorl run``, in a process of its own; the local site is another process, on
asyncio's own loop. The exit status is 1 if a page could not be fetched, and 130 after Ctrl-C.
"""

import argparse
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from examples.fetch import Page, report, summary

EXAMPLES = Path(__file__).parent


@contextlib.contextmanager
def child(*command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run *command*, and see to it that the process is gone on leaving, however that happens."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(timeout=5)
                except subprocess.TimeoutExpired:
                    process.kill()


@contextlib.contextmanager
def local_site(pages: int) -> Iterator[list[str]]:
    """Serve *pages* pages while the context lasts; yields their URLs."""
    # A session of its own: Ctrl-C in a terminal must not end the site under the program that reads it. The
    # pipe to its standard input ends it when this process is gone, even if that was killed.
    command = (sys.executable, str(EXAMPLES / "site.py"), "--pages", str(pages), "--stop-with-stdin")
    with child(*command, stdin=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        announcement = process.stdout.readline()
        if not announcement:
            raise SystemExit("the local site could not be started")
        yield json.loads(announcement)["pages"]


def fetch(urls: list[str], *options: str) -> tuple[list[Page], float]:
    """Run the example on whorl's loop; returns what it prints: a page for each URL, and the seconds taken."""
    whorl_run = (sys.executable, "-m", "whorl", "run")
    with child(*whorl_run, str(EXAMPLES / "fetch.py"), "--json", *options, "--", *urls) as process:
        output, _ = process.communicate()
    if not output:
        raise SystemExit(f"examples/fetch.py ended with status {process.returncode} and no result")
    result = json.loads(output)
    return [Page(**page) for page in result["pages"]], result["seconds"]


def say(text: str) -> None:
    """Print *text* now, even where the output is a pipe: the progress bars go elsewhere, and take a while."""
    print(text, flush=True)


def main() -> int:
    """Run the demonstration and return its exit status."""
    parser = argparse.ArgumentParser(description="Fetch pages on whorl's event loop.")
    parser.add_argument("urls", nargs="*", metavar="URL", help="fetch these, not the local site's")
    parser.add_argument("--pages", type=int, default=100, help="how many pages the local site has (100)")
    options = parser.parse_args()
    # Without a handler, SIGTERM would end this process and leave its children.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))

    with contextlib.ExitStack() as stack:
        urls = options.urls
        if not urls:
            say(f"starting a local site: {options.pages} pages of HTML that each answer after 100 ms")
            urls = stack.enter_context(local_site(options.pages))
        say(f"whorl run examples/fetch.py: {len(urls)} pages, one by one and then all together")
        slow_pages, slow = fetch(urls, "--one-by-one")
        pages, fast = fetch(urls)

    # Pages are listed once: as they came all together, and what failed only one by one besides.
    failed = [page for page in slow_pages if page.error is not None and page not in pages]
    say(report(pages + failed))
    say(f"\none by one:   {summary(slow_pages, slow)}")
    say(f"all together: {summary(pages, fast)}")
    if all(page.error is None for page in slow_pages + pages):
        say(f"speed-up:     {slow / fast:.1f} times")
        return 0
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)  # 128 + SIGINT, as shells count it
