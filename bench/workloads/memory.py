"""What connections and requests cost in memory."""

from __future__ import annotations

import asyncio
import gc
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.workloads import Setting

#: Open before the first reading, so that what is made once is not divided among the rest.
BEFORE = 100


class Idle(asyncio.Protocol):
    """Greets, so that the client is never ahead of the server's accepting, and then does nothing."""

    made = 0
    wanted = 0
    reached: asyncio.Event
    transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(b"x")
        cls = type(self)
        cls.made += 1
        if cls.made == cls.wanted:
            cls.reached.set()


def resident_bytes() -> int:
    """This process's resident memory, exactly (the short files under /proc are rounded per CPU)."""
    return _read("smaps_rollup", "Rss:")


def reset_peak() -> None:
    """Forgets how much resident memory there has been."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_since_reset() -> int:
    """The most resident memory since :func:`reset_peak`."""
    return _read("status", "VmHWM:")


def _read(file: str, name: str) -> int:
    for line in Path("/proc/self", file).read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {name} in /proc/self/{file}")


def raise_file_limit(connections: int) -> None:
    """Lets this process open as many files as it may. Raises RuntimeError where that is too few."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < connections + 64:
        raise RuntimeError(f"the limit on open files, {hard}, is under {connections} connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class IdleConnections:
    """A server of connections that stay open, and the reading of what they cost."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._server: Any = None

    async def start(self) -> str:
        """Serves; returns the address."""
        raise_file_limit(self._setting.connections)
        Idle.reached = asyncio.Event()
        Idle.wanted = BEFORE
        self._server = await self._setting.loop.create_server(Idle, "127.0.0.1", 0, backlog=1024)
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def bytes_per_connection(self) -> float:
        """Resident memory per connection, once all of them are open and quiet."""
        before = await self._resident_at(BEFORE)
        opened_before = Idle.made
        after = await self._resident_at(self._setting.connections)
        return (after - before) / (Idle.made - opened_before)

    async def _resident_at(self, connections: int) -> int:
        Idle.wanted = connections
        if Idle.made < connections:
            Idle.reached.clear()
            await Idle.reached.wait()
        # What the last accept still has to do, and garbage, is not what an idle connection holds.
        for _ in range(10):
            await asyncio.sleep(0)
        gc.collect()
        return resident_bytes()
