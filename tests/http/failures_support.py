"""Requests that fail, each in a way of its own, for tests of what the exceptions say and keep."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from tests.http.raw_support import Peer, RawServer, once, raw_response

#: What no message and no representation may have in it, though requests and responses do.
SECRET = "topsecret"

CREDENTIALS = {"Authorization": f"Bearer {SECRET}", "Cookie": f"session={SECRET}", "X-Api-Key": SECRET}

Failure = Callable[[Any, Any], Awaitable[object]]


async def _serve(peer: Peer) -> None:
    """Answers by the path."""
    while True:
        head, _ = await peer.request()
        path = head.split()[1]
        if path == b"/moved":
            await peer.send(
                raw_response(b"", "Location: /refused", f"Set-Cookie: a={SECRET}", status="302 Found")
            )
        elif path == b"/refused":
            await peer.send(raw_response(b"why", f"Set-Cookie: b={SECRET}", status="500 No"))
        elif path == b"/text":
            await peer.send(raw_response(b"text", "Content-Type: text/plain"))
        elif path == b"/around":
            await peer.send(raw_response(b"", "Location: /around", status="302 Found"))
        elif path == b"/nowhere":
            await peer.send(raw_response(b"", f"Location: http://u:{SECRET}@:x/", status="302 Found"))
        elif path == b"/mail":
            await peer.send(raw_response(b"", f"Location: mailto://u:{SECRET}@x.test", status="302 Found"))
        elif path == b"/malformed":
            await peer.send(f"HTTP/1.1 200 OK\r\nSet-Cookie: a={SECRET}\0\r\n\r\n".encode())
        elif path == b"/long":
            field = f"Set-Cookie: a={SECRET}; " + 9000 * "x"
            await peer.send(raw_response(b"", field))
        elif path == b"/cut":
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
            return
        else:
            return


def _on_server(path: str, read: str = "read", **options: Any) -> Failure:
    async def fail(client: Any, tls: Any) -> object:
        async with RawServer(_serve) as server, client.ClientSession() as session:
            url = server.url.rstrip("/") + path
            options.setdefault("headers", CREDENTIALS)
            async with session.get(url, **options) as response:
                return await getattr(response, read)()

    return fail


def _request(url: str, **options: Any) -> Failure:
    async def fail(client: Any, tls: Any) -> object:
        async with client.ClientSession(headers=CREDENTIALS) as session:
            async with session.get(url, **options) as response:
                return await response.read()

    return fail


def unused_port() -> int:
    """A port of 127.0.0.1 that nothing listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def _refused(client: Any, tls: Any) -> object:
    url = f"https://127.0.0.1:{unused_port()}/"
    return await _request(url, ssl=ssl.create_default_context())(client, tls)


async def _proxy_refused(client: Any, tls: Any) -> object:
    proxy = f"http://ada:{SECRET}@127.0.0.1:{unused_port()}"
    return await _request("http://host.test/", proxy=proxy)(client, tls)


async def _proxy_says_no(client: Any, tls: Any) -> object:
    async with RawServer(once(raw_response(b"", status="407 Credentials"))) as proxy:
        url = proxy.url.replace("//", f"//ada:{SECRET}@")
        headers = {"Proxy-Authorization": f"Basic {SECRET}"}
        return await _request("https://host.test/", proxy=url, proxy_headers=headers)(client, tls)


async def _unknown_host(client: Any, tls: Any) -> object:
    return await _request("http://host.invalid/")(client, tls)


async def _certificate(client: Any, tls: Any) -> object:
    async with RawServer(once(b""), ssl=tls.server()) as server:
        return await _request(server.url)(client, tls)


async def _handshake(client: Any, tls: Any) -> object:
    async def script(peer: Peer) -> None:
        await peer.send(b"no TLS here")
        await peer.gone()

    async with RawServer(script) as server:
        return await _request(server.url.replace("http", "https"))(client, tls)


async def _fingerprint(client: Any, tls: Any) -> object:
    async with RawServer(once(b""), ssl=tls.server()) as server:
        return await _request(server.url, ssl=client.Fingerprint(bytes(32)))(client, tls)


async def _no_socket(client: Any, tls: Any) -> object:
    async with client.ClientSession(connector=client.UnixConnector("/no/such/socket")) as session:
        async with session.get("http://host.test/") as response:
            return await response.read()


async def _no_websocket(client: Any, tls: Any) -> object:
    async with RawServer(once(raw_response(b""))) as server, client.ClientSession() as session:
        return await session.ws_connect(server.url, headers=CREDENTIALS)


async def _too_slow(client: Any, tls: Any) -> object:
    async def stall(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    async with RawServer(stall) as server:
        limit = client.ClientTimeout(sock_read=0.01)
        return await _request(server.url, timeout=limit)(client, tls)


async def _never_connected(client: Any, tls: Any) -> object:
    class Connector(client.TCPConnector):  # type: ignore[misc]
        async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
            raise TimeoutError

    async with client.ClientSession(connector=Connector()) as session:
        async with session.get("http://host.test/") as response:
            return await response.read()


async def _aborted(client: Any, tls: Any) -> object:
    tracker = client.UploadTracker()
    async with client.ClientSession() as session:
        with contextlib.suppress(client.ClientConnectorError):
            await session.post(f"http://127.0.0.1:{unused_port()}/", data=b"x", upload_tracker=tracker)
    return await tracker.upload_complete


async def _closed(client: Any, tls: Any) -> object:
    async with RawServer(once(raw_response(b""))) as server, client.ClientSession() as session:
        response = await session.get(server.url)
        response.close()
        return await response.read()


async def _reset(client: Any, tls: Any) -> object:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.reset()

    async with RawServer(script) as server, client.ClientSession() as session:
        return await session.post(server.url, data=b"x")


async def _gone(client: Any, tls: Any) -> object:
    """A message on a WebSocket that is closed."""
    from aiohttp import test_utils, web

    async def talk(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        async for _ in websocket:
            pass
        return websocket

    application = web.Application()
    application.router.add_get("/", talk)
    async with test_utils.TestServer(application) as server, client.ClientSession() as session:
        websocket = await session.ws_connect(server.make_url("/"))
        await websocket.close()
        await websocket.send_str("late")
    return None


async def _other_type(client: Any, tls: Any) -> object:
    """A text where bytes are expected."""
    from aiohttp import test_utils, web

    async def talk(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        await websocket.send_str("text")
        await websocket.receive()
        return websocket

    application = web.Application()
    application.router.add_get("/", talk)
    async with test_utils.TestServer(application) as server, client.ClientSession() as session:
        async with session.ws_connect(server.make_url("/")) as websocket:
            return await websocket.receive_bytes()


#: By the name of the exception that they end with, and what distinguishes them.
FAILURES: dict[str, Failure] = {
    "ClientResponseError": _on_server("/moved", raise_for_status=True),
    "ClientResponseError malformed": _on_server("/malformed"),
    "ClientResponseError too long": _on_server("/long"),
    "ClientHttpProxyError": _proxy_says_no,
    "ContentTypeError": _on_server("/text", read="json"),
    "TooManyRedirects": _on_server("/around", max_redirects=2),
    "WSServerHandshakeError": _no_websocket,
    "ClientConnectionError": _closed,
    "ClientConnectionResetError": _gone,
    "ClientOSError": _reset,
    "ClientConnectorError": _refused,
    "ClientConnectorDNSError": _unknown_host,
    "ClientProxyConnectionError": _proxy_refused,
    "UnixClientConnectorError": _no_socket,
    "ClientConnectorSSLError": _handshake,
    "ClientConnectorCertificateError": _certificate,
    "ServerDisconnectedError": _on_server("/"),
    "ServerFingerprintMismatch": _fingerprint,
    "ConnectionTimeoutError": _never_connected,
    "SocketTimeoutError": _too_slow,
    "ClientPayloadError": _on_server("/cut"),
    "InvalidUrlClientError": _request(f"http://ada:{SECRET}@host.test:x/"),
    "InvalidUrlClientError unquoted": _request(f"http://ada:x/{SECRET}@host.test/"),
    "InvalidURL": _request("http://host.test/", proxy=f"http://ada:{SECRET}@proxy.test:x"),
    "NonHttpUrlClientError": _request(f"ftp://ada:{SECRET}@host.test/"),
    "InvalidUrlRedirectClientError": _on_server("/nowhere"),
    "NonHttpUrlRedirectClientError": _on_server("/mail"),
    "UploadAbortedError": _aborted,
    "WSMessageTypeError": _other_type,
}


async def failure(client: Any, name: str, tls: Any) -> BaseException:
    """The exception that a request ends with, as it is raised."""
    try:
        await FAILURES[name](client, tls)
    except Exception as error:
        if type(error).__name__ != name.partition(" ")[0]:
            raise
        return error
    raise AssertionError(f"the request has not ended with {name}")
