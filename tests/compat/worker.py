"""One of aiohttp's test files in one process, started by the harness: pytest, and a plugin that reports."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.compat import clients, rows
from tests.compat.clients import SessionCount
from tests.harness.events import WHOLE_MODULE, Stream
from tests.harness.rows import row_for
from tests.harness.supervise import Job

if TYPE_CHECKING:
    from collections.abc import Iterable

SETTINGS = Path(__file__).with_name("suite.ini")

#: What aiohttp leaves out of its usual runs too.
MARKERS = "not dev_mode and not autobahn and not internal"

#: Plugins that the tests need; no other that happens to be installed is loaded.
PLUGINS = ("pytest_mock",)

#: Tests that take the permission to read away from a file, which means nothing to root.
NOT_AS_ROOT = frozenset(
    {"test_static_directory_without_read_permission", "test_static_file_without_read_permission"}
)

#: The loop is in the name of every test that has one, and is always the default one.
LOOP_PARAMETER = "pyloop"


def job(name: str, client: str, loop: str, suite: Path) -> Job:
    """Say how ``name``, a file of ``suite`` without its ending, is run (see :func:`run`)."""
    return Job(name, client, __name__, {"name": name, "client": client, "loop": loop, "suite": str(suite)})


def short_id(nodeid: str) -> str:
    """Return ``Class.test[parameters]``, or ``test[parameters]``, for a test's id of pytest's."""
    name, bracket, parameters = nodeid.partition("[")
    short = ".".join(name.split("::")[1:])
    if not bracket:
        return short
    kept = [part for part in parameters.removesuffix("]").split("-") if part != LOOP_PARAMETER]
    return f"{short}[{'-'.join(kept)}]" if kept else short


def clear_up() -> None:
    """Take away what a failed test has left, so that the tests after it do not fail for it.

    aiohttp's plugin leaves the loop of a failed test open; its warnings, and those of what hangs on it, would
    come up in whichever test the garbage collector next runs.
    """
    for name in ("last_exc", "last_type", "last_value", "last_traceback"):  # pytest's, for debuggers
        if hasattr(sys, name):
            delattr(sys, name)
    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(RuntimeError):  # there is none
                asyncio.get_event_loop().close()
            asyncio.set_event_loop(None)
            gc.collect()
    finally:
        sys.unraisablehook = hook


class Reporter:
    """Writes what pytest does to a Stream, with the sessions that were made for each test."""

    def __init__(self, stream: Stream, count: SessionCount, done: Iterable[str], name: str) -> None:
        self._stream = stream
        self._count = count
        self._done = frozenset(done)
        self._module = name
        self._begin()

    def _begin(self) -> None:
        self._outcome = "passed"
        self._details: list[str] = []
        self._seconds = 0.0
        self._made, self._strays = self._count.made, self._count.strays

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Say what was found, and put what does not apply last: whatever it breaks, the others have run."""
        known = rows.load()
        self._stream.write("module", ids=[short_id(item.nodeid) for item in items])
        left = [item for item in items if short_id(item.nodeid) not in self._done]
        if os.geteuid() == 0:
            for item in left:
                if item.name.partition("[")[0] in NOT_AS_ROOT:
                    item.add_marker(pytest.mark.skip("root may read every file"))
        config.hook.pytest_deselected(items=[item for item in items if item not in left])
        left.sort(key=lambda item: row_for(known, self._module, short_id(item.nodeid)) is not None)
        items[:] = left

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Report a file that cannot be imported."""
        if report.failed:
            self._stream.write("fixture", id=WHOLE_MODULE, outcome="failed", detail=report.longreprtext)
        elif report.skipped:
            self._stream.write("fixture", id=WHOLE_MODULE, outcome="skipped", detail=str(report.longrepr))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins."""
        self._begin()
        self._stream.write("start", id=short_id(nodeid))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Set-up, test or clean-up is over."""
        self._seconds += report.duration
        if report.failed:
            self._outcome = "failed"
            self._details.append(f"{report.longreprtext}\n" + "\n".join(text for _, text in report.sections))
        elif report.skipped and self._outcome == "passed":
            self._outcome = "skipped"
            self._details.append(getattr(report, "wasxfail", None) or str(report.longrepr))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """A test is over."""
        self._stream.write(
            "end",
            id=short_id(nodeid),
            outcome=self._outcome,
            detail="\n".join(self._details),
            seconds=round(self._seconds, 3),
            made=self._count.made - self._made,
            strays=self._count.strays - self._strays,
        )
        if self._outcome == "failed":
            clear_up()


def run(name: str, client: str, loop: str, suite: str, events: str, done: Iterable[str]) -> None:
    """Run the test file ``name`` of ``suite`` with ``client`` on ``loop``, and write to the file ``events``.

    Tests whose ids are in ``done`` are left out.
    """
    stream = Stream(events)
    if loop == "whorl":
        from whorl.default_loop import make_default

        make_default()  # before aiohttp is imported, which binds asyncio's factory
    count = SessionCount(client)
    if client != clients.CONTROL and name == "test_client_exceptions":
        clients.use_own_exceptions()
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.dont_write_bytecode = True
    arguments = [f"--rootdir={suite}", "-c", str(SETTINGS), "-p", "no:cacheprovider", "-q", "--tb=short"]
    for plugin in PLUGINS:
        if importlib.util.find_spec(plugin):
            arguments += ["-p", plugin]
    path = Path(suite, "tests", f"{name}.py")
    status = pytest.main(
        [*arguments, "-m", MARKERS, str(path)], plugins=[Reporter(stream, count, done, name)]
    )
    if status in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
        sys.exit(int(status))
    stream.write("done")  # what did not succeed was reported, an error of collection included
