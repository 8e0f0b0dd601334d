"""Runs one test module in a subprocess with timeouts, and turns its events into results.

A test that hangs is given SIGABRT, so that faulthandler writes where every thread stands, and is reported as
``hung``; a process that ends by itself in the middle of a test is reported as ``crashed``. Either way a new
process takes up the module after that test, a few times over; a module that keeps failing so is given up,
and the tests that were not reached are reported as ``not run``.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.harness.events import WHOLE_MODULE

ROOT = Path(__file__).resolve().parents[2]

#: Outcomes that make a run unsuccessful.
BAD = frozenset({"failed", "hung", "crashed", "not run"})

#: After so many hangs and crashes the rest of a module is not run.
MAX_RESTARTS = 8

#: Set when the run is interrupted: every worker is ended, and none is started after it.
stopping = threading.Event()

_POLL = 0.05  # seconds between polls of a worker
_GRACE = 30.0  # seconds a worker has to write its tracebacks, or to exit when it is done

_PROGRAM = """\
import faulthandler, importlib, json, sys
faulthandler.enable()
root, worker, arguments = sys.argv[1:]
sys.path.insert(0, root)
importlib.import_module(worker).run(**json.loads(arguments))
"""


@dataclass(frozen=True)
class Job:
    """One test module to be run, and how.

    ``subject`` is what the module is run on (a loop, a client), by its name on the command line. ``worker``
    is the Python module whose ``run()`` does it, in a process of its own, with ``arguments`` (as JSON) and
    two more: ``events``, the path of the file to write events to, and ``done``, the ids of tests to be left
    out.
    """

    module: str
    subject: str
    worker: str
    arguments: dict[str, Any]


@dataclass
class Outcome:
    """What became of one test: passed, skipped, failed, hung, crashed, not run, or not applicable.

    ``made`` counts the objects under test (loops, sessions) that were made in it, ``strays`` those of the
    stock class that were made although another was chosen.
    """

    status: str
    detail: str = ""
    seconds: float = 0.0
    made: int = 0
    strays: int = 0


@dataclass
class ModuleResult:
    """What became of one module on one subject. ``ids`` are the tests found in it, in order."""

    module: str
    subject: str
    ids: list[str] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    seconds: float = 0.0
    log: str = ""

    def count(self, *statuses: str) -> int:
        """Return how many tests have one of ``statuses``."""
        return sum(outcome.status in statuses for outcome in self.outcomes.values())

    @property
    def made(self) -> int:
        """Return how many objects of the chosen class were made."""
        return sum(outcome.made for outcome in self.outcomes.values())

    @property
    def bad(self) -> dict[str, Outcome]:
        """Return the tests that were neither passed nor skipped nor not applicable."""
        return {test: outcome for test, outcome in self.outcomes.items() if outcome.status in BAD}


@dataclass(frozen=True)
class Limits:
    """Timeouts in seconds: for one test, and for one module."""

    test: float
    module: float


class _Attempt:
    """One worker process of a module, from its start to its end."""

    def __init__(self, job: Job, result: ModuleResult, directory: Path, number: int) -> None:
        self._result = result
        self._events_path = directory / f"events-{number}"
        self._log_path = directory / f"log-{number}"
        self._events_path.touch()
        self._offset = 0
        self.current: str | None = None
        self.current_since = time.monotonic()
        self.finished = False
        arguments = job.arguments | {"events": str(self._events_path), "done": list(result.outcomes)}
        # The suite writes into the current directory; a session of its own lets all descendants be killed.
        scratch = directory / f"scratch-{number}"
        scratch.mkdir()
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONASYNCIODEBUG"}
        with self._log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(ROOT), job.worker, json.dumps(arguments)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=scratch,
                env=environment,
                start_new_session=True,
            )

    def read(self) -> None:
        """Take in the events written since the last call."""
        with self._events_path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                self._take(json.loads(line))

    def _take(self, event: dict[str, Any]) -> None:
        result = self._result
        kind = event.pop("event")
        if kind == "module":
            result.ids = event["ids"]
        elif kind == "start":
            self.current, self.current_since = event["id"], time.monotonic()
        elif kind == "end":
            self.current, self.current_since = None, time.monotonic()
            outcome = Outcome(
                event["outcome"], event["detail"], event["seconds"], event["made"], event["strays"]
            )
            result.outcomes[event["id"]] = outcome
        elif kind == "fixture":
            result.outcomes[event["id"]] = Outcome(event["outcome"], event["detail"])
        elif kind == "done":
            self.finished, self.current_since = True, time.monotonic()

    def kill(self) -> None:
        """End the worker and everything it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def abort(self) -> None:
        """Let a worker that hangs write its tracebacks, then end it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_GRACE)
        self.kill()

    def log(self) -> str:
        """Return what the worker printed."""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def follow(self, limits: Limits, module_deadline: float) -> str | None:
        """Wait for the end of the worker; return None if it was a good one, else what went wrong."""
        while True:
            if stopping.is_set():
                return "interrupted"
            status = self.process.poll()  # before the read, so that nothing written before the end is missed
            self.read()
            now = time.monotonic()
            if status is not None:
                if self.finished and status == 0:
                    return None
                return _describe_exit(status)
            if self.finished and now - self.current_since > _GRACE:
                self.abort()
                return f"did not exit within {_GRACE:g} s of its last test"
            if not self.finished and now - self.current_since > limits.test:
                self.abort()
                return f"hung: no result within {limits.test:g} s"
            if now > module_deadline:
                self.abort()
                return f"hung: the module took longer than {limits.module:g} s"
            time.sleep(_POLL)


def _describe_exit(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-status).name}"
    return f"killed by signal {-status}"


def run_module(job: Job, limits: Limits) -> ModuleResult:
    """Run one module; a new process after each hang or crash."""
    result = ModuleResult(job.module, job.subject)
    began = time.monotonic()
    deadline = began + limits.module
    with tempfile.TemporaryDirectory(prefix="whorl-suite-") as directory:
        for number in range(1 + MAX_RESTARTS):
            attempt = _Attempt(job, result, Path(directory), number)
            try:
                trouble = attempt.follow(limits, deadline)
            finally:
                attempt.kill()
            log = attempt.log()
            result.log += log
            if trouble is None:
                break
            where = attempt.current or ("(exit)" if attempt.finished else "(start)")
            status = "hung" if trouble.startswith(("hung", "did not exit")) else "crashed"
            result.outcomes[where] = Outcome(
                status, f"{trouble}\n{_tail(log)}", time.monotonic() - attempt.current_since
            )
            if attempt.current is None or stopping.is_set() or time.monotonic() > deadline:
                break
    result.seconds = time.monotonic() - began
    return result


def run_jobs(jobs: Iterable[Job], limits: Limits, at_once: int) -> dict[tuple[str, str], ModuleResult]:
    """Run every job, ``at_once`` together; return the results by module and subject.

    On an interrupt (an exception raised by a signal handler) every worker is ended before it propagates.
    """
    work = list(jobs)
    done: dict[tuple[str, str], ModuleResult] = {}
    with concurrent.futures.ThreadPoolExecutor(max(1, at_once)) as pool:
        futures = [pool.submit(run_module, job, limits) for job in work]
        try:
            for future in concurrent.futures.as_completed(futures):
                result = future.result()
                done[result.module, result.subject] = result
                if sys.stderr.isatty():
                    print(
                        f"\r{len(done)}/{len(work)} {result.module:<40}", end="", file=sys.stderr, flush=True
                    )
        except (
            BaseException
        ):  # Ctrl-C or SIGTERM: the workers are in sessions of their own and would outlive us
            stopping.set()
            pool.shutdown(cancel_futures=True)
            raise
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    return done


def complete(result: ModuleResult, not_applicable: dict[str, str]) -> None:
    """Give every test without an outcome one.

    ``not_applicable`` maps those that a row leaves out to its reason; one whose class or module fixture
    skipped is skipped with it; any other was not run.
    """
    fixtures = {test: outcome for test, outcome in result.outcomes.items() if test not in result.ids}
    for test in result.ids:
        if test in result.outcomes:
            continue
        if test in not_applicable:
            result.outcomes[test] = Outcome("not applicable", not_applicable[test])
            continue
        skip = next((o for f, o in fixtures.items() if o.status == "skipped" and _covers(f, test)), None)
        result.outcomes[test] = Outcome("skipped", skip.detail) if skip else Outcome("not run")
    for fixture, outcome in fixtures.items():
        if outcome.status == "skipped":
            del result.outcomes[fixture]  # its tests carry the skip now


def _covers(fixture: str, test: str) -> bool:
    """Whether ``fixture``, such as ``setUpClass (package.module.Class)``, stands before ``test``."""
    if fixture.startswith(("setUpModule", WHOLE_MODULE)):
        return True
    return fixture.rstrip(")").endswith("." + test.split(".")[0])


def _tail(text: str, lines: int = 40) -> str:
    """The last of what was printed; of a traceback that faulthandler wrote, the first: where it happened."""
    printed = text.splitlines()
    begins = [number for number, line in enumerate(printed) if "most recent call first" in line]
    shown = printed[begins[0] :][:lines] if begins else printed[-lines:]
    return "\n".join(shown)
