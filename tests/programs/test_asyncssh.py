"""asyncssh, client and server: many channels over one transport, pausing and resuming each other."""

# ruff: noqa: E402 - the package is looked for before it is imported

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.programs.support import Harness, require_package

require_package("asyncssh")

import asyncssh

BIG = bytes(range(256)) * 8192  # 2 MiB


class Server(asyncssh.SSHServer):
    """Lets in one user with one password, and forwards to every destination."""

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == ("whorl", "secret")

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        return True

    def server_requested(self, listen_host: str, listen_port: int) -> bool:
        return True


async def shell(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """The commands: ``echo`` sends its input back, ``sum`` digests it, ``hang`` ends with its channel,

    ``run`` passes channel and a real child process through to each other.
    """
    command = process.command
    try:
        if command == "echo":
            while data := await process.stdin.read(65536):
                process.stdout.write(data)
                await process.stdout.drain()
        elif command == "sum":
            process.stdout.write(hashlib.sha256(await process.stdin.read()).hexdigest().encode())
        elif command == "hang":
            process.stdout.write(b"hanging\n")
            await process.wait_closed()
            return
        elif command == "run":
            script = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.exit(3)"
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", script, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            await process.redirect(stdin=child.stdin, stdout=child.stdout)
            await process.stdout.drain()
            process.exit(await child.wait())
            return
        process.exit(0)
    except (asyncssh.TerminalSizeChanged, asyncssh.BreakReceived):
        process.exit(1)


@asynccontextmanager
async def connected(home: Path | None = None, **options: Any) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A client of a server, both on this loop."""
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    sftp = (lambda channel: asyncssh.SFTPServer(channel, chroot=str(home).encode())) if home else None
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_factory=Server, server_host_keys=[host_key], process_factory=shell,
        sftp_factory=sftp, encoding=None, allow_scp=home is not None,
    )  # fmt: skip
    known = asyncssh.import_known_hosts(f"* {host_key.export_public_key().decode()}")
    try:
        async with asyncssh.connect(
            "127.0.0.1",
            server.get_port(),
            **{"username": "whorl", "password": "secret", "known_hosts": known, "config": [],
               "client_keys": [], "agent_path": None, **options},
        ) as connection:  # fmt: skip
            yield connection
        await connection.wait_closed()
    finally:
        server.close()
        await server.wait_closed()


def test_commands_over_many_channels(run: Harness) -> None:
    async def main() -> None:
        async with connected() as connection:

            async def echo(number: int) -> None:
                payload = bytes([number]) * 150_000
                result = await connection.run("echo", input=payload, encoding=None)
                assert result.stdout == payload
                assert result.exit_status == 0

            await asyncio.gather(*map(echo, range(30)))
            result = await connection.run("sum", input=BIG, encoding=None)
            assert result.stdout == hashlib.sha256(BIG).hexdigest().encode()

    run(main())


def test_rekeying_under_way(run: Harness) -> None:
    async def main() -> None:
        async with connected(rekey_bytes=200_000, compression_algs=["zlib@openssh.com"]) as connection:
            result = await connection.run("echo", input=BIG, encoding=None)
            assert result.stdout == BIG

    run(main())


# asyncssh keeps a redirected pipe's Queue.join() for drain() to await, and drops it if the pipe ends first.
@pytest.mark.filterwarnings("ignore:coroutine 'Queue.join' was never awaited:RuntimeWarning")
def test_redirection_to_a_child_process(run: Harness) -> None:
    async def main() -> None:
        async with connected() as connection:
            results = await asyncio.gather(
                *(connection.run("run", input=b"whorl" * 20_000, encoding=None) for _ in range(4))
            )
            for result in results:
                assert (result.stdout, result.exit_status) == (b"WHORL" * 20_000, 3)

    run(main())


def test_file_transfer(run: Harness, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "big").write_bytes(BIG)

    async def main() -> None:
        async with connected(tmp_path / "served") as connection:
            async with connection.start_sftp_client() as sftp:
                await sftp.put(str(tmp_path / "big"), "copy")
                await asyncio.gather(*(sftp.get("copy", str(tmp_path / f"back{n}")) for n in range(3)))
                assert sorted(await sftp.listdir(".")) == [".", "..", "copy"]
                async with sftp.open("copy", "rb") as file:
                    await file.seek(-5, 2)
                    tail: object = await file.read()
                    assert tail == BIG[-5:]
                with pytest.raises(asyncssh.SFTPNoSuchFile):
                    await sftp.stat("absent")
            await asyncssh.scp(str(tmp_path / "big"), (connection, "by-scp"))
        for copy in ("back0", "back1", "back2", "served/copy", "served/by-scp"):
            assert (tmp_path / copy).read_bytes() == BIG

    run(main())


def test_forwarding(run: Harness, tmp_path: Path) -> None:
    """A port here, a port there, a unix socket and a direct channel, all carried through one connection."""

    async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, payload: bytes) -> None:
        writer.write(payload)
        writer.write_eof()
        assert await reader.read() == payload
        writer.close()
        await writer.wait_closed()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as target, connected() as connection:
            port = target.sockets[0].getsockname()[1]
            local = await connection.forward_local_port("127.0.0.1", 0, "127.0.0.1", port)
            remote = await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", port)
            path = str(tmp_path / "s")
            by_path = await connection.forward_local_path_to_port(path, "127.0.0.1", port)
            ways = [asyncio.open_connection("127.0.0.1", listener.get_port()) for listener in (local, remote)]
            ways += [asyncio.open_connection("127.0.0.1", local.get_port()) for _ in range(10)]
            ways.append(asyncio.open_unix_connection(path))
            streams = await asyncio.gather(*ways)
            await asyncio.gather(*(exchange(*pair, bytes([n]) * 300_000) for n, pair in enumerate(streams)))
            direct = await connection.open_connection("127.0.0.1", port, encoding=None)
            direct[1].write(b"direct")
            direct[1].write_eof()
            assert await direct[0].read() == b"direct"
            for listener in (local, remote, by_path):
                listener.close()
                await listener.wait_closed()

    run(main())


def test_cancellation_and_refusal(run: Harness) -> None:
    async def main() -> None:
        async with connected() as connection:
            with pytest.raises(asyncio.TimeoutError):
                await connection.run("hang", timeout=0.1)
            hanging = asyncio.ensure_future(connection.run("hang"))
            await asyncio.sleep(0.05)
            hanging.cancel()
            with pytest.raises(asyncio.CancelledError):
                await hanging
            async with connection.create_process("hang", encoding=None) as process:
                assert await process.stdout.readline() == b"hanging\n"
                process.close()
            assert (await connection.run("echo", input="alive")).stdout == "alive"
        with pytest.raises(asyncssh.PermissionDenied):
            async with connected(password="wrong"):
                pass

    run(main())


def test_connection_that_breaks_off(run: Harness) -> None:
    async def main() -> None:
        async with connected(keepalive_interval=0.05) as connection:
            hanging = asyncio.ensure_future(connection.run("hang"))
            await asyncio.sleep(0.2)  # some keep-alive messages go to and fro
            connection.abort()
            assert (await hanging).exit_status is None
            with pytest.raises(asyncssh.Error):
                await connection.run("echo")

    run(main())
