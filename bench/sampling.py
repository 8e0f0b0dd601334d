"""One sample: a fresh process, its load on the other core, and the figures of one steady window."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.native import ROOT, Native
from bench.suite import Method, Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bench.peers import Peer


@dataclass(frozen=True)
class Sample:
    """What one run gave: `value` in the row's unit, less being better, and the window's length in seconds."""

    value: float
    operations: int | None
    seconds: float | None

    @property
    def operations_per_second(self) -> float | None:
        """Throughput in the window, where the row has one."""
        if self.operations is None or not self.seconds:
            return None
        return self.operations / self.seconds


class UnavailableError(Exception):
    """The peer does not offer what the row needs."""


class SampleError(Exception):
    """The run failed; the text says how."""


@dataclass(frozen=True)
class Plan:
    """How a sample of a suite is taken. Times are seconds; cores are None where there is only one.

    The measured process has one core, its load or the server it talks to the other.
    """

    suite: str
    native: Native
    warm_up: float
    window: float
    measured_core: int | None
    load_core: int | None
    #: For what is not the warm-up or the window: start-up, connecting, an unlucky machine.
    allowance: float = 60.0
    #: The URL of each database server that runs for the suite.
    databases: Mapping[str, str] = field(default_factory=dict)

    @property
    def timeout(self) -> float:
        """After which a sample has failed."""
        return self.warm_up + self.window + self.allowance


class Process:
    """A child that talks in lines of JSON, under one timeout for its whole run."""

    def __init__(self, command: list[str | Path], limit: float) -> None:
        self.name = Path(command[0]).name
        self._errors = tempfile.TemporaryFile()
        self._child = subprocess.Popen(
            command,
            cwd=ROOT,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.timed_out = False
        self._timer = threading.Timer(limit, self._time_out)
        self._timer.daemon = True
        self._timer.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    def line(self) -> dict[str, Any]:
        """The next line it says.

        Raises SampleError if it ends instead, UnavailableError if that is what it says.
        """
        assert self._child.stdout is not None
        text = self._child.stdout.readline()
        if not text:
            raise SampleError(self._post_mortem())
        said: dict[str, Any] = json.loads(text)
        if "unavailable" in said:
            raise UnavailableError(said["unavailable"])
        return said

    def end(self) -> None:
        """Ends it, whatever it is doing: nothing it holds is worth waiting for."""
        self._timer.cancel()
        self._child.kill()
        self._child.communicate()
        self._errors.close()

    def _time_out(self) -> None:
        self.timed_out = True
        self._child.kill()

    def _post_mortem(self) -> str:
        status = self._child.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        if self.timed_out:
            how = "took longer than its timeout"
        else:
            how = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
        return f"{self.name} {how}" + (f": {lines[-1]}" if lines else "")


def _environment() -> dict[str, str]:
    """Ours, without what changes how an interpreter runs (debug modes, no byte code), and without proxies."""
    kept = ("PYTHONPATH", "PYTHONHOME")
    return {
        name: value
        for name, value in os.environ.items()
        if name in kept or not (name.startswith("PYTHON") or name.lower().endswith("_proxy"))
    }


@contextmanager
def running(command: list[str | Path], limit: float) -> Iterator[Process]:
    """A process for the length of a block."""
    process = Process(command, limit)
    try:
        yield process
    finally:
        process.end()


def take(row: Row, peer: Peer, plan: Plan) -> Sample:
    """One sample of `row` on `peer`. Raises UnavailableError or SampleError."""
    with tempfile.TemporaryDirectory(prefix="whorl-bench-") as name:
        directory = Path(name)
        if row.tls:
            plan.native.write_certificate(directory)
        match row.method:
            case Method.ITSELF:
                with running(worker_command(row, peer, plan, directory), plan.timeout) as worker:
                    return _cpu_sample(worker.line())
            case Method.READING:
                with running(worker_command(row, peer, plan, directory), plan.timeout) as worker:
                    return _reading(worker.line())
            case Method.LOADED:
                return _loaded(row, peer, plan, directory)
            case Method.AGAINST_SERVER:
                return _against_server(row, peer, plan, directory)
            case Method.AGAINST_DATABASE:
                target = plan.databases[row.database]
                with running(worker_command(row, peer, plan, directory, target), plan.timeout) as client:
                    return _cpu_sample(client.line())
            case Method.HELD:
                return _held(row, peer, plan, directory)
            case Method.IMPORT:
                return _imported(peer, plan)
            case Method.START_UP:
                return _started(row, peer, plan, directory)


def worker_command(row: Row, peer: Peer, plan: Plan, directory: Path, target: str = "") -> list[str | Path]:
    """The command line of the measured process."""
    times = ["--warm-up", str(plan.warm_up), "--seconds", str(plan.window)]
    core = _core(plan.measured_core)
    if peer.native and not target:
        return [plan.native.serve, "echo", *core]
    if peer.native:
        what = [row.plain or row.workload, target, "--connections", str(row.connections)]
        sizes = ["--size", str(row.size), "--directory", str(directory)]
        return [plan.native.client, *what, *sizes, *peer.arguments, *times, *core]
    names = ["--suite", plan.suite, "--row", row.name, "--peer", peer.name]
    places = ["--directory", str(directory), "--target", target]
    return [sys.executable, "-m", "bench.worker", *names, *places, *times, *core]


def load_command(row: Row, plan: Plan, target: str, measured: int | None = None) -> list[str | Path]:
    """The command line of the load client; `measured` is the process whose CPU time it reports."""
    what = [row.load, target, "--connections", str(row.connections), "--size", str(max(row.size, 1))]
    times = ["--warm-up", str(plan.warm_up), "--seconds", str(plan.window)]
    pid = [] if measured is None else ["--pid", str(measured)]
    return [plan.native.load, *what, *times, *pid, *_other_core(plan)]


def server_command(row: Row, plan: Plan, directory: Path) -> list[str | Path]:
    """The command line of the native HTTP server that a client's row talks to."""
    tls = ["--tls", str(directory)] if row.tls else []
    tls += ["--tickets"] if row.tickets else []
    return [plan.native.serve, "http", *tls, *_other_core(plan)]


def _other_core(plan: Plan) -> list[str]:
    """Where the other side runs; spinning needs a core of its own."""
    return ["--block"] if plan.load_core is None else _core(plan.load_core)


def target_of(said: dict[str, Any]) -> str:
    """Where a server that has said so is listening."""
    return str(said["target"]) if "target" in said else f"127.0.0.1:{said['port']}"


def url_of(row: Row, said: dict[str, Any]) -> str:
    """The row's page at the native HTTP server."""
    return f"{'https' if row.tls else 'http'}://{target_of(said)}{row.path}"


def _loaded(row: Row, peer: Peer, plan: Plan, directory: Path) -> Sample:
    with running(worker_command(row, peer, plan, directory), plan.timeout) as server:
        target = target_of(server.line())
        with running(load_command(row, plan, target, server.pid), plan.timeout) as load:
            return _cpu_sample(load.line())


def _against_server(row: Row, peer: Peer, plan: Plan, directory: Path) -> Sample:
    with running(server_command(row, plan, directory), plan.timeout) as server:
        url = url_of(row, server.line())
        with running(worker_command(row, peer, plan, directory, url), plan.timeout) as client:
            said = client.line()
            return _reading(said) if row.takes_reading else _cpu_sample(said)


def _held(row: Row, peer: Peer, plan: Plan, directory: Path) -> Sample:
    with running(worker_command(row, peer, plan, directory), plan.timeout) as server:
        target = target_of(server.line())
        with running(load_command(row, plan, target), plan.timeout) as load:
            load.line()
            return _reading(server.line())


def _imported(peer: Peer, plan: Plan) -> Sample:
    return _second([sys.executable, "bench/import_time.py", peer.modules[0]], plan)


def _started(row: Row, peer: Peer, plan: Plan, directory: Path) -> Sample:
    with running(server_command(row, plan, directory), plan.timeout) as server:
        url = url_of(row, server.line())
        if peer.native:
            return _second(worker_command(row, peer, plan, directory, url), plan)
        what = ["bench.start_up", peer.loop_name, peer.client, url, str(row.size)]
        core = [] if plan.measured_core is None else [str(plan.measured_core)]
        return _second([sys.executable, "-m", *what, *core], plan)


def _second(command: list[str | Path], plan: Plan) -> Sample:
    """What the second run says: the first one finds the files and writes the byte code."""
    with running(command, plan.timeout) as process:
        process.line()
    with running(command, plan.timeout) as process:
        return _cpu_sample(process.line())


def _core(core: int | None) -> list[str]:
    return [] if core is None else ["--core", str(core)]


def _cpu_sample(said: dict[str, Any]) -> Sample:
    operations = int(said["operations"])
    if operations == 0:
        raise SampleError("no operation finished inside the window")
    return Sample(float(said["cpu_seconds"]) * 1e6 / operations, operations, float(said["seconds"]))


def _reading(said: dict[str, Any]) -> Sample:
    return Sample(float(said["value"]), None, None)


def cores() -> tuple[int | None, int | None]:
    """A core for the measured process and one for its load; None twice where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[1]) if len(usable) > 1 else (None, None)
