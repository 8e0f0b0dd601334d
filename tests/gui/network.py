"""A program that uses what the loop has: streams, TLS, children, threads, and whorl's client."""

from __future__ import annotations

import asyncio
import os
import ssl
import tempfile
import threading
from pathlib import Path

import whorl.http


async def main() -> str:
    await asyncio.gather(echo(None, None), tls(), child(), threads(), client())
    return "all"


async def echo(server_context: ssl.SSLContext | None, client_context: ssl.SSLContext | None) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
    async with server:
        host, port = server.sockets[0].getsockname()
        name = "localhost" if client_context else None
        reader, writer = await asyncio.open_connection(host, port, ssl=client_context, server_hostname=name)
        payload = os.urandom(300_000)
        writer.write(payload)
        assert await reader.readexactly(len(payload)) == payload
        writer.close()
        await writer.wait_closed()


async def tls() -> None:
    from tests.event_loop.certificates import Certificates

    with tempfile.TemporaryDirectory() as directory:
        certificates = Certificates(Path(directory))
        await echo(certificates.server(), certificates.client())


async def child() -> None:
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    output, _ = await process.communicate(b"through a child")
    assert output == b"through a child"


async def threads() -> None:
    loop = asyncio.get_running_loop()
    assert await asyncio.to_thread(threading.get_ident) != threading.get_ident()
    called: asyncio.Future[int] = loop.create_future()
    thread = threading.Thread(
        target=loop.call_soon_threadsafe, args=(lambda: called.set_result(threading.get_ident()),)
    )
    thread.start()
    assert await called == threading.get_ident()
    thread.join()


async def client() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with (
            whorl.http.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/") as response,
        ):
            assert await response.text() == "hello"
