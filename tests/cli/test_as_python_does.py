"""``whorl run X`` and ``python X`` print the same and exit the same, whatever X is.

The interpreter is the reference: each program is run both ways and the results are compared.
"""

from __future__ import annotations

import os
import signal
import zipfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run, Script

# Prints all that a program can see of how it was started.
PROBE = """
    import __main__, sys
    state = {
        "names": sorted(globals().keys() - {"__main__", "sys"}),
        "argv": sys.argv,
        "path": sys.path,
        "loader": type(__loader__).__name__,
        "is __main__": __main__.__dict__ is globals(),
        "builtins": type(__builtins__).__name__,
        "in modules": sys.modules["__main__"] is __main__,
    }
    for name in ("__name__", "__file__", "__package__", "__doc__", "__cached__", "__annotations__"):
        state[name] = globals().get(name, "absent")
    state["spec"] = __spec__ and (__spec__.name, __spec__.origin, __spec__.parent)
    for name, value in state.items():
        print(name, value)
"""


def assert_same(run_python: Run, whorl: Run, *command: str, python: tuple[str, ...] = ()) -> int:
    expected = run_python(*command, python=python)
    actual = whorl("run", *command, python=python)
    assert actual.stdout == expected.stdout
    assert actual.stderr == expected.stderr
    assert actual.returncode == expected.returncode
    return actual.returncode


@pytest.fixture
def programs(tmp_path: Path, script: Script) -> None:
    for name in ("probe.py", "folder/__main__.py", "package/__main__.py", "package/inside.py"):
        script(name, PROBE)
    script("package/__init__.py", "")
    script("folder/next.py", "")
    with zipfile.ZipFile(tmp_path / "archive.pyz", "w") as archive:
        archive.write(tmp_path / "probe.py", "__main__.py")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "link.py").symlink_to("../probe.py")


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("python", [(), ("-P",)], ids=" ".join)
@pytest.mark.parametrize(
    "command",
    [
        "probe.py",
        "probe.py one --two -m three",
        "./probe.py",
        "links/../probe.py",
        "links/link.py",
        "folder",
        "folder/ argument",
        "archive.pyz argument",
        "-m package argument",
        "-m package.inside",
        "-mpackage",
        "-m probe",
    ],
)
def test_what_the_program_sees(run_python: Run, whorl: Run, command: str, python: tuple[str, ...]) -> None:
    # With -P the working directory is not searched, so that no module is found in it.
    found = not (command.startswith("-m") and "-P" in python)
    assert assert_same(run_python, whorl, *command.split(), python=python) == (0 if found else 1)


@pytest.mark.usefixtures("programs")
def test_an_absolute_path(run_python: Run, whorl: Run, tmp_path: Path) -> None:
    assert assert_same(run_python, whorl, str(tmp_path / "probe.py")) == 0


def test_a_compiled_file(run_python: Run, whorl: Run, script: Script, tmp_path: Path) -> None:
    script("probe.py", PROBE)
    assert run_python("-m", "compileall", "-b", "-q", "probe.py").returncode == 0
    (tmp_path / "probe.py").unlink()
    assert assert_same(run_python, whorl, "probe.pyc") == 0


def test_the_interpreters_options_apply(run_python: Run, whorl: Run, script: Script) -> None:
    script("optimised.py", "import sys\nassert False\nprint(sys.flags.optimize, __debug__, __doc__)")
    assert assert_same(run_python, whorl, "optimised.py", python=("-O",)) == 0
    assert assert_same(run_python, whorl, "optimised.py") == 1


def test_source_in_another_encoding(run_python: Run, whorl: Run, tmp_path: Path) -> None:
    (tmp_path / "latin.py").write_bytes(b"# coding: latin-1\nprint(len('\xe9'))\n")
    assert assert_same(run_python, whorl, "latin.py") == 0


@pytest.mark.parametrize(
    ("source", "status"),
    [
        pytest.param("import sys; sys.exit(7)", 7, id="a status"),
        pytest.param("import sys; sys.exit()", 0, id="no status"),
        pytest.param("import sys; sys.exit('a reason')", 1, id="a reason"),
        pytest.param("raise SystemExit([1, 2])", 1, id="an object"),
        pytest.param("def f():\n    1 / 0\nf()", 1, id="an exception"),
        pytest.param("import asyncio\nasync def f():\n    1 / 0\nasyncio.run(f())", 1, id="in a coroutine"),
        pytest.param("raise OSError(2, 'mine', 'file')", 1, id="an OSError that is the program's own"),
        pytest.param("import no_such_module", 1, id="an import"),
        pytest.param(
            "try:\n    1 / 0\nexcept Exception as e:\n    raise KeyError(1) from e", 1, id="a cause"
        ),
        pytest.param("raise ExceptionGroup('two', [KeyError(1), ValueError(2)])", 1, id="a group"),
        pytest.param("def f(:", 1, id="a syntax error"),
        pytest.param("x = 1\n  y = 2", 1, id="an indentation error"),
        pytest.param("import os, atexit\natexit.register(print, 'left')\n1 / 0", 1, id="atexit"),
        pytest.param(
            "import sys\nsys.excepthook = lambda kind, value, tb: print(kind, value, tb.tb_lineno)\n1 / 0",
            1,
            id="the program's own hook",
        ),
        pytest.param(
            "import threading\nt = threading.Thread(target=lambda: 1 / 0, name='t')\nt.start()\nt.join()",
            0,
            id="an exception in a thread",
        ),
        pytest.param("raise KeyboardInterrupt", -signal.SIGINT, id="an interrupt"),
        pytest.param(
            "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, id="a signal"
        ),
        pytest.param("import os\nos._exit(5)", 5, id="without clean-up"),
    ],
)
def test_how_the_program_ends(run_python: Run, whorl: Run, script: Script, source: str, status: int) -> None:
    script("ending.py", source)
    assert assert_same(run_python, whorl, "ending.py") == status


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("import sys; sys.exit('a reason')", 1),
        ("def f():\n    1 / 0\nf()", 1),
        ("def f(:", 1),
        ("raise KeyboardInterrupt", -signal.SIGINT),
    ],
)
def test_how_a_module_ends(run_python: Run, whorl: Run, script: Script, source: str, status: int) -> None:
    script("ending.py", source)
    assert assert_same(run_python, whorl, "-m", "ending") == status


@pytest.mark.parametrize("command", ["folder", "-m folder", "-m no.such", "-m folder.data"])
def test_what_is_not_a_program(run_python: Run, whorl: Run, script: Script, command: str) -> None:
    script("folder/data.txt", "")
    assert assert_same(run_python, whorl, *command.split()) == 1


def test_the_main_module_stays_while_threads_and_atexit_functions_use_it(
    run_python: Run, whorl: Run, script: Script
) -> None:
    script(
        "late.py",
        """
        import atexit, pickle, threading, time

        class Thing:
            pass

        def late(where):
            import __main__
            print(where, type(pickle.loads(pickle.dumps(Thing()))) is __main__.Thing)

        atexit.register(late, "atexit")
        threading.Thread(target=lambda: (time.sleep(0.2), late("thread"))).start()
        """,
    )
    assert assert_same(run_python, whorl, "late.py") == 0


def test_an_interactive_session_after_the_program(run_python: Run, whorl: Run, script: Script) -> None:
    script("kept.py", "kept = 1")
    # Standard input is empty, so the session ends at once; it must have been the program's.
    expected = run_python("kept.py", python=("-i",))
    actual = whorl("run", "kept.py", python=("-i",))
    assert actual.stderr.count(">>>") == expected.stderr.count(">>>") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_is_the_same_program(run_python: Run, whorl: Run, script: Script) -> None:
    script(
        "pool.py",
        """
        import multiprocessing

        def square(number):
            return number * number

        if __name__ == "__main__":
            with multiprocessing.get_context("fork").Pool(2) as pool:
                print(pool.map(square, range(5)))
        """,
    )
    assert assert_same(run_python, whorl, "pool.py") == 0


def test_a_spawned_child_finds_the_program(run_python: Run, whorl: Run, script: Script) -> None:
    script(
        "pool.py",
        """
        import multiprocessing

        def square(number):
            return number * number

        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(square, range(5)))
        """,
    )
    assert assert_same(run_python, whorl, "pool.py") == 0
