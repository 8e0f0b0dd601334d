"""One sample: a fresh process, its load on the other core, and the figures of one steady window."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.native import ROOT, Native
from bench.rows import Method, Row, Unit

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    """How a sample is taken. Times are seconds; cores are None where there is only one."""

    native: Native
    warm_up: float
    window: float
    server_core: int | None
    load_core: int | None
    #: For what is not the warm-up or the window: start-up, connecting, an unlucky machine.
    allowance: float = 60.0

    @property
    def time_limit(self) -> float:
        """After which a sample has failed."""
        return self.warm_up + self.window + self.allowance


class Process:
    """A child that talks in lines of JSON, under one time limit for its whole life."""

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
            how = "took longer than its time limit"
        else:
            how = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
        return f"{self.name} {how}" + (f": {lines[-1]}" if lines else "")


def _environment() -> dict[str, str]:
    """Ours, without the settings that change how an interpreter runs: debug modes, byte code not written."""
    kept = ("PYTHONPATH", "PYTHONHOME")
    return {
        name: value for name, value in os.environ.items() if not name.startswith("PYTHON") or name in kept
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
        if "tls" in row.workload:
            plan.native.write_certificate(directory)
        match row.method:
            case Method.ITSELF:
                with running(worker_command(row, peer, plan, directory), plan.time_limit) as worker:
                    return _cpu_sample(worker.line())
            case Method.LOADED:
                return _loaded(row, peer, plan, directory)
            case Method.AGAINST_SERVER:
                return _against_server(row, peer, plan, directory)
            case Method.HELD:
                return _held(row, peer, plan, directory)
            case Method.IMPORT:
                return _imported(peer, plan)


def worker_command(row: Row, peer: Peer, plan: Plan, directory: Path, target: str = "") -> list[str | Path]:
    """The command line of the measured process."""
    if peer.native:
        return [plan.native.serve, "echo", *_core(plan.server_core)]
    times = ["--warm-up", str(plan.warm_up), "--seconds", str(plan.window)]
    names = ["--peer", peer.name, "--row", row.name, "--directory", str(directory), "--target", target]
    return [sys.executable, "-m", "bench.worker", *names, *times, *_core(plan.server_core)]


def load_command(row: Row, plan: Plan, target: str, measured: int | None = None) -> list[str | Path]:
    """The command line of the load client; `measured` is the process whose CPU time it reports."""
    what = [row.load, target, "--connections", str(row.connections), "--size", str(max(row.size, 1))]
    times = ["--warm-up", str(plan.warm_up), "--seconds", str(plan.window)]
    pid = [] if measured is None else ["--pid", str(measured)]
    # Spinning needs a core of its own.
    spin = [] if plan.load_core is not None else ["--block"]
    return [plan.native.load, *what, *times, *pid, *spin, *_core(plan.load_core)]


def server_command(row: Row, plan: Plan) -> list[str | Path]:
    """The command line of the native HTTP server that a client's row talks to."""
    return [plan.native.serve, "http", "--body", str(row.size), *_core(plan.load_core)]


def target_of(said: dict[str, Any]) -> str:
    """Where a server that has said so is listening."""
    return str(said["target"]) if "target" in said else f"127.0.0.1:{said['port']}"


def _loaded(row: Row, peer: Peer, plan: Plan, directory: Path) -> Sample:
    with running(worker_command(row, peer, plan, directory), plan.time_limit) as server:
        target = target_of(server.line())
        with running(load_command(row, plan, target, server.pid), plan.time_limit) as load:
            return _cpu_sample(load.line())


def _against_server(row: Row, peer: Peer, plan: Plan, directory: Path) -> Sample:
    with running(server_command(row, plan), plan.time_limit) as server:
        target = target_of(server.line())
        with running(worker_command(row, peer, plan, directory, target), plan.time_limit) as client:
            return _cpu_sample(client.line())


def _held(row: Row, peer: Peer, plan: Plan, directory: Path) -> Sample:
    with running(worker_command(row, peer, plan, directory), plan.time_limit) as server:
        target = target_of(server.line())
        with running(load_command(row, plan, target), plan.time_limit) as load:
            load.line()
            return Sample(float(server.line()["bytes_each"]), None, None)


def _imported(peer: Peer, plan: Plan) -> Sample:
    command: list[str | Path] = [sys.executable, "bench/import_time.py", peer.modules[0]]
    # The first one finds the files and writes the byte code; it is not counted.
    with running(command, plan.time_limit) as process:
        process.line()
    with running(command, plan.time_limit) as process:
        return _cpu_sample(process.line())


def _core(core: int | None) -> list[str]:
    return [] if core is None else ["--core", str(core)]


def _cpu_sample(said: dict[str, Any]) -> Sample:
    operations = int(said["operations"])
    if operations == 0:
        raise SampleError("no operation finished inside the window")
    return Sample(float(said["cpu_seconds"]) * 1e6 / operations, operations, float(said["seconds"]))


def cores() -> tuple[int | None, int | None]:
    """A core for the measured process and one for its load; None twice where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[1]) if len(usable) > 1 else (None, None)


def describe(row: Row, value: float) -> str:
    """A value with the row's unit."""
    if row.unit is Unit.BYTES:
        return f"{value:,.0f} B"
    if value >= 10_000:
        return f"{value / 1000:.1f} ms"
    return f"{value:.1f} us" if value >= 10 else f"{value:.3f} us"
