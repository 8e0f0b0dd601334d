"""The measured process: one peer, one row, fresh each time. `python -m bench.worker --help`.

It prints one line of JSON when it is ready for load (`{"target": ...}`), and, for the rows it measures
itself, one with the figures. A peer that lacks what the row needs prints `{"unavailable": reason}`.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.loops import LoopFactory, loop_factory
from bench.suite import Method, Row
from bench.suites import SUITES
from bench.workloads import (
    Batch,
    Setting,
    bare,
    callbacks,
    databases,
    gui,
    memory,
    network,
    programs,
    requests,
)

if TYPE_CHECKING:
    from bench.peers import Peer
    from tools.toolkits import Toolkit

_LARGE_BLOCK = 1024 * 1024


def say(**figures: Any) -> None:
    """One line of JSON for the runner."""
    print(json.dumps(figures), flush=True)


def cpu_seconds(with_children: bool) -> float:
    """User and system time of this process so far, all threads, and of its finished children if wanted."""
    own = time.process_time()
    if not with_children:
        return own
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own + children.ru_utime + children.ru_stime


def measure(batch: Batch, warm_up: float, seconds: float, with_children: bool) -> None:
    """Repeats `batch` for the warm-up and then for the window, and says what the window held."""
    ends = time.perf_counter() + warm_up
    batch()
    while time.perf_counter() < ends:
        batch()
    operations = 0
    cpu_before, started = cpu_seconds(with_children), time.perf_counter()
    while time.perf_counter() - started < seconds:
        operations += batch()
    elapsed, cpu = time.perf_counter() - started, cpu_seconds(with_children) - cpu_before
    say(operations=operations, seconds=elapsed, cpu_seconds=cpu)


def workload_of(row: Row, peer: Peer) -> Any:
    """The function a row names; references do what is plain of it, and a bare peer has its own of it."""
    name = row.plain if peer.reference and row.plain else row.workload
    for module in (bare,) if peer.bare else (callbacks, network, programs, requests, databases, gui):
        if hasattr(module, name):
            return getattr(module, name)
    raise LookupError(f"no workload is called {name}")


async def serve(row: Row, peer: Peer, setting: Setting) -> None:
    """Serves one row until the process is ended."""
    if row.method is Method.HELD:
        server = memory.IdleConnections(setting)
        say(target=await server.start())
        say(value=await server.bytes_per_connection())
    else:
        say(target=await workload_of(row, peer)(setting))
    await asyncio.Event().wait()


def age_heap() -> None:
    """Frees one large block, as a program of some size has done before it serves.

    glibc takes blocks over 128 KiB straight from the kernel until a larger one is freed. Until then every
    read into a fresh 256 KiB buffer costs three more system calls, in loops that read so (stock asyncio,
    uvloop's TLS, rloop, aiofastnet): a small program pays them, a large one does not.
    """
    bytes(_LARGE_BLOCK)


def loop_of(peer: Peer, row: Row) -> tuple[LoopFactory, Toolkit | None]:
    """What makes the peer's loop; and if it runs in a toolkit's main loop, a window of the row's toolkit."""
    if row.toolkit:
        # Imported here: it imports whorl, which is not to be in another peer's process.
        from bench.gui_loops import GUI_LOOPS, open_window

        if peer.loop_name in GUI_LOOPS:
            window = open_window(row.toolkit)
            return functools.partial(GUI_LOOPS[peer.loop_name], window), window
    return loop_factory(peer.loop_name), None


def run(arguments: argparse.Namespace) -> None:
    """One row on one peer."""
    suite = SUITES[arguments.suite]
    [row], [peer] = suite.matching(arguments.row), suite.named(arguments.peer)
    if row.aged_heap:
        age_heap()
    factory, window = loop_of(peer, row)
    with asyncio.Runner(loop_factory=factory) as runner:
        loop = runner.get_loop()
        directory = Path(arguments.directory)
        setting = Setting(loop, row.size, row.connections, directory, arguments.target, peer.client, window)
        try:
            if row.method in (Method.LOADED, Method.HELD):
                runner.run(serve(row, peer, setting))
                return
            if row.takes_reading:
                say(value=runner.run(workload_of(row, peer)(setting)))
                os._exit(0)
            # Batches run the loop themselves; what they call may get it.
            asyncio.set_event_loop(loop)
            batch: Batch = workload_of(row, peer)(setting)
            measure(batch, arguments.warm_up, arguments.seconds, row.workload == "spawn_true")
        except NotImplementedError as error:
            say(unavailable=f"not implemented: {error}" if str(error) else "not implemented")
        sys.stdout.flush()
        # The loop may hold what this row left open on purpose; nothing of it outlives the process.
        os._exit(0)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.worker", description=__doc__)
    parser.add_argument("--suite", required=True, choices=SUITES)
    parser.add_argument("--row", required=True, help="the name of one of its rows")
    parser.add_argument("--peer", required=True, help="the name of one of its peers")
    parser.add_argument("--core", type=int, help="run on this core")
    parser.add_argument("--warm-up", type=float, default=0.2, help="seconds")
    parser.add_argument("--seconds", type=float, default=1.0, help="of the window")
    parser.add_argument("--directory", default=".", help="for sockets, FIFOs and certificates")
    parser.add_argument("--target", default="", help="URL at the server, for a client's row")
    arguments = parser.parse_args()
    if arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})
    run(arguments)


if __name__ == "__main__":
    main()
