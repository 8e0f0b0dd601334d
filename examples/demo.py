"""What ``make run`` shows: a plain asyncio and aiohttp program, run unchanged in three ways.

    python -m examples.demo            the pages of a local site
    python -m examples.demo URL…       these pages instead

:mod:`examples.fetch` is run by ``python``, by ``whorl run`` (aiohttp on whorl's event loop) and by ``whorl
run --drop-in`` (whorl's client as well), each in a process of its own. It fetches pages that take their time,
and many small ones that take none: there it shows what the client itself costs, with one session for all of
them and with a session for each. The local site is another process, on asyncio's own loop. The exit status is
1 if a page could not be fetched, and 130 after Ctrl-C.
"""

import argparse
import contextlib
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from examples.children import WHORL_RUN, child, end_children_on_termination
from examples.fetch import Page, report, summary

EXAMPLES = Path(__file__).parent

DROP_IN = "whorl.http on whorl's loop"

#: What comes before the program on Python's command line.
WAYS = {
    "aiohttp on asyncio": (),
    "aiohttp on whorl's loop": WHORL_RUN,
    DROP_IN: (*WHORL_RUN, "--drop-in"),
}

#: How many small pages are fetched at once by one session.
CONNECTIONS = 32

#: How many are fetched at once by sessions of their own, and of how many pages.
AT_ONCE, OF_THEIR_OWN = 100, 2000


@contextlib.contextmanager
def local_site(pages: int, small: int) -> Iterator[tuple[list[str], list[str]]]:
    """Serve *pages* slow pages and *small* quick ones while the context lasts; yields the URLs of both."""
    # A session of its own: Ctrl-C in a terminal must not end the site under the program that reads it. The
    # pipe to its standard input ends it when this process is gone, even if that was killed.
    site = (sys.executable, str(EXAMPLES / "site.py"), "--stop-with-stdin")
    command = (*site, "--pages", str(pages), "--small", str(small))
    with child(*command, stdin=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        announcement = process.stdout.readline()
        if not announcement:
            raise SystemExit("the local site could not be started")
        urls = json.loads(announcement)
        yield urls["pages"], urls["small"]


@dataclasses.dataclass
class Run:
    """What came of one run of the example: a page for each URL, and the time that it took, in seconds."""

    pages: list[Page]
    seconds: float
    cpu_seconds: float

    @property
    def failed(self) -> list[Page]:
        """The pages that could not be fetched."""
        return [page for page in self.pages if page.error is not None]


def fetch(way: str, urls: list[str], *options: str) -> Run:
    """Run the example in one of :data:`WAYS`."""
    command = (sys.executable, *WAYS[way], str(EXAMPLES / "fetch.py"), "--json", *options, "--", *urls)
    with child(*command) as process:
        output, _ = process.communicate()
    if not output:
        raise SystemExit(f"examples/fetch.py ended with status {process.returncode} and no result")
    result = json.loads(output)
    return Run([Page(**page) for page in result["pages"]], result["seconds"], result["cpu_seconds"])


def table(runs: dict[str, Run], small: dict[str, Run], classic: dict[str, Run]) -> str:
    """Return a line for each way; the times of the small pages are compared with the first's."""
    head = f"{'the same program':<28}{'all together':>14}"
    if small:
        count = len(next(iter(small.values())).pages)
        head += f"{f'{count:,} small pages':>22}{'CPU time of a page':>24}{'with a session each':>24}"
    lines = [head]
    for way, run in runs.items():
        line = f"{way:<28}{run.seconds:>12.2f} s"
        if small:
            mine, first = small[way], next(iter(small.values()))
            line += f"{mine.seconds:>12.2f} s ({first.seconds / mine.seconds:4.1f}x)"
            line += cpu_time(mine, first) + cpu_time(classic[way], next(iter(classic.values())))
        lines.append(line)
    return "\n".join(lines)


def cpu_time(run: Run, first: Run) -> str:
    """Return the CPU time of a page, and how many times as much *first* takes."""
    mine, its = (each.cpu_seconds / len(each.pages) * 1e6 for each in (run, first))
    return f"{mine:>13,.0f} µs ({its / mine:4.1f}x)"


def say(text: str) -> None:
    """Print *text* now, even where the output is a pipe: the progress bars go elsewhere, and take a while."""
    print(text, flush=True)


def main() -> int:
    """Run the demonstration and return its exit status."""
    parser = argparse.ArgumentParser(
        description="Fetch pages with aiohttp, on whorl's loop, and with its client."
    )
    parser.add_argument("urls", nargs="*", metavar="URL", help="fetch these, not the local site's")
    parser.add_argument("--pages", type=int, default=100, help="how many pages the local site has (100)")
    parser.add_argument("--small", type=int, default=5000, help="how many small pages it has (5000)")
    options = parser.parse_args()
    end_children_on_termination()

    small: dict[str, Run] = {}
    classic: dict[str, Run] = {}
    with contextlib.ExitStack() as stack:
        urls, small_urls = options.urls, []
        if not urls:
            say(
                f"starting a local site: {options.pages} pages of HTML that each answer after 100 ms, "
                f"and {options.small:,} small ones that answer at once"
            )
            urls, small_urls = stack.enter_context(local_site(options.pages, options.small))
        say(f"whorl run --drop-in examples/fetch.py: {len(urls)} pages, one by one and then all together")
        slow = fetch(DROP_IN, urls, "--one-by-one")
        runs = {way: fetch(way, urls) for way in WAYS}
        if small_urls:
            say(f"and {len(small_urls):,} small pages over {CONNECTIONS} connections, in three ways")
            quick = (f"--connections={CONNECTIONS}", "--no-progress")
            small = {way: fetch(way, small_urls, *quick) for way in WAYS}
            own_urls = small_urls[:OF_THEIR_OWN]
            say(f"and {len(own_urls):,} of them with a session for each, {AT_ONCE} at once")
            classic = {way: fetch(way, own_urls, f"--at-once={AT_ONCE}", "--no-progress") for way in WAYS}

    # Pages are listed once: as they came all together, and what failed only another time as well.
    shown = runs[DROP_IN]
    failed = [
        page for run in (slow, *runs.values(), *small.values(), *classic.values()) for page in run.failed
    ]
    say(report(shown.pages + [page for page in failed if page not in shown.pages]))
    say(f"\none by one:   {summary(slow.pages, slow.seconds)}")
    say(f"all together: {summary(shown.pages, shown.seconds)}")
    if not failed:
        say(f"speed-up:     {slow.seconds / shown.seconds:.1f} times")
    say(f"\n{table(runs, small, classic)}")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)  # 128 + SIGINT, as shells count it
