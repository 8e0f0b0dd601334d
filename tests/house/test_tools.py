"""The Makefile explains itself, and what is missing on a machine is named in one line."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.house import ROOT

THREADING = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
TAG = f"{sys.version_info.major}.{sys.version_info.minor}{THREADING}"


def preflight(python: str, **environment: str) -> str:
    """What ``tools/preflight.sh`` says about this machine."""
    done = subprocess.run(
        ["/bin/sh", ROOT / "tools" / "preflight.sh", python],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 1, done.stdout + done.stderr
    return lines[0]


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A PATH with the usual tools on it, and no compiler."""
    for tool in ("cut", "dirname", "head", "sed", "sort", "uname"):
        found = shutil.which(tool)
        assert found
        (tmp_path / tool).symlink_to(found)
    return tmp_path


def stub(directory: Path, tool: str, says: str) -> None:
    """Put a program into ``directory`` that only prints ``says``."""
    path = directory / tool
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)


def test_every_target_is_in_the_help() -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not on this machine")
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: (\S+)$", text, re.M))
    assert {
        "run",
        "test",
        "bench",
        "lint",
        "compat",
        "conformance",
        "db-compat",
        "matrix",
        "soak",
        "fuzz",
        "clean",
        "help",
    } <= targets
    # Run as from a shell: what an outer make says to its children is not for this one.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run([make], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    documented = set(re.findall(r"^  ([a-z-]+)  +\S", done.stdout, re.M))
    assert documented == targets


def test_an_interpreter_is_resolved() -> None:
    assert preflight(sys.executable).split()[:1] + preflight(sys.executable).split()[2:] == [
        "ok",
        TAG,
        ".".join(map(str, sys.version_info[:3])),
    ]


@pytest.mark.parametrize("name", ["no-such-python", "/no/such/python"])
def test_a_missing_interpreter_is_named(name: str) -> None:
    answer = preflight(name)
    assert answer.startswith(f"need {name}, which is not on this machine: install ")


def test_an_old_interpreter_is_refused(bare_path: Path) -> None:
    stub(bare_path, "oldpython", "/usr/bin/oldpython 3.9 3.9.2 cpython")
    answer = preflight("oldpython", PATH=str(bare_path))
    assert answer.startswith("need CPython 3.11 or newer, and oldpython is 3.9.2: ")


def test_another_implementation_is_refused(bare_path: Path) -> None:
    stub(bare_path, "pypy3", "/usr/bin/pypy3 3.11 3.11.13 pypy")
    assert preflight("pypy3", PATH=str(bare_path)) == "need CPython; pypy3 is pypy"


def test_a_missing_toolchain_is_named_a_tool_at_a_time(bare_path: Path) -> None:
    path = str(bare_path)
    assert preflight(sys.executable, PATH=path) == "need cargo: install Rust from https://rustup.rs"
    stub(bare_path, "cargo", "cargo")
    assert preflight(sys.executable, PATH=path).startswith("need rustc: ")
    stub(bare_path, "rustc", "rustc 1.63.0 (something)")
    assert re.match(
        r"need Rust [\d.]+ or newer, and rustc is 1\.63\.0: ", preflight(sys.executable, PATH=path)
    )
    stub(bare_path, "rustc", "rustc 99.0.0 (something)")
    assert preflight(sys.executable, PATH=path).startswith("need cc, a C compiler that links: ")
    stub(bare_path, "cc", "cc")
    assert preflight(sys.executable, PATH=path).startswith("ok ")


def test_the_finder_of_interpreters_fails_in_one_line(tmp_path: Path) -> None:
    tool = ROOT / "tools" / "python.py"
    absent = "3.14t" if TAG != "3.14t" else "3.14"
    empty = {"PATH": "", "PYENV_ROOT": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, tool, "--find", absent], env=empty, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"python.py: no CPython {absent} on this machine\n"


def test_the_finder_of_interpreters_prints_the_path(tmp_path: Path) -> None:
    base = Path(sys.base_prefix) / "bin"
    if not (base / f"python{TAG}").exists():
        pytest.skip(f"this interpreter has no bin/python{TAG} to be found by")
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "python.py", TAG],
        env={"PATH": str(base), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = Path(done.stdout.splitlines()[-1])
    assert found.exists()
    assert found.parent.samefile(base)
