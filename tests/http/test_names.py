"""The names of the package, each of which is imported when it is first used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from whorl import http

SOURCE = Path(http.__file__).read_text()


def test_type_checkers_see_the_names_that_a_program_gets() -> None:
    block = next(
        node
        for node in ast.parse(SOURCE).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    declared = {
        f"{node.module or ''}:{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    known = {f"{module}:{name}" for module, names in http._NAMES.items() for name in names}
    known |= {":hdrs", "compat:drop_in"}
    assert declared == known


def test_every_name_is_there() -> None:
    assert all(getattr(http, name) is not None for name in http.__all__)
    assert dir(http) == sorted(http.__all__)
    assert not hasattr(http, "NoSuchName")


def test_the_package_alone_imports_none_of_its_modules() -> None:
    program = (
        "import sys, whorl.http; print([name for name in sys.modules if name.startswith('whorl.http.')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
