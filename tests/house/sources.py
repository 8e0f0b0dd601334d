"""The repository's own source files, and Rust text without what only looks like code."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from tests.house import ROOT

# Directories that hold nothing of ours.
SKIPPED = {"target", "dist", "build", "node_modules", "__pycache__", "corpus", "artifacts"}

# One alternative for each thing in Rust whose text is not code. A lifetime ('a) opens none.
_NOT_CODE = re.compile(
    r"""
    //[^\n]*
  | /\*.*?\*/
  | \b[bc]?r(?P<hashes>\#*)".*?"(?P=hashes)
  | \b[bc]?"(?:\\.|[^"\\])*"
  | "(?:\\.|[^"\\])*"
  | b?'(?:\\(?:x[0-9a-fA-F]{2}|u\{[0-9a-fA-F_]+\}|.)|[^'\\])'
    """,
    re.VERBOSE | re.DOTALL,
)


def files(*suffixes: str, under: str = ".") -> Iterator[Path]:
    """Every source file of ours with one of these suffixes, in order; hidden and built ones are left out."""
    found: list[Path] = []
    for directory, inner, names in os.walk(ROOT / under):
        # In place, so that the walk does not enter them: what is built is most of the tree.
        inner[:] = [one for one in inner if one not in SKIPPED and not one.startswith(".")]
        found += [Path(directory, one) for one in names if not one.startswith(".")]
    yield from sorted(path for path in found if path.suffix in suffixes)


def name(path: Path) -> str:
    """The path as a person would write it."""
    return path.relative_to(ROOT).as_posix()


def rust_code(text: str) -> str:
    """Rust with comments, strings and characters blanked; the lines stay where they are."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0])

    return _NOT_CODE.sub(blank, text)


def rust_strings(text: str) -> list[str]:
    """What stands between the quotes of each string in Rust, escapes as they are written."""
    literals = (match[0] for match in _NOT_CODE.finditer(text))
    strings = (re.fullmatch(r"""(?:[bc]?r(#*)|[bc]?)"(.*)"\1?""", one, re.DOTALL) for one in literals)
    return [match[2] for match in strings if match]


def without_tests(code: str) -> str:
    """Rust code (from `rust_code`) with every item under ``#[cfg(test)]`` or ``#[test]`` blanked."""
    while match := re.search(r"#\[(?:cfg\(test\)|cfg\(all\(test\b[^\]]*|test)\]", code):
        end = _item_end(code, match.end())
        code = code[: match.start()] + re.sub(r"[^\n]", " ", code[match.start() : end]) + code[end:]
    return code


def _item_end(code: str, start: int) -> int:
    """Where the item that begins after ``start`` ends: its closing brace, or a semicolon before any."""
    depth = 0
    for index in range(start, len(code)):
        if code[index] == "{":
            depth += 1
        elif code[index] == "}":
            depth -= 1
            if depth == 0:
                return index + 1
        elif code[index] == ";" and depth == 0:
            return index + 1
    return len(code)
