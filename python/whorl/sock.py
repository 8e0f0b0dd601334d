"""The ``sock_*`` methods of the event loop: coroutines around the native operations.

The native half tries at once and returns the result, or a future if the operation has to wait. A class that
derives from :class:`socket.socket` may have methods of its own, which the native half knows nothing of: it
returns the coroutine of asyncio's implementation, which does the work by calling them.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

from whorl.asyncio_private import UnixEventLoop

__all__ = ["SocketMethods"]

T = TypeVar("T")
Received = tuple[T, Any]
Accepted = tuple[socket.socket, Any]


class SocketMethods(UnixEventLoop):
    """Operations on non-blocking sockets, for :class:`whorl.EventLoop`.

    All of them raise :exc:`TypeError` for an :class:`ssl.SSLSocket`, :exc:`RuntimeError` for a socket that a
    transport uses and, in debug mode, :exc:`ValueError` for a socket that may block. Cancelling one leaves
    the socket as it is.
    """

    # The eight bodies are alike, and written out: a coroutine that they share costs an eighth of an echo. The
    # variable is None in the end, or the traceback would refer to the future that refers to the exception.

    if TYPE_CHECKING:

        def _sock_recv(self, sock: socket.socket, n: int) -> bytes | Awaitable[bytes]: ...
        def _sock_recv_into(self, sock: socket.socket, buf: Any) -> int | Awaitable[int]: ...
        def _sock_sendall(self, sock: socket.socket, data: Any) -> Awaitable[None] | None: ...
        def _sock_read(self, sock: socket.socket, method: str, *args: Any) -> Any: ...
        def _sock_write(self, sock: socket.socket, method: str, *args: Any) -> int | Awaitable[int]: ...
        def _sock_accept(self, sock: socket.socket) -> Accepted | Awaitable[Accepted]: ...
        def _sock_connect_to(self, sock: socket.socket, address: Any) -> Awaitable[None] | None: ...
        def _sock_forget(self, sock: socket.socket, future: Any) -> Any: ...

    async def sock_recv(self, sock: socket.socket, n: int) -> bytes:
        """Receive up to ``n`` bytes; b"" at the end of the stream. Source: :meth:`asyncio.loop.sock_recv`."""
        result = self._sock_recv(sock, n)
        if isinstance(result, bytes):
            return result
        try:
            return await result
        except BaseException:
            result = self._sock_forget(sock, result)
            raise

    async def sock_recv_into(self, sock: socket.socket, buf: Any) -> int:
        """Receive into ``buf``; returns how many bytes. Source: :meth:`asyncio.loop.sock_recv_into`."""
        result = self._sock_recv_into(sock, buf)
        if isinstance(result, int):
            return result
        try:
            return await result
        except BaseException:
            result = self._sock_forget(sock, result)
            raise

    async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> tuple[bytes, Any]:
        """Receive a datagram of up to ``bufsize`` bytes, and the address that it came from.

        Source: :meth:`asyncio.loop.sock_recvfrom`.
        """
        result: Received[bytes] | Awaitable[Received[bytes]] = self._sock_read(sock, "recvfrom", bufsize)
        if isinstance(result, tuple):
            return result
        try:
            return await result
        except BaseException:
            result = self._sock_forget(sock, result)
            raise

    async def sock_recvfrom_into(self, sock: socket.socket, buf: Any, nbytes: int = 0) -> tuple[int, Any]:
        """Receive a datagram into ``buf``; returns how many bytes, and the address that it came from.

        At most ``nbytes`` are received, as many as fit into ``buf`` if that is 0. Source:
        :meth:`asyncio.loop.sock_recvfrom_into`.
        """
        result: Received[int] | Awaitable[Received[int]] = self._sock_read(sock, "recvfrom_into", buf, nbytes)
        if isinstance(result, tuple):
            return result
        try:
            return await result
        except BaseException:
            result = self._sock_forget(sock, result)
            raise

    async def sock_sendall(self, sock: socket.socket, data: Any) -> None:
        """Send all of ``data``, which must not be changed until that is done.

        After an error it is unknown how much was sent. Source: :meth:`asyncio.loop.sock_sendall`.
        """
        result = self._sock_sendall(sock, data)
        if result is None:
            return
        try:
            await result
        except BaseException:
            result = self._sock_forget(sock, result)
            raise

    async def sock_sendto(self, sock: socket.socket, data: Any, address: Any) -> int:
        """Send ``data`` as one datagram to ``address``; returns its size.

        Source: :meth:`asyncio.loop.sock_sendto`.
        """
        result = self._sock_write(sock, "sendto", data, address)
        if isinstance(result, int):
            return result
        try:
            return await result
        except BaseException:
            result = self._sock_forget(sock, result)
            raise

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        """Accept a connection on a listening socket: its non-blocking socket, and the peer's address.

        Source: :meth:`asyncio.loop.sock_accept`.
        """
        result = self._sock_accept(sock)
        if isinstance(result, tuple):
            return result
        try:
            return await result
        except BaseException:
            result = self._sock_forget(sock, result)
            raise

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect to ``address``; of an IP socket the host may be a name.

        Raises :exc:`OSError`, naming the address. Source: :meth:`asyncio.loop.sock_connect`.
        """
        if type(sock) is not socket.socket:
            await super().sock_connect(sock, address)
            return
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            resolved = await self._ensure_resolved(
                address, family=sock.family, type=sock.type, proto=sock.proto, loop=self
            )
            address = resolved[0][4]
        result = self._sock_connect_to(sock, address)
        if result is None:
            return
        try:
            await result
        except BaseException:
            result = self._sock_forget(sock, result)
            raise
