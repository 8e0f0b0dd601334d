"""Connects to the first of a host's addresses that accepts (RFC 8305, Happy Eyeballs)."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from whorl import _core

if TYPE_CHECKING:
    from ..abc import ResolveResult

__all__ = [
    "AddrInfoType",
    "SocketFactoryType",
    "addr_infos",
    "dial",
    "interleaved",
    "is_numeric",
    "numeric",
    "summary",
]

AddrInfoType = tuple[int, int, int, str, tuple[Any, ...]]
"""An address as :func:`socket.getaddrinfo` gives it: family, type, protocol, name, address."""

SocketFactoryType = Callable[[AddrInfoType], socket.socket]
"""Makes the socket for an address."""

Attempt = Callable[[], Coroutine[Any, Any, socket.socket]]
"""Connects to one address."""


def addr_infos(results: Sequence[ResolveResult], family: int) -> list[AddrInfoType]:
    """The addresses of a lookup, those of ``family`` only unless it is 0."""
    infos: list[AddrInfoType] = []
    for result in results:
        host, port = result["host"], result["port"]
        is_ipv6 = ":" in host
        found = socket.AF_INET6 if is_ipv6 else socket.AF_INET
        if family and family != found:
            continue
        address: tuple[Any, ...] = (host, port)
        if is_ipv6:
            # A scope of a link-local address ("fe80::1%eth0") is a number in the address.
            bare, _, scope = host.partition("%")
            address = (bare, port, 0, _scope(scope))
        infos.append((found, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address))
    return infos


def is_numeric(info: AddrInfoType) -> bool:
    """Whether an address needs no lookup: its host is an IP address, its port a number."""
    host, port = info[4][:2]
    if not isinstance(port, int):
        return False
    try:
        socket.inet_pton(info[0], host)
    except (OSError, ValueError):
        return False
    return True


async def numeric(
    infos: Sequence[AddrInfoType], loop: asyncio.AbstractEventLoop, family: int
) -> list[AddrInfoType]:
    """The addresses, in place of those that are names what the loop finds for them.

    :raises OSError: if nothing is found for any
    """
    found: list[AddrInfoType] = []
    first_error: OSError | None = None
    for info in infos:
        if is_numeric(info):
            found.append(info)
            continue
        host, port = info[4][:2]
        try:
            found += await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        except ValueError as error:
            first_error = first_error or OSError(None, str(error))
        except OSError as error:
            first_error = first_error or error
    if not found and first_error is not None:
        raise first_error
    return found


def _scope(name: str) -> int:
    if not name:
        return 0
    if name.isascii() and name.isdigit():
        return int(name)
    try:
        return socket.if_nametoindex(name)
    except (OSError, ValueError) as error:
        raise OSError(errno.ENODEV, f"the zone {name} is no interface of this machine") from error


def interleaved(infos: Sequence[AddrInfoType], first: int) -> list[AddrInfoType]:
    """The addresses with the families in turn: ``first`` of the first family, then one of each (RFC 8305,
    section 4)."""
    return [infos[place] for place in _core.interleaved([info[0] for info in infos], first)]


def dial(
    infos: Sequence[AddrInfoType],
    *,
    loop: asyncio.AbstractEventLoop,
    local_infos: Sequence[AddrInfoType] | None,
    delay: float | None,
    interleave: int | None,
    socket_factory: SocketFactoryType | None,
) -> Coroutine[Any, Any, socket.socket]:
    """Connect to the first address that accepts.

    :param delay: seconds before the next address is tried along with those still pending; None: one
        after the other
    :raises OSError: if none accepts: the one error, or one that names them all
    """
    errors: list[OSError] = []
    if len(infos) == 1:
        return _connect(infos[0], loop, local_infos, socket_factory, errors)
    attempts = [
        partial(_connect, info, loop, local_infos, socket_factory, errors)
        for info in (interleaved(infos, interleave) if interleave else infos)
    ]
    return _dial_some(attempts, errors, loop, delay)


async def _dial_some(
    attempts: Sequence[Attempt], errors: list[OSError], loop: asyncio.AbstractEventLoop, delay: float | None
) -> socket.socket:
    if delay is None:
        for attempt in attempts:
            try:
                return await attempt()
            except OSError:
                continue
    else:
        sock = await _race(attempts, loop, delay)
        if sock is not None:
            return sock
    raise summary(errors)


async def _race(
    attempts: Sequence[Attempt],
    loop: asyncio.AbstractEventLoop,
    delay: float,
) -> socket.socket | None:
    """The socket that connects first; None if none does. No attempt stays running, and no other socket open.

    An attempt begins ``delay`` seconds after the one before it, or when one fails. asyncio has such a race
    too, but a socket that it leaves when it is cancelled has no owner.
    """
    running: set[asyncio.Task[socket.socket]] = set()
    waiting = list(reversed(attempts))
    try:
        while waiting or running:
            if waiting:
                running.add(loop.create_task(waiting.pop()()))
            done, running_on = await asyncio.wait(
                running, timeout=delay if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                if task.exception() is None:
                    running.discard(task)
                    return task.result()
            for task in done:
                error = task.exception()
                if error is not None and not isinstance(error, OSError):
                    raise error
            running = running_on
        return None
    finally:
        for task in running:
            task.cancel()
            task.add_done_callback(_close_loser)


def _close_loser(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def summary(errors: list[OSError]) -> OSError:
    """The one error for failed attempts, as asyncio words it."""
    if not errors:
        return OSError("there is no address to connect to")
    if len(errors) == 1 or all(str(error) == str(errors[0]) for error in errors):
        return errors[0]
    text = f"Multiple exceptions: {', '.join(map(str, errors))}"
    numbers = {error.errno for error in errors}
    return OSError(numbers.pop(), text) if len(numbers) == 1 else OSError(text)


async def _connect(
    info: AddrInfoType,
    loop: asyncio.AbstractEventLoop,
    local_infos: Sequence[AddrInfoType] | None,
    socket_factory: SocketFactoryType | None,
    errors: list[OSError],
) -> socket.socket:
    """Connects to one address; an error is added to ``errors`` too."""
    family, kind, protocol, _, address = info
    sock: socket.socket | None = None
    try:
        try:
            sock = (
                socket_factory(info) if socket_factory is not None else socket.socket(family, kind, protocol)
            )
            sock.setblocking(False)
            if local_infos is not None:
                _bind(sock, family, address, local_infos)
            try:
                await loop.sock_connect(sock, address)
            except OSError as error:
                raise _named(error, address) from None
        except OSError as error:
            errors.append(error)
            raise
        return sock
    except BaseException:
        if sock is not None:
            sock.close()
        raise


def _named(error: OSError, address: tuple[Any, ...]) -> OSError:
    """The error of a connect call, with the address in its text."""
    if error.strerror is None or str(address) in error.strerror:
        return error
    if not error.errno:
        return OSError(error.strerror.lower())
    return type(error)(error.errno, f"Connect call failed {address}")


def _bind(
    sock: socket.socket, family: int, address: tuple[Any, ...], local_infos: Sequence[AddrInfoType]
) -> None:
    problem = OSError(errno.EADDRNOTAVAIL, f"no local address has the family of {address}")
    for local_family, _, _, _, local_address in local_infos:
        if local_family != family:
            continue
        try:
            sock.bind(local_address)
            return
        except OSError as error:
            why = str(error.strerror).lower()
            text = f"error while attempting to bind on address {local_address!r}: {why}"
            problem = OSError(error.errno, text)
    raise problem
