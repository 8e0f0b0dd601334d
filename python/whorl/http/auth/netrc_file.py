"""The user's .netrc, read once for each state of the file.

A request of a session with ``trust_env`` looks its host up twice: for the server's credentials and for the
proxy's. The lookups read nothing; whether they are up to date costs one ``stat()``::

    if not netrc_is_read():
        await read_netrc()
    auth = netrc_auth(host)
"""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from ..environment import FromEnvironment
from .basic import BasicAuth, basicauth_from_netrc, netrc_from_env

if TYPE_CHECKING:
    import netrc

__all__ = ["NETRC_VARIABLES", "absent_netrc", "netrc_auth", "netrc_is_read", "read_netrc"]


class _Location(NamedTuple):
    """Where the file is, and whether NETRC names it: a file that it names is to be there."""

    path: str | None
    is_named: bool


class _Known(NamedTuple):
    """What was read, and of which state of which file."""

    location: _Location
    stamp: tuple[int, int, int] | None
    file: netrc.netrc | None


def _location(named: str | None, home: str | None) -> _Location:
    if named is not None:
        return _Location(named, True)
    try:
        return _Location(str(Path.home() / ".netrc"), False)
    except RuntimeError:
        # There is no home directory.
        return _Location(None, False)


NETRC_VARIABLES: Final = ("NETRC", "HOME")

_where = FromEnvironment(NETRC_VARIABLES, _location)
_known: _Known | None = None
_reading = threading.Lock()


def _stamp(location: _Location) -> tuple[int, int, int] | None:
    try:
        # Most users have none, and an exception for that costs five times as much.
        if location.path is None or not os.access(location.path, os.F_OK):
            return None
        status = os.stat(location.path)
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def netrc_is_read() -> bool:
    """Whether :func:`netrc_auth` knows the file as it is. Reads no more than its attributes."""
    global _known
    location = _where.get()
    stamp = _stamp(location)
    known = _known
    if known is not None and known.location == location and known.stamp == stamp:
        return True
    if stamp is None and not location.is_named:
        # The default file need not exist.
        _known = _Known(location, None, None)
        return True
    return False


def absent_netrc() -> str | None:
    """The path of the default file, if :func:`netrc_is_read` found none there and none is named."""
    known = _known
    if known is None or known.stamp is not None or known.location.is_named:
        return None
    return known.location.path


async def read_netrc() -> None:
    """Read the file, in a thread. One that cannot be read or parsed is logged, and counts as empty."""
    await asyncio.get_running_loop().run_in_executor(None, _read)


def _read() -> None:
    global _known
    with _reading:
        # Another request may have read it meanwhile.
        if netrc_is_read():
            return
        location = _where.get()
        # Before it is read: a change while it is read makes for another stamp.
        stamp = _stamp(location)
        _known = _Known(location, stamp, netrc_from_env())


def netrc_auth(host: str) -> BasicAuth | None:
    """Returns the credentials for a host in the file as it was last read, or None."""
    known = _known
    if known is None or known.file is None:
        return None
    try:
        return basicauth_from_netrc(known.file, host)
    except LookupError:
        return None
