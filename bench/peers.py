"""What a peer is: a column of the table, what it needs, its version, and what it cannot do."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bench.native import ROOT

#: The column every ratio is against.
SUBJECT = "whorl"


@dataclass(frozen=True)
class Peer:
    """One column of the table.

    `modules` must all be importable for the peer to run; the first is what it is called after. `cannot` pairs
    a glob of row names with the reason why the peer has no figure there; the first match counts.
    """

    name: str
    modules: tuple[str, ...]
    cannot: tuple[tuple[str, str], ...] = ()
    #: What bench.loops makes; the peer's own name where that is not said.
    loop: str = ""
    #: What bench.clients makes; none where it is the loop that is measured.
    client: str = ""
    #: Distributions that are not called after a module, whose versions are shown too.
    distributions: tuple[str, ...] = ()
    #: Shown without a verdict, as references in Rust are.
    reference: bool = False
    #: A reference in Rust: the crate it is made of. The runner starts it without an interpreter.
    crate: str = ""
    #: Of whorl-bench-client, for a reference in Rust.
    arguments: tuple[str, ...] = ()
    #: A reference in Python: it does what bench.workloads.bare has under the name of the row's workload.
    bare: bool = False

    @property
    def native(self) -> bool:
        """Whether it is a reference in Rust."""
        return bool(self.crate)

    @property
    def is_reference(self) -> bool:
        """Whether it is shown without a verdict, in the rows that name it."""
        return self.native or self.bare or self.reference

    @property
    def loop_name(self) -> str:
        """Whose event loop it runs on."""
        return self.loop or self.name

    def missing(self) -> str | None:
        """Why this peer cannot run under this interpreter at all, or None."""
        for module in self.modules:
            if importlib.util.find_spec(module) is None:
                return f"{module} is not installed"
        return None

    def reason_against(self, row: str) -> str | None:
        """Why this peer has no figure in `row`, or None."""
        return next((reason for pattern, reason in self.cannot if fnmatchcase(row, pattern)), None)

    def versions(self) -> dict[str, str]:
        """The versions of the distributions or the crate behind the peer; none where it is Python's own."""
        if self.native:
            return {self.crate: _locked(self.crate)}
        found = {}
        for name in (*(module.partition(".")[0] for module in self.modules), *self.distributions):
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                # Run from a source tree.
                continue
        return found


def _locked(crate: str) -> str:
    packages = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    return next(str(package["version"]) for package in packages if package["name"] == crate)
