"""The names of the package, each of which is imported when it is first used."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from whorl import http

SOURCE = Path(http.__file__).read_text()
PACKAGE = Path(http.__file__).parent

#: aiohttp's modules: those that have files of their own here, and those that whorl.http has by the same name.
OWN_FILES = {path.stem for path in (PACKAGE / "compat/aiohttp").glob("*.py")} - {"__init__"}
SAME_NAME = http.AIOHTTP_MODULES - OWN_FILES


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
    known |= {"compat:drop_in", *(f":{name}" for name in SAME_NAME)}
    known |= {f"compat.aiohttp:{name}" for name in OWN_FILES}
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


# aiohttp's modules.

#: What of aiohttp's modules is not a name of theirs: what they import from elsewhere.
FOREIGN = (
    *(
        "aiohappyeyeballs",
        "aiosignal",
        "attr",
        "collections",
        "concurrent",
        "contextlib",
        "email",
        "frozenlist",
    ),
    *("functools", "http", "io", "netrc", "os", "pathlib", "propcache", "re", "ssl", "textwrap", "types"),
    *("typing", "typing_extensions", "urllib", "hashlib", "_hashlib"),
)


def python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_each_of_them_has_its_stub() -> None:
    stubs = {path.stem for path in (PACKAGE.parents[1] / "whorl-stubs/http").glob("*.pyi")}
    assert stubs == OWN_FILES
    assert all((PACKAGE / f"{name}.py").exists() for name in SAME_NAME)
    # The stubs are in addition to the package, not in its place (PEP 561).
    assert (PACKAGE.parents[1] / "whorl-stubs/py.typed").read_text() == "partial\n"


@pytest.mark.parametrize("name", sorted(http.AIOHTTP_MODULES))
def test_a_module_is_there_as_an_attribute_and_by_import(name: str) -> None:
    module = importlib.import_module(f"whorl.http.{name}")
    assert getattr(http, name) is module
    assert all(hasattr(module, item) for item in getattr(module, "__all__", ()))


def _names(module: ModuleType) -> set[str]:
    """The names that a module of aiohttp has of its own, or gives on."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and str(getattr(value, "__module__", "aiohttp")).partition(".")[0] not in FOREIGN
    }


#: Names that aiohttp's module imports for itself alone.
LEFT_OUT = {
    # Importing the exceptions alone is cheap.
    "client_exceptions": {"ClientResponse", "ConnectionKey", "RequestInfo"},
    "streams": {"TimerNoop"},
}


@pytest.mark.parametrize("name", sorted(http.AIOHTTP_MODULES))
def test_no_name_of_aiohttps_module_is_missing_that_is_anywhere_here(name: str) -> None:
    """A name that whorl.http has is in all modules that aiohttp has it in."""
    theirs = pytest.importorskip(f"aiohttp.{name}", reason="aiohttp, the control, is not installed")
    ours = importlib.import_module(f"whorl.http.{name}")
    from whorl.http.compat.substitution import counterparts

    expected = _names(theirs) & counterparts().keys() - LEFT_OUT.get(name, set())
    assert expected - {*vars(ours), *dir(ours)} == set()


def test_names_that_programs_import() -> None:
    """Collected from public programs and libraries."""
    python("""
from whorl.http.client import ClientError, ClientSession, ClientTimeout, URL, _RequestContextManager, hdrs
from whorl.http.client_exceptions import ClientConnectorError, ServerDisconnectedError, ContentTypeError
from whorl.http.client_proto import ResponseHandler
from whorl.http.client_reqrep import ClientResponse, ConnectionKey, ContentDisposition, Fingerprint
from whorl.http.client_ws import DEFAULT_WS_CLIENT_TIMEOUT, ClientWebSocketResponse, ClientWSTimeout
from whorl.http.connector import BaseConnector, Connection, TCPConnector, UnixConnector, sentinel
from whorl.http.cookiejar import CookieJar
from whorl.http.helpers import BasicAuth, DEBUG, ProxyInfo, TOKEN, TimerNoop, URL, is_ip_address, sentinel
from whorl.http.http import SERVER_SOFTWARE, HttpVersion, StreamWriter, WS_CLOSED_MESSAGE, WSMsgType
from whorl.http.http_websocket import WSCloseCode, WSMessage, WSMsgType
from whorl.http.payload import BytesPayload, JsonPayload, Order, StringPayload, TOO_LARGE_BYTES_BODY
from whorl.http.resolver import AsyncResolver, ThreadedResolver
from whorl.http.typedefs import LooseHeaders, StrOrURL
import whorl.http.http_exceptions, whorl.http.log
import whorl.http as aiohttp
assert aiohttp.client_exceptions.ClientConnectorError is ClientConnectorError is aiohttp.ClientConnectorError
assert aiohttp.http.WSMsgType is WSMsgType is aiohttp.WSMsgType
assert aiohttp.helpers.BasicAuth is BasicAuth is aiohttp.BasicAuth
assert aiohttp.client.ClientSession is ClientSession is aiohttp.ClientSession
""")


def test_a_module_of_exceptions_imports_no_more_than_them() -> None:
    program = "import sys, whorl.http.client_exceptions; print(*sys.modules)"
    imported = {name for name in python(program).split() if name.startswith("whorl.http.")}
    needed = ("auth", "auth.redaction", "client_exceptions", "exceptions", "exception_type")
    assert imported <= {f"whorl.http.{name}" for name in needed}


def test_the_version_is_that_of_the_interface() -> None:
    """Programs compare it to know what there is."""
    assert http.__version__.startswith("3.14.")
    assert "__version__" not in http.__all__


@pytest.mark.parametrize("name", ["web", "web_request", "test_utils"])
def test_the_server_is_said_to_be_aiohttps(name: str) -> None:
    with pytest.raises(AttributeError, match=f"import aiohttp.{name}"):
        getattr(http, name)


def test_type_checkers_know_the_modules(tmp_path: Path) -> None:
    """And of an unknown name, that there is none."""
    program = tmp_path / "program.py"
    program.write_text(
        "import whorl.http as aiohttp\n"
        "from whorl.http.client_exceptions import ClientConnectorError\n"
        "from whorl.http.http import WSMsgType\n"
        "from whorl.http.helpers import BasicAuth\n"
        "error: type[aiohttp.ClientError] = aiohttp.client_exceptions.ClientError\n"
        "error = ClientConnectorError\n"
        "kind: aiohttp.WSMsgType = WSMsgType.TEXT\n"
        "version: str = aiohttp.__version__\n"
        "aiohttp.helpers.BasicAuth\n"
        "aiohttp.NoSuchName\n"
        "aiohttp.client.NoSuchName\n"
        "from whorl.http.client_ws import NoSuchName\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path / "c")]
    environment: dict[str, Any] = {**os.environ, "MYPYPATH": str(PACKAGE.parents[1])}
    done = subprocess.run(
        [*command, str(program)], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    errors = [line.split(":")[1] for line in done.stdout.splitlines() if ": error: " in line]
    assert errors == ["10", "11", "12"], done.stdout + done.stderr
