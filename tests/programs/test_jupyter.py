"""A kernel of ipykernel in a process of its own, as Jupyter starts it, with jupyter_client.

ipykernel has a thread for its control channel and one for its subshells, and pyzmq's streams add and remove
readers on loops that run in the others.
"""

# ruff: noqa: E402 - the packages are looked for before they are imported

from __future__ import annotations

import queue
import subprocess
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.programs.support import DEFAULT_LIMIT, python_command, require_package

require_package("ipykernel", "jupyter_client")

from jupyter_client import BlockingKernelClient
from jupyter_client.connect import write_connection_file

# jupyter_client's and pyzmq's own; nothing of it is the loop's.
pytestmark = pytest.mark.filterwarnings("ignore")

MODULE_OF_LOOP = {"asyncio": "asyncio.unix_events", "whorl": "whorl.event_loop", "uvloop": "uvloop"}


@contextmanager
def kernel(loop_name: str, home: Path) -> Iterator[Any]:
    """A kernel that is ready, and the client that uses it; the kernel has shut down by itself afterwards."""
    path, _ = write_connection_file(str(home / "connection.json"))
    command = python_command(loop_name, "-m", "ipykernel_launcher", "-f", path)
    with (home / "log").open("w+") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        client = BlockingKernelClient(connection_file=path)
        client.load_connection_file()
        client.start_channels()
        try:
            wait_for_answers(client, process)
            yield client
            client.shutdown()
            assert process.wait(DEFAULT_LIMIT) == 0
        except BaseException:
            log.seek(0)
            print(log.read())
            raise
        finally:
            client.stop_channels()
            process.kill()
            process.wait()


def wait_for_answers(client: Any, process: subprocess.Popen[bytes]) -> None:
    """Sends requests until both the reply and its status come, which is when both channels are connected.

    The client's own ``wait_for_ready()`` gives up where a heartbeat is late, on any loop.
    """
    deadline = time.monotonic() + DEFAULT_LIMIT
    while process.poll() is None and time.monotonic() < deadline:
        client.kernel_info()
        try:
            client.get_shell_msg(timeout=1)
            client.get_iopub_msg(timeout=1)
        except queue.Empty:
            continue
        return
    pytest.fail(f"the kernel does not answer; its exit status is {process.poll()}")


def execute(client: Any, code: str) -> str:
    """Runs the code in the kernel and returns what it printed; an error of it is this test's."""
    printed: list[str] = []

    def note(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])

    reply = client.execute_interactive(code, timeout=DEFAULT_LIMIT, output_hook=note)
    assert reply["content"]["status"] == "ok", reply["content"]
    return "".join(printed)


def test_a_kernel_answers(loop_name: str, tmp_path: Path) -> None:
    with kernel(loop_name, tmp_path) as client:
        assert execute(client, "print(6 * 7)") == "42\n"
        where = "import asyncio; print(type(asyncio.get_running_loop()).__module__)"
        assert execute(client, where).startswith(MODULE_OF_LOOP[loop_name])


def test_a_cell_awaits(loop_name: str, tmp_path: Path) -> None:
    with kernel(loop_name, tmp_path) as client:
        code = """
            import asyncio
            server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            print(await asyncio.gather(asyncio.sleep(0.01, "slept"), reader.read()))
            writer.close()
            server.close()
        """
        assert execute(client, code.replace("\n            ", "\n")) == "['slept', b'']\n"


def cell(code: str) -> str:
    return textwrap.dedent(code).strip()


def test_the_client_in_cells(loop_name: str, tmp_path: Path) -> None:
    """whorl's client on the kernel's own loop, whichever it is: a session lives from one cell to the next."""
    with kernel(loop_name, tmp_path) as client:
        execute(
            client,
            cell("""
                import asyncio
                import whorl.http as http

                async def serve(reader, writer):
                    while (await reader.readline()).strip():
                        pass
                    writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 5\\r\\n\\r\\nhello")
                    writer.close()

                server = await asyncio.start_server(serve, "127.0.0.1", 0)
                url = "http://%s:%d/" % server.sockets[0].getsockname()
                session = http.ClientSession()
            """),
        )
        pages = cell("""
            async def page():
                async with session.get(url) as response:
                    return await response.text()

            print(await asyncio.gather(*(page() for _ in range(3))))
        """)
        assert execute(client, pages) == "['hello', 'hello', 'hello']\n"
        # A task that a cell leaves continues, and the next one awaits it.
        execute(client, "task = asyncio.create_task(page())")
        assert execute(client, "print(await task)") == "hello\n"
        assert execute(client, "await session.close(); server.close(); print(session.closed)") == "True\n"


def test_autoawait(loop_name: str, tmp_path: Path) -> None:
    """``%autoawait`` says what awaits, and switches it off and on."""
    with kernel(loop_name, tmp_path) as client:
        assert "`on`, and set to use `asyncio`" in execute(client, "%autoawait")
        execute(client, "%autoawait off")
        reply = client.execute_interactive("import asyncio; await asyncio.sleep(0)", timeout=DEFAULT_LIMIT)
        assert reply["content"]["ename"] == "SyntaxError"
        execute(client, "%autoawait asyncio")
        assert execute(client, "print(await asyncio.sleep(0, 'awaited'))") == "awaited\n"


def test_a_run_within_a_cell_says_what_to_do(loop_name: str, tmp_path: Path) -> None:
    """A cell runs on the kernel's loop already."""
    with kernel(loop_name, tmp_path) as client:
        code = "import asyncio, whorl; whorl.run(asyncio.sleep(0))"
        reply = client.execute_interactive(code, timeout=DEFAULT_LIMIT)
        assert reply["content"]["ename"] == "RuntimeError"
        assert "await" in reply["content"]["evalue"]
