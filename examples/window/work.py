"""What the window shows, without a toolkit: pages that are fetched, primes that are counted, frames."""

import asyncio
import contextlib
import math
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import whorl.gui
import whorl.http as http
from examples.fetch import Page

PICTURE = (
    "A shop: one cashier who serves the next customer while another looks for his purse is concurrency. "
    "So this window's thread fetches pages: it waits for all of them at once. Several cashiers are "
    "parallelism. So processes of their own compute. The window stays responsive in both."
)

#: Connections to the site.
AT_ONCE = 8
#: Primes are counted in steps, so that there is progress to show and something to cancel.
STEP = 20_000
#: Seconds from one frame to the next.
FRAME = 1 / 60


def count_primes(start: int, stop: int) -> int:
    """Count the primes of a range, by division: a function that computes, as slow as it is simple."""
    return sum(
        all(number % divisor for divisor in range(2, math.isqrt(number) + 1))
        for number in range(max(start, 2), stop)
    )


class Work:
    """What the two buttons start. A view shows what it reads here with each frame.

    A context manager: at its end nothing runs any more.
    """

    def __init__(self, urls: list[str], limit: int) -> None:
        self.urls = urls
        #: Primes below this are counted.
        self.limit = limit
        #: The pages that have come so far, of the latest fetch.
        self.pages: list[Page] = []
        self.primes = 0
        self.steps_done = 0
        #: What went wrong other than a page.
        self.errors: list[str] = []
        self.frames = Frames()
        self._tasks: set[asyncio.Task[None]] = set()
        # A new interpreter for each process: a copy of this one would have the toolkit's connections.
        self._pool = ProcessPoolExecutor(
            mp_context=multiprocessing.get_context("spawn"),
            # With all cores computing, the window's process is still to run at once.
            initializer=os.nice,
            initargs=(10,),
        )
        # Each call starts one of them: now, before there are frames to come late.
        for _ in range(os.cpu_count() or 1):
            self._pool.submit(os.getpid)

    async def __aenter__(self) -> "Work":
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # It waits for the steps that have begun.
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    # -- the buttons -----------------------------------------------------------------------------------------

    @whorl.gui.slot(one_at_a_time=True)
    async def fetch(self) -> None:
        """Fetch the pages, several at once."""
        with self._running():
            self.pages = []
            connector = http.TCPConnector(limit=AT_ONCE)
            async with http.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
                for url in self.urls:
                    group.create_task(self._fetch(session, url))

    async def _fetch(self, session: http.ClientSession, url: str) -> None:
        try:
            async with session.get(url) as response:
                page = Page(url, response.status, len(await response.read()))
        except (http.ClientError, OSError, ValueError) as error:
            page = Page(url, error=str(error) or type(error).__name__)
        self.pages.append(page)

    @whorl.gui.slot(one_at_a_time=True)
    async def compute(self) -> None:
        """Count primes on all cores."""
        with self._running():
            self.primes = self.steps_done = 0
            async with asyncio.TaskGroup() as group:
                for start in range(0, self.limit, STEP):
                    group.create_task(self._count(start))

    async def _count(self, start: int) -> None:
        loop = asyncio.get_running_loop()
        stop = min(start + STEP, self.limit)
        primes = await loop.run_in_executor(self._pool, count_primes, start, stop)
        self.primes += primes
        self.steps_done += 1

    def cancel(self) -> None:
        """Cancel what the other buttons have started."""
        for task in self._tasks:
            task.cancel()

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            yield
        except Exception as error:
            self.errors.append(f"{type(error).__name__}: {error}")
            raise
        finally:
            self._tasks.discard(task)

    # -- what is shown ---------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether something that a button has started is still running."""
        return bool(self._tasks)

    @property
    def steps(self) -> int:
        """How many steps the count of primes takes."""
        return math.ceil(self.limit / STEP)

    @property
    def fetched(self) -> str:
        """How far the pages are, in words."""
        return f"{len(self.pages)} of {len(self.urls)} pages"

    @property
    def computed(self) -> str:
        """How far the primes are, in words."""
        below = min(self.steps_done * STEP, self.limit)
        return f"{self.primes:,} primes in {below:,} of {self.limit:,} numbers"

    @property
    def complete(self) -> bool:
        """Whether all was fetched and counted, and nothing has failed."""
        pages = len(self.pages) == len(self.urls) and all(page.error is None for page in self.pages)
        return pages and self.steps_done == self.steps and not self.errors


class Frames:
    """When the next frame is due, and how late the last one was; a view calls :meth:`begin` with each."""

    def __init__(self) -> None:
        self.drawn = 0
        #: Seconds.
        self.late = 0.0
        self.greatest = 0.0
        self._due: float | None = None

    def begin(self) -> int:
        """Count a frame that begins now, and return the milliseconds until the next one."""
        now = time.perf_counter()
        if self._due is None:
            self._due = now
        self.drawn += 1
        self.late = now - self._due
        self.greatest = max(self.greatest, self.late)
        # The frames that were missed are left out.
        self._due += FRAME * (1 + self.late // FRAME)
        return max(1, math.ceil((self._due - now) * 1000))

    @property
    def hand(self) -> float:
        """The angle of the clock's hand: once around in two seconds."""
        return time.perf_counter() * math.pi % math.tau

    @property
    def text(self) -> str:
        """How late frames are, in words."""
        return (
            f"{self.drawn:,} frames, the last one late by {self.late * 1000:.1f} ms, "
            f"the latest of all by {self.greatest * 1000:.1f} ms"
        )
