"""The servers that the programs in docs/http-client.md talk to.

``python -m tests.http.docs_server`` runs them in the current directory on the ports that the guide names, for
trying its programs by hand; it needs aiohttp and trustme. Certificates, and the files that programs read, are
written there.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
from aiohttp import web

from tests.http.raw_support import pump

#: What the guide's programs name: HTTP, HTTPS, the proxy, and a Unix-domain socket.
PORT, TLS_PORT, PROXY_PORT = 8080, 8443, 3128
SOCKET = "service.sock"

_LARGE = 1024 * 1024
_REALM, _NONCE = "documentation", "8d1f9c2b"


@dataclass(frozen=True)
class Ports:
    """Where the servers listen."""

    http: int
    tls: int
    proxy: int

    def put_into(self, program: str) -> str:
        """The program with these ports in place of those that the guide names."""
        for port, actual in ((PORT, self.http), (TLS_PORT, self.tls), (PROXY_PORT, self.proxy)):
            program = program.replace(f"localhost:{port}", f"localhost:{actual}")
        return program


async def _hello(request: web.Request) -> web.Response:
    return web.Response(text="hello, world")


async def _city(request: web.Request) -> web.Response:
    return web.json_response({"city": "Lima", "population": 10_092_000})


async def _search(request: web.Request) -> web.Response:
    return web.json_response(list(request.query.items()))


async def _echo(request: web.Request) -> web.Response:
    body = await request.read()
    return web.json_response(
        {
            "method": request.method,
            "type": request.headers.get("Content-Type"),
            "length": request.headers.get("Content-Length"),
            "trace": request.headers.get("X-Trace"),
            "size": len(body),
        }
    )


async def _form(request: web.Request) -> web.Response:
    seen: dict[str, Any] = {}
    for name, value in (await request.post()).items():
        is_file = isinstance(value, web.FileField)
        seen[name] = f"{value.filename}, {len(value.file.read())} bytes" if is_file else value
    return web.json_response(seen)


async def _large(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_length = _LARGE
    await response.prepare(request)
    for _ in range(16):
        await response.write(bytes(_LARGE // 16))
    return response


async def _lines(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(3):
        await response.write(b"event %d\n" % number)
    return response


async def _parts(request: web.Request) -> web.Response:
    body = (
        b'--x\r\nContent-Type: application/json\r\n\r\n{"part": 1}\r\n'
        b"--x\r\nContent-Type: text/plain\r\n\r\nthe second\r\n--x--\r\n"
    )
    return web.Response(body=body, headers={"Content-Type": "multipart/mixed; boundary=x"})


async def _packed(request: web.Request) -> web.Response:
    response = web.Response(text="many words " * 1000)
    response.enable_compression(web.ContentCoding.gzip)
    return response


async def _slow(request: web.Request) -> web.Response:
    await asyncio.sleep(60)
    return web.Response(text="late")


async def _missing(request: web.Request) -> web.Response:
    raise web.HTTPNotFound(text="there is no such page")


async def _moved(request: web.Request) -> web.Response:
    raise web.HTTPFound("/")


async def _login(request: web.Request) -> web.Response:
    response = web.Response(text="welcome")
    response.set_cookie("user", "ada")
    return response


async def _whoami(request: web.Request) -> web.Response:
    return web.Response(text=request.cookies.get("user", "nobody"))


async def _private(request: web.Request) -> web.Response:
    if request.headers.get("Authorization") != f"Basic {b64encode(b'ada:secret').decode()}":
        raise web.HTTPUnauthorized(headers={"WWW-Authenticate": f'Basic realm="{_REALM}"'})
    return web.Response(text="for ada")


async def _digest(request: web.Request) -> web.Response:
    fields = dict(re.findall(r'(\w+)="?([^",]+)', request.headers.get("Authorization", "")))

    def digest(*parts: str) -> str:
        return hashlib.sha256(":".join(parts).encode()).hexdigest()

    expected = digest(
        digest("ada", _REALM, "secret"),
        _NONCE,
        fields.get("nc", ""),
        fields.get("cnonce", ""),
        "auth",
        digest(request.method, request.path_qs),
    )
    if fields.get("response") != expected:
        challenge = f'Digest realm="{_REALM}", nonce="{_NONCE}", qop="auth", algorithm=SHA-256'
        raise web.HTTPUnauthorized(headers={"WWW-Authenticate": challenge})
    return web.Response(text="for ada")


async def _busy(request: web.Request) -> web.Response:
    # The first of each pair of requests is refused.
    refused = request.app[_REFUSED]
    refused.append(len(refused) % 2 == 0)
    return web.Response(status=503) if refused[-1] else web.Response(text="served")


async def _chat(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(protocols=("chat.v1",))
    await ws.prepare(request)
    async for message in ws:
        if message.data == "bye":
            await ws.close(code=1000, message=b"see you")
        elif message.type is web.WSMsgType.TEXT:
            await ws.send_str(f"you said {message.data}")
    return ws


_REFUSED = web.AppKey("refused", list)


def _application() -> web.Application:
    app = web.Application()
    app[_REFUSED] = []
    app.router.add_route("*", "/echo", _echo)
    app.router.add_post("/form", _form)
    for path, handler in {
        "/": _hello,
        "/city": _city,
        "/search": _search,
        "/large": _large,
        "/lines": _lines,
        "/parts": _parts,
        "/packed": _packed,
        "/slow": _slow,
        "/missing": _missing,
        "/moved": _moved,
        "/login": _login,
        "/whoami": _whoami,
        "/private": _private,
        "/digest": _digest,
        "/busy": _busy,
        "/chat": _chat,
    }.items():
        app.router.add_get(path, handler)
    return app


async def _proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Forwards one connection: a tunnel for CONNECT, otherwise the requests on it as they are."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (OSError, asyncio.IncompleteReadError):
        writer.close()
        return
    method, target, _ = head.split(b" ", 2)
    authority = target if method == b"CONNECT" else target.split(b"/")[2]
    host, _, port = authority.decode().partition(":")
    upstream, onward = await asyncio.open_connection(host, int(port))
    if method == b"CONNECT":
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    else:
        onward.write(head)
    await asyncio.gather(pump(reader, onward), pump(upstream, writer))


def write_files(directory: Path) -> ssl.SSLContext:
    """Write what programs read into ``directory``; returns the server's side of TLS."""
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(directory / "authority.pem"))
    leaf.cert_chain_pems[0].write_to_path(str(directory / "server.pem"))
    (directory / "report.csv").write_text("city,population\nLima,10092000\n")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context


@contextlib.asynccontextmanager
async def servers(directory: Path, http: int = 0, tls: int = 0, proxy: int = 0) -> AsyncIterator[Ports]:
    """Run the servers, with their files in ``directory``; a port of 0 is any that is free."""
    context = write_files(directory)
    runner = web.AppRunner(_application(), handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    try:
        sites = [
            web.TCPSite(runner, "127.0.0.1", http),
            web.TCPSite(runner, "127.0.0.1", tls, ssl_context=context),
            web.UnixSite(runner, str(directory / SOCKET)),
        ]
        for site in sites:
            await site.start()
        ports = [address[1] for address in runner.addresses if not isinstance(address, str)]
        forward = await asyncio.start_server(_proxy, "127.0.0.1", proxy)
        async with forward:
            yield Ports(*ports, forward.sockets[0].getsockname()[1])
    finally:
        await runner.cleanup()


async def _main() -> None:
    async with servers(Path.cwd(), PORT, TLS_PORT, PROXY_PORT):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main())
