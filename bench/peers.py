"""The event loops that are compared: how to make one, its version, and what it cannot do."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@dataclass(frozen=True)
class Peer:
    """One column of the table.

    `modules` must all be importable for the peer to run. `cannot` pairs a glob of row names with the reason
    why the peer has no figure there; the first match counts.
    """

    name: str
    modules: tuple[str, ...]
    cannot: tuple[tuple[str, str], ...] = ()
    #: Not a Python loop: a native server that the runner starts itself.
    native: bool = False

    def missing(self) -> str | None:
        """Why this peer cannot run under this interpreter at all, or None."""
        for module in self.modules:
            if importlib.util.find_spec(module) is None:
                return f"{module} is not installed"
        return None

    def reason_against(self, row: str) -> str | None:
        """Why this peer has no figure in `row`, or None."""
        return next((reason for pattern, reason in self.cannot if fnmatchcase(row, pattern)), None)

    def version(self) -> str | None:
        """The installed version of the distribution behind the peer; None where it is Python's own."""
        if not self.modules:
            return None
        try:
            return importlib.metadata.version(self.modules[0])
        except importlib.metadata.PackageNotFoundError:
            return None

    def loop_factory(self) -> LoopFactory:
        """What makes this peer's loop. Imports the peer."""
        match self.name:
            case "asyncio":
                return asyncio.new_event_loop
            case "aiofastnet":
                # On uvloop, the stronger of the two bases it names.
                base = importlib.import_module("uvloop").new_event_loop
                factory: LoopFactory = importlib.import_module("aiofastnet").loop_factory(base)
                return factory
            case name:
                factory = importlib.import_module(name).new_event_loop
                return factory


#: The column every ratio is against.
SUBJECT = "whorl"

_NO_TRANSPORTS = "replaces transports; its loop is uvloop's"

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("whorl", ("whorl",)),
        Peer("asyncio", (), cannot=(("import", "it is what the import is measured beyond"),)),
        Peer("uvloop", ("uvloop",)),
        Peer(
            "rloop",
            ("rloop",),
            cannot=(
                ("*tls-*", "no TLS"),
                ("unix-*", "no Unix sockets"),
                # 0.5.0 takes the descriptor off its poller, and closes it when the transport is collected.
                ("accept-close", "close() leaves the socket open while the transport is referred to"),
            ),
        ),
        Peer("zuvloop", ("zuvloop",)),
        Peer(
            "aiofastnet",
            ("aiofastnet", "uvloop"),
            cannot=tuple(
                (pattern, _NO_TRANSPORTS)
                for pattern in ("call-*", "sleep-*", "gather-*", "future-*", "spawn-*", "import")
            ),
        ),
        Peer("tokio", (), native=True),
    )
}


def named(names: str) -> list[Peer]:
    """The peers in a comma-separated list. Raises ValueError for one that is not known."""
    chosen = []
    for name in filter(None, (part.strip() for part in names.split(","))):
        if name not in PEERS:
            raise ValueError(f"no peer is called {name!r}; there are {', '.join(PEERS)}")
        chosen.append(PEERS[name])
    return chosen
