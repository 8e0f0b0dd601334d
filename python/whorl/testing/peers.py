"""Which two descriptors are the ends of one connection or pipe."""

from __future__ import annotations

import os
import socket
import stat
import struct
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Descriptor", "are_peers", "has_bytes_under_way", "known_descriptors"]

#: ``NETLINK_SOCK_DIAG`` and the messages of it that request a Unix-domain socket's peer (linux/unix_diag.h).
_SOCK_DIAG, _BY_FAMILY, _REQUEST, _SHOW_PEER, _PEER = 4, 20, 1, 4, 2
#: ``tcp_info`` of linux/tcp.h: where ``tcpi_bytes_received``, ``_sent`` and ``_retrans`` are.
_TCP_INFO_SIZE, _RECEIVED, _SENT, _SENT_AGAIN = 256, 128, 200, 208


class Descriptor:
    """A registered descriptor, inspected once."""

    def __init__(self, fd: int, owner: object) -> None:
        self.fd = fd
        self.owner = owner

    def name(self) -> str:
        """For a message."""
        try:
            kind = os.readlink(f"/proc/self/fd/{self.fd}")
        except OSError:
            kind = "unknown"
        if "pidfd" in kind:
            return f"a child process (descriptor {self.fd})"
        owner = "" if self.owner is None else f" of {self.owner!r}"
        return f"descriptor {self.fd} ({kind}){owner}"

    @cached_property
    def inode(self) -> tuple[int, int] | None:
        """Device and inode, the same at both ends of a pipe; None for a closed descriptor."""
        try:
            found = os.fstat(self.fd)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @cached_property
    def is_pipe(self) -> bool:
        """Whether it is an end of a pipe."""
        return self.inode is not None and stat.S_ISFIFO(os.fstat(self.fd).st_mode)

    @cached_property
    def socket(self) -> socket.socket | None:
        """The socket, through a duplicate of the descriptor."""
        if self.inode is None or not stat.S_ISSOCK(os.fstat(self.fd).st_mode):
            return None
        return socket.socket(fileno=os.dup(self.fd))

    def is_listener(self) -> bool:
        """Whether it is a listening socket, as ``sock_accept()`` waits for one."""
        option = getattr(socket, "SO_ACCEPTCONN", None)
        return (
            self.socket is not None
            and option is not None
            and bool(self.socket.getsockopt(socket.SOL_SOCKET, option))
        )

    @cached_property
    def ends(self) -> tuple[Any, Any] | None:
        """The addresses of both ends of an Internet connection."""
        if self.socket is None or self.socket.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        try:
            return self.socket.getsockname()[:2], self.socket.getpeername()[:2]
        except OSError:
            return None

    @cached_property
    def peer_inode(self) -> int | None:
        """The inode of a Unix-domain socket's peer, where the kernel reports it."""
        if self.socket is None or self.socket.family != socket.AF_UNIX or self.inode is None:
            return None
        return _unix_peer(self.inode[1])

    def close(self) -> None:
        """Closes the duplicate."""
        found = self.__dict__.get("socket")
        if found is not None:
            found.close()


@contextmanager
def known_descriptors(registered: Iterable[tuple[int, object]]) -> Iterator[list[Descriptor]]:
    """Inspect descriptors, each given with the object that stands for it."""
    with ExitStack() as stack:
        known = [Descriptor(fd, owner) for fd, owner in registered]
        for descriptor in known:
            stack.callback(descriptor.close)
        yield known


def are_peers(one: Descriptor, other: Descriptor) -> bool:
    """Whether the two are the ends of one connection, socket pair or pipe."""
    if one.fd == other.fd or one.inode is None or other.inode is None:
        return False
    if one.is_pipe:
        return one.inode == other.inode
    if one.socket is None or other.socket is None or one.socket.type != other.socket.type:
        return False
    if one.ends is not None and other.ends is not None:
        return one.ends == other.ends[::-1]
    return one.peer_inode is not None and one.peer_inode == other.inode[1]


def has_bytes_under_way(sender: Descriptor, receiver: Descriptor) -> bool:
    """Whether TCP has sent bytes that the other end has not got: the kernel passes them on a little later."""
    if sender.ends is None or sender.socket is None or receiver.socket is None:
        return False
    if sender.socket.type != socket.SOCK_STREAM or not hasattr(socket, "TCP_INFO"):
        return False
    sent, received = _tcp_info(sender.socket), _tcp_info(receiver.socket)
    if len(sent) < _SENT_AGAIN + 8 or len(received) < _RECEIVED + 8:
        return False
    return _number(sent, _SENT) - _number(sent, _SENT_AGAIN) > _number(received, _RECEIVED)


def _tcp_info(sock: socket.socket) -> bytes:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)


def _number(info: bytes, offset: int) -> int:
    number: int = struct.unpack_from("=Q", info, offset)[0]
    return number


def _unix_peer(inode: int) -> int | None:
    """Query the kernel (sock_diag(7)) for the inode of the peer of the Unix-domain socket ``inode``."""
    if not hasattr(socket, "AF_NETLINK"):
        return None
    body = struct.pack(
        "=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, inode, _SHOW_PEER, 0xFFFFFFFF, 0xFFFFFFFF
    )
    head = struct.pack("=IHHII", 16 + len(body), _BY_FAMILY, _REQUEST, 0, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
            kernel.send(head + body)
            reply = kernel.recv(4096)
    except OSError:
        return None
    if len(reply) < 32 or struct.unpack_from("=H", reply, 4)[0] != _BY_FAMILY:
        return None
    length = struct.unpack_from("=I", reply)[0]
    # The head of the message, that of the reply (unix_diag_msg), then attributes.
    offset = 16 + 16
    while offset + 4 <= length:
        size, kind = struct.unpack_from("=HH", reply, offset)
        if kind == _PEER:
            peer: int = struct.unpack_from("=I", reply, offset + 4)[0]
            return peer
        offset += max((size + 3) & ~3, 4)
    return None
