"""The paths of Rust code, from the root of its crate: of ``use`` trees, and in expressions and types."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.house.sources import rust_code

#: A path from the root of a crate; ``*`` may be the last name.
CratePath = tuple[str, ...]

_TOKEN = re.compile(r"(?:r#)?\w+|::|[^\s\w]")
_RELATIVE = ("crate", "self", "super")


def module_of(path: Path, root: Path) -> CratePath:
    """The module that a file under ``root``, the directory of ``lib.rs``, is."""
    names = path.relative_to(root).with_suffix("").parts
    return names[:-1] if names[-1] in ("lib", "mod") else names


def crate_paths(text: str, module: CratePath = ()) -> set[CratePath]:
    """The paths in the Rust ``text`` of ``module`` that lead into its crate.

    They begin with ``crate``, ``self`` or ``super``. What has a name in the file, or is of another crate, is
    left out.
    """
    reader = _Reader(_TOKEN.findall(rust_code(text)))
    return {_from_root(names, inner) for inner, names in reader.read(module) if names[0] in _RELATIVE}


def _from_root(names: list[str], module: CratePath) -> CratePath:
    """``names`` as seen from ``module``, without ``crate``, ``self`` and ``super``."""
    here = list(module)
    for one in names:
        if one == "crate":
            here.clear()
        elif one == "super":
            assert here, f"{'::'.join(names)} leads out of the crate"
            here.pop()
        elif one != "self":
            here.append(one)
    return tuple(here)


class _Reader:
    """Reads tokens from left to right."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def read(self, module: CratePath) -> Iterator[tuple[CratePath, list[str]]]:
        """Each path, with the module that it stands in."""
        modules = [module]
        # For each open brace: whether it is a module's.
        braces: list[bool] = []
        while self._at < len(self._tokens):
            token = self._take()
            if token == "mod" and self._peek(1) == "{":
                modules.append((*modules[-1], self._take()))
                braces.append(True)
                self._at += 1
            elif token == "{":
                braces.append(False)
            elif token == "}":
                if braces and braces.pop():
                    modules.pop()
            elif token == "use" and self._peek() not in ("<", ""):
                yield from ((modules[-1], path) for path in self._tree([]))
            elif token in _RELATIVE and self._peek() == "::":
                yield modules[-1], [token, *self._rest()]

    def _peek(self, ahead: int = 0) -> str:
        index = self._at + ahead
        return self._tokens[index] if index < len(self._tokens) else ""

    def _take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def _rest(self) -> Iterator[str]:
        """The names of a path after its first; type arguments end it."""
        while self._peek() == "::" and re.match(r"\w", self._peek(1)):
            self._at += 1
            yield self._take()

    def _tree(self, before: list[str]) -> Iterator[list[str]]:
        """The paths of a ``use`` tree, each from its beginning."""
        names = list(before)
        while token := self._peek():
            if token == "{":
                self._at += 1
                while self._peek() not in ("}", ""):
                    yield from self._tree(names)
                    if self._peek() == ",":
                        self._at += 1
                self._at += 1
                return
            if token in (",", ";", "}"):
                break
            self._at += 1
            if token == "as":
                self._at += 1
            elif token == "::":
                # A path that begins with it is one of another crate.
                if not names:
                    names.append("::")
            else:
                names.append(token)
        yield names
