"""One test module in one process, started by the harness: writes what happens to a file of events."""

from __future__ import annotations

import importlib
import time
import traceback
import unittest
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from tests.conformance import recipes, rows
from tests.conformance.loops import LoopFactory
from tests.harness.events import WHOLE_MODULE, Stream
from tests.harness.rows import row_for
from tests.harness.supervise import Job

PACKAGE = "test.test_asyncio"

#: Resources of the suite (regrtest's -u) that are on: none that reaches outside this machine.
RESOURCES = ("cpu", "walltime", "subprocess", "decimal", "tzdata")

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


def short_id(test: unittest.TestCase) -> str:
    """Return ``Class.test`` for ``test``."""
    return ".".join(test.id().rsplit(".", 2)[-2:])


class StreamResult(unittest.TestResult):
    """A unittest result that writes every outcome to a Stream, with the loops that were made for the test."""

    def __init__(self, stream: Stream, factory: LoopFactory) -> None:
        super().__init__()
        self._stream = stream
        self._factory = factory
        self._outcome = "passed"
        self._details: list[str] = []
        self._started = 0.0
        self._made = self._strays = 0
        self._running = False

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._running = True
        self._outcome, self._details = "passed", []
        self._made, self._strays = self._factory.made, self._factory.strays
        self._started = time.monotonic()
        self._stream.write("start", id=short_id(test))

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        self._running = False
        self._stream.write(
            "end",
            id=short_id(test),
            outcome=self._outcome,
            detail="\n".join(self._details),
            seconds=round(time.monotonic() - self._started, 3),
            made=self._factory.made - self._made,
            strays=self._factory.strays - self._strays,
        )

    def _record(self, test: Any, outcome: str, detail: str) -> None:
        if self._running:
            self._details.append(detail)
            if self._outcome != "failed":
                self._outcome = outcome
        else:  # unittest reports a class or module fixture by a stand-in for a test
            self._stream.write("fixture", id=str(test.id()), outcome=outcome, detail=detail)

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self._record(test, "failed", _format(err))

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._record(test, "failed", _format(err))

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            self._record(test, "failed", f"{subtest}\n{_format(err)}")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        if hasattr(test, "test_case"):  # a subtest that is skipped leaves the rest of its test to run
            return
        if not self._running and isinstance(test, unittest.TestCase):
            self.startTest(test)  # Python 3.12.1 skips a test that it has not started (cpython #106584)
        self._record(test, "skipped", reason)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._record(test, "failed", "passed although the suite marks it as an expected failure")


def _format(err: _ExcInfo) -> str:
    return "".join(traceback.format_exception(*err))


def use_local_resources() -> None:
    """Set the suite's own resource flags, so that tests which need the outside network skip themselves."""
    support: Any = importlib.import_module("test.support")
    support.use_resources = dict.fromkeys(RESOURCES)


def collect(package: str, name: str, factory: LoopFactory) -> list[unittest.TestCase] | str:
    """Import module ``name`` of ``package`` and return its tests, or the reason why it skips itself."""
    try:
        module = importlib.import_module(f"{package}.{name}")
    except unittest.SkipTest as skip:
        return str(skip)
    return list(recipes.cases_for(module, name, factory))


def job(name: str, loop: str, with_not_applicable: bool, package: str = PACKAGE) -> Job:
    """Say how module ``name`` of ``package`` is run on the loop called ``loop`` (see :func:`run`)."""
    arguments = {
        "package": package,
        "name": name,
        "loop": loop,
        "with_not_applicable": with_not_applicable,
    }
    return Job(name, loop, __name__, arguments)


def run(
    package: str, name: str, loop: str, events: str, done: Iterable[str], with_not_applicable: bool
) -> None:
    """Run test module ``name`` of ``package`` on the loop called ``loop`` and write to the file ``events``.

    Tests whose ids are in ``done`` are left out, and without ``with_not_applicable`` those that a row covers.
    """
    stream = Stream(events)
    use_local_resources()
    factory = LoopFactory.for_name(loop)
    factory.watch_strays()
    recipes.substitute_default_loop(factory, name)
    tests = collect(package, name, factory)
    if isinstance(tests, str):
        stream.write("module", ids=[WHOLE_MODULE])
        stream.write("end", id=WHOLE_MODULE, outcome="skipped", detail=tests, seconds=0.0, made=0, strays=0)
        stream.write("done")
        return
    stream.write("module", ids=[short_id(test) for test in tests])
    known, left_out = rows.load(), set(done)
    suite = unittest.TestSuite()
    for test in tests:
        identity = short_id(test)
        if identity not in left_out and (with_not_applicable or row_for(known, name, identity) is None):
            suite.addTest(test)
    suite.run(StreamResult(stream, factory))
    stream.write("done")
