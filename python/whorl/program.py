"""Runs a program in this process as the ``python`` command would run it in its own.

The interpreter's own rules are followed for ``sys.argv``, ``sys.path[0]``, the ``__main__`` module, exit
statuses and tracebacks. :func:`runpy.run_path` is not enough: it runs the program in a temporary module, gone
when the code has returned, while threads and atexit functions still use it.
"""

from __future__ import annotations

import builtins
import io
import marshal
import os
import pkgutil
import runpy
import sys
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from importlib.util import MAGIC_NUMBER
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType, TracebackType

__all__ = ["CannotOpenError", "run_file", "run_module"]

# What precedes the code object in a .pyc file: magic number, flags, and time and size or a hash (PEP 552).
_PYC_HEADER = 16


class CannotOpenError(Exception):
    """The file of a program cannot be opened or read; nothing of the program has run.

    Its text is worded as the interpreter words it. The :exc:`OSError` is the cause.
    """


def run_file(path: str, arguments: Sequence[str]) -> None:
    """Run a script, or a directory or zip file with a ``__main__.py``, as ``python path arguments…`` does.

    Raises :exc:`CannotOpenError`. Whatever the program raises comes out as it is, :exc:`SystemExit` included;
    a directory or archive without ``__main__.py`` is :exc:`SystemExit` with the interpreter's own message.
    """
    sys.argv = [path, *arguments]
    # Not normalised: the interpreter puts the working directory before a relative name and leaves it at that.
    filename = os.path.join(os.getcwd(), path)
    if pkgutil.get_importer(filename) is not None:
        # A directory or an archive. Safe-path mode does not keep it out: the user named it.
        _set_path_entry(filename, replace=not sys.flags.safe_path)
        _fresh_main()
        _execute(lambda: _run_as_main("__main__", alter_argv=False))
        return

    try:
        with io.open_code(filename) as file:
            content = file.read()
    except OSError as error:
        reason = f"[Errno {error.errno}] {error.strerror}"
        raise CannotOpenError(f"can't open file {filename!r}: {reason}") from error
    if not sys.flags.safe_path:
        _set_path_entry(os.path.dirname(os.path.realpath(path)), replace=True)

    compiled = content.startswith(MAGIC_NUMBER)
    namespace = _fresh_main()
    namespace["__file__"] = filename
    if sys.version_info < (3, 15):
        namespace["__cached__"] = None
    loader = SourcelessFileLoader if compiled else SourceFileLoader
    namespace["__loader__"] = loader("__main__", filename)

    def execute() -> None:
        # Compiled in here, because a SyntaxError is the program's too.
        code: CodeType
        if compiled:
            code = marshal.loads(content[_PYC_HEADER:])
        else:
            code = compile(content, filename, "exec", dont_inherit=True)
        exec(code, namespace)

    _execute(execute)


def run_module(name: str, arguments: Sequence[str]) -> None:
    """Run a module or package as ``python -m name arguments…`` does.

    A module that cannot be found, or is a package without ``__main__``, is :exc:`SystemExit` with the
    interpreter's own message and status 1.
    """
    # The interpreter puts the module's file name in place of "-m" once it has found it.
    sys.argv = ["-m", *arguments]
    if not sys.flags.safe_path:
        _set_path_entry(os.getcwd(), replace=True)
    _fresh_main()
    _execute(lambda: _run_as_main(name, alter_argv=True))


def _run_as_main(name: str, *, alter_argv: bool) -> None:
    # Private, yet the interpreter itself calls it by this name for `python -m`, directories and archives;
    # runpy's public functions use a temporary module.
    runpy._run_module_as_main(name, alter_argv)  # type: ignore[attr-defined]


def _set_path_entry(entry: str, *, replace: bool) -> None:
    """Make *entry* the first of ``sys.path``, in place of the one that stands for our own start."""
    if replace and sys.path:
        sys.path[0] = entry
    else:
        sys.path.insert(0, entry)


def _fresh_main() -> dict[str, Any]:
    """Put a new ``__main__`` module in place of ours and return its namespace."""
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    if sys.version_info < (3, 14):
        main.__annotations__ = {}
    sys.modules["__main__"] = main
    return main.__dict__


def _execute(program: Callable[[], None]) -> None:
    """Call *program*; an exception passes to the interpreter, which then reports it without our frames.

    The interpreter has to see the exception itself: it sets ``sys.last_exc``, turns an unhandled
    :exc:`KeyboardInterrupt` into an exit by SIGINT, and does so only after atexit functions have run.
    """
    try:
        program()
    except SystemExit:
        raise
    except BaseException as error:
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
            traceback = traceback.tb_next
        _report_with(error, traceback)
        raise


def _report_with(error: BaseException, traceback: TracebackType | None) -> None:
    """Have *error* reported, by the hook that the program has chosen, with *traceback* as its traceback."""
    program_hook = sys.excepthook

    def report(kind: type[BaseException], value: BaseException, full: TracebackType | None) -> None:
        sys.excepthook = program_hook
        if value is error:
            # The hook's argument is not enough: tracebacks are printed from the exception itself.
            value.__traceback__ = sys.last_traceback = full = traceback
        program_hook(kind, value, full)

    sys.excepthook = report
