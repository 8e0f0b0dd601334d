"""Transports that are never closed: what the collector, and the end of the interpreter, make of them."""

from __future__ import annotations

import asyncio
import gc
import os
import warnings
from typing import Any

import pytest

from .conftest import LoopFactory, Script

Loop = asyncio.AbstractEventLoop

AT_EXIT = """
loop = new_event_loop()


async def stream():
    ours, theirs = socket.socketpair()
    return [await asyncio.open_connection(sock=ours), theirs.detach()]


async def accepted():
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    connection = await asyncio.open_connection(*server.sockets[0].getsockname())
    await asyncio.sleep(0.01)
    return server, connection


async def datagram():
    return await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))


async def pipes():
    read, write = os.pipe()
    reading = await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(read, "rb"))
    return reading, await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(write, "wb"))


async def child():
    return await asyncio.create_subprocess_exec("true", stdin=-1, stdout=-1)


async def cycle():
    kept = [await stream()]
    kept.append(kept)
    return kept


kept = loop.run_until_complete(globals()[sys.argv[1]]())
if sys.argv[2] == "closed":
    loop.close()
print("end")
"""


@pytest.mark.parametrize("state", ["open", "closed"])
@pytest.mark.parametrize("kind", ["stream", "accepted", "datagram", "pipes", "child", "cycle"])
def test_nothing_is_printed_when_the_interpreter_ends(script: Script, kind: str, state: str) -> None:
    if (kind, state, script.loop_name) == ("child", "closed", "asyncio"):
        pytest.skip("asyncio logs that the loop is closed when the child ends, before Python 3.12")
    ended = script.run(AT_EXIT, kind, state, flags=())
    assert (ended.stdout, ended.stderr) == ("end\n", "")


@pytest.mark.parametrize("kind", ["stream", "datagram", "pipes"])
def test_warnings_that_are_enabled_are_shown_when_the_interpreter_ends(script: Script, kind: str) -> None:
    ended = script.run(AT_EXIT, kind, "closed", flags=("-W", "always"))
    assert "ResourceWarning: unclosed transport <" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "ImportError" not in ended.stderr


class Holds(asyncio.Protocol):
    """Is in one cycle with its transport and the file object below."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


@pytest.mark.parametrize("mode", ["b", "", "b0"])
def test_a_pipe_whose_file_the_collector_has_cleared(loop_factory: LoopFactory, mode: str) -> None:
    """The file object closes its descriptor; its close() would raise."""
    loop = loop_factory()
    ends = os.pipe()

    async def connect(loop: Loop) -> None:
        for connect, fd, way in (
            (loop.connect_read_pipe, ends[0], "r"),
            (loop.connect_write_pipe, ends[1], "w"),
        ):
            file = os.fdopen(fd, way + mode.strip("0"), 0 if "0" in mode else -1)
            await connect(lambda file=file: Holds(file), file)  # type: ignore[misc]

    loop.run_until_complete(connect(loop))
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del loop
        gc.collect()
    for fd in ends:
        with pytest.raises(OSError):
            os.fstat(fd)


@pytest.mark.parametrize("action", ["ignore", "always", "error"])
def test_an_exception_on_its_way_past_an_unclosed_transport(script: Script, action: str) -> None:
    """The transport ends in the middle of the exception's way, which is not disturbed."""
    ended = script.run(
        """
        def made():
            loop = new_event_loop()

            async def connect():
                ours, theirs = socket.socketpair()
                theirs.detach()
                transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
                return transport

            transport = loop.run_until_complete(connect())
            loop.close()
            return transport


        def fails():
            raise ZeroDivisionError("the only one")


        try:
            print(made(), fails())
        except ZeroDivisionError as error:
            print(error, error.__context__)
        """,
        flags=("-W", f"{action}::ResourceWarning"),
    )
    assert ended.stdout == "the only one None\n"
    assert ("unclosed transport" in ended.stderr) == (action != "ignore")
