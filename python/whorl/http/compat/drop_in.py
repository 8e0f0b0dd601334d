"""``import aiohttp`` gives whorl's client: :func:`install`, for programs and libraries that stay as they are.

``whorl run --drop-in program.py`` calls it before the program starts. A program that calls it itself does so
before it, or anything it uses, imports aiohttp::

    from whorl.http import drop_in

    drop_in.install()

    import aiohttp  # aiohttp.ClientSession is whorl.http.ClientSession

Where aiohttp is installed, its server (``aiohttp.web``), its test utilities and everything else that is not
the client stay its own. Where it is not, ``aiohttp`` and its modules are whorl.http under those names, and
``aiohttp.web`` cannot be imported.
"""

from __future__ import annotations

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

from whorl import http

from . import AIOHTTP_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["AIOHTTP_VERSION", "install"]

#: The parts of aiohttp that have no counterpart here; names that begin with ``web_`` have none either.
_SERVER_SIDE = frozenset({"pytest_plugin", "test_utils", "web", "worker"})


def install() -> None:
    """Have ``import aiohttp`` give whorl's client from now on, in this process.

    Modules of aiohttp that are imported already are changed as far as possible: names of the package
    ``aiohttp`` itself are whorl's wherever it was imported, but a class that a module has bound (``from
    aiohttp import ClientSession``) stays aiohttp's there. Either way ``except`` clauses that name aiohttp's
    exceptions catch whorl.http's exceptions, and whorl.http's session takes aiohttp's ``FormData``,
    ``BasicAuth``, ``ClientTimeout``, payloads and cookie jars.

    aiohttp is not imported by this call. A second call does nothing. It is not undone: names bound in
    between could not be.
    """
    if any(isinstance(finder, _AiohttpFinder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _AiohttpFinder())
    if aiohttp := sys.modules.get("aiohttp"):
        from .substitution import substitute

        substitute(aiohttp)


class _AiohttpFinder(MetaPathFinder):
    """Finds aiohttp, to have its client replaced when it is imported, or gives whorl.http in its place."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find ``aiohttp``, and its modules where it is not installed."""
        package, _, name = fullname.partition(".")
        if package != "aiohttp":
            return None
        if not name:
            spec = PathFinder.find_spec(fullname, path, target)
            if spec is None or spec.loader is None:
                return ModuleSpec(fullname, _Loader(), is_package=True)
            loader: Any = spec.loader
            loader.exec_module = _then_substitute(loader.exec_module)
            return spec
        if isinstance(_loader_of(sys.modules["aiohttp"]), _Loader):
            if name in _SERVER_SIDE or name.startswith("web_"):
                raise ImportError(
                    f"{fullname} is not part of whorl.http, which stands for aiohttp here as aiohttp is not "
                    "installed: run `pip install aiohttp`, and its client will still be whorl's",
                    name=fullname,
                )
            if name in http.AIOHTTP_MODULES:
                return ModuleSpec(fullname, _Loader())
        return None


def _loader_of(module: ModuleType) -> object:
    return module.__spec__.loader if module.__spec__ is not None else None


def _then_substitute(exec_module: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def exec_and_substitute(module: ModuleType) -> None:
        exec_module(module)
        from .substitution import substitute

        substitute(module)

    return exec_and_substitute


class _Loader(Loader):
    """Makes ``aiohttp`` and its modules out of whorl.http."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module with whorl.http's names."""
        name = module.__name__.partition(".")[2]
        if not name:
            names = {name: getattr(http, name) for name in http.__all__}
            module.__version__ = AIOHTTP_VERSION  # type: ignore[attr-defined]
            module.__getattr__ = _module_of  # type: ignore[method-assign]
        else:
            original = importlib.import_module(f"whorl.http.{name}")
            names = {key: getattr(original, key) for key in {*vars(original), *dir(original)}}
        vars(module).update(
            {
                key: value
                for key, value in names.items()
                if not key.startswith("__") and not isinstance(value, ModuleType)
            }
        )


def _module_of(name: str) -> ModuleType:
    """Return a module of ``aiohttp`` that was not imported by name: aiohttp imports them with the package."""
    if name in http.AIOHTTP_MODULES:
        return importlib.import_module(f"aiohttp.{name}")
    raise AttributeError(f"module 'aiohttp' has no attribute {name!r}")
