"""What a set of measurements is made of: rows, the targets they are held to, and the peers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.peers import Peer


class Method(Enum):
    """What drives the measured process, and what reads its clock."""

    #: The measured process runs batches of work and reads its own CPU clock.
    ITSELF = "itself"
    #: The measured process does all of its work once, and what it says is the figure.
    READING = "reading"
    #: A native client drives a server in the measured process, and reads that process's CPU clock.
    LOADED = "loaded"
    #: The measured process is a client of the native HTTP server, and reads its own clock or memory.
    AGAINST_SERVER = "against a server"
    #: The measured process is a client of a database server that runs for the whole suite; it reads its own
    #: clock.
    AGAINST_DATABASE = "against a database"
    #: A native client opens connections and holds them; the measured process reads its own memory.
    HELD = "held"
    #: A fresh interpreter imports the peer and reads its own CPU clock.
    IMPORT = "import"
    #: A fresh interpreter makes a client, gets one response and reads its own CPU clock, which began with it.
    START_UP = "start-up"


class Unit(Enum):
    """Of a row's figures; less is better in each."""

    CPU_US = "us"
    #: Of the clock on the wall.
    MS = "ms"
    BYTES = "B"
    COUNT = ""


@dataclass(frozen=True)
class Ratio:
    """A target: the subject is not behind so many times a peer's figure over its own."""

    against: str
    least: float


@dataclass(frozen=True)
class Median:
    """A target: the median of a peer's figure over the subject's is at least so much, over so many rounds."""

    against: str
    least: float
    rounds: int


@dataclass(frozen=True)
class Limit:
    """A target: the subject's median, in the row's unit, is under so much."""

    under: float
    text: str


@dataclass(frozen=True)
class Margin:
    """A target: the subject's median is at most so much above a peer's, in the row's unit."""

    against: str
    most: float
    text: str


@dataclass(frozen=True)
class AnyOf:
    """A target that is reached with one of several."""

    targets: tuple[Ratio, ...]


Target = Ratio | Median | Limit | Margin | AnyOf


def peers_of(target: Target) -> set[str]:
    """The peers whose figures a target needs."""
    match target:
        case AnyOf(targets):
            return {one.against for one in targets}
        case Limit():
            return set()
        case _:
            return {target.against}


@dataclass(frozen=True)
class Row:
    """One line of the table. In each the subject is not to be behind any Python peer; `targets` require more.

    `workload` names a function in bench.workloads, and for native references a kind of whorl-bench-client;
    `plain` is what references do in its place, where the row adds something to it. `load` is a kind of
    whorl-bench-load, `path` a page of whorl-bench-serve's HTTP server, `database` one of bench.databases,
    `size` in bytes.
    """

    name: str
    title: str
    workload: str
    method: Method = Method.ITSELF
    load: str = ""
    path: str = ""
    plain: str = ""
    database: str = ""
    size: int = 0
    connections: int = 8
    unit: Unit = Unit.CPU_US
    targets: tuple[Target, ...] = ()
    #: Certificates are made for it; a server of the runner's speaks TLS.
    tls: bool = False
    #: That server gives its clients session tickets.
    tickets: bool = False
    #: Operations per second are shown with the figure.
    throughput: bool = False
    #: References that this row also has.
    references: tuple[str, ...] = ()
    #: In a process whose allocator has seen a large block freed; see bench.worker.age_heap.
    aged_heap: bool = False
    #: Of tools.toolkits: loops that run in a main loop run in this one's.
    toolkit: str = ""
    #: The only peers that have this row, with the subject and its references; all of them unless given.
    peers: tuple[str, ...] | None = None

    @property
    def takes_reading(self) -> bool:
        """Whether the measured process says the figure, and not operations and their CPU time."""
        return self.method is Method.READING or self.unit is not Unit.CPU_US

    def rounds_with(self, peer: str) -> int:
        """How many rounds the targets require against one peer; 0 where none of them does."""
        medians = (target for target in self.targets if isinstance(target, Median))
        return max((target.rounds for target in medians if target.against == peer), default=0)


@dataclass(frozen=True)
class Suite:
    """A command of the measurements: every peer in every row makes one table."""

    name: str
    title: str
    rows: tuple[Row, ...]
    peers: Mapping[str, Peer]
    #: Of an estimate.
    quick_rounds: int = 2

    def matching(self, patterns: str) -> list[Row]:
        """The rows whose name matches one of the comma-separated globs.

        Raises ValueError where there is none.
        """
        globs = [part.strip() for part in patterns.split(",") if part.strip()]
        chosen = [row for row in self.rows if any(fnmatchcase(row.name, glob) for glob in globs)]
        if not chosen:
            raise ValueError(f"no row matches {patterns!r}; `python -m bench {self.name} --list` names them")
        return chosen

    def named(self, names: str) -> list[Peer]:
        """The peers in a comma-separated list. Raises ValueError for one that is not known."""
        chosen = []
        for name in filter(None, (part.strip() for part in names.split(","))):
            if name not in self.peers:
                raise ValueError(f"no peer is called {name!r}; there are {', '.join(self.peers)}")
            chosen.append(self.peers[name])
        return chosen


def size_name(size: int) -> str:
    """A size in bytes as a row's name has it."""
    for unit, factor in (("MiB", 1024 * 1024), ("KiB", 1024)):
        if size >= factor:
            return f"{size // factor}{unit}"
    return f"{size}B"
