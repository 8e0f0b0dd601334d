"""Drop-in mode: what ``import aiohttp`` gives, with aiohttp installed and without."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import whorl
from whorl.http.exception_type import ExceptionType
from whorl.http.exceptions import ClientError

#: So that a process of its own finds whorl where this one has.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(whorl.__file__).parents[1])}

needs_aiohttp = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import aiohttp"], capture_output=True, check=False).returncode
    != 0,
    reason="needs aiohttp, which is not installed",
)

#: Makes aiohttp impossible to find, as where it is not installed.
WITHOUT_AIOHTTP = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.split(".")[0] == "aiohttp" else find(name, *rest)
"""


def python(program: str, *, before: str = "", start: tuple[str, ...] = ()) -> str:
    """Run *program* in a process of its own, in drop-in mode if *start* is empty; returns what it printed."""
    install = "" if start else "from whorl.http import drop_in\ndrop_in.install()\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", *start, "-c", before + install + textwrap.dedent(program)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Foreign(Exception):
    """What another library raises, and catches."""


class ForeignDerived(Foreign):
    """What derives from it there."""


def make_tree() -> tuple[ExceptionType, type[Exception]]:
    """A class of ours and one that derives from it."""

    class Ours(Exception, metaclass=ExceptionType):
        pass

    class OursDerived(Ours, OSError):
        pass

    return Ours, OursDerived


def test_an_exception_is_caught_under_another_name_too() -> None:
    ours, derived = make_tree()
    ours.also_caught_as(Foreign)
    with pytest.raises(Foreign):
        raise ours("why")
    with pytest.raises(Foreign):
        raise derived(2, "why")
    assert issubclass(derived, Foreign)
    assert isinstance(derived(), Foreign)


def test_it_stays_what_it_was_otherwise() -> None:
    ours, derived = make_tree()
    ours.also_caught_as(Foreign)
    assert ours.__bases__ == (Exception,)
    assert derived(2, "why").errno == 2
    assert derived.__mro__.index(OSError) < derived.__mro__.index(Foreign)
    assert not issubclass(Foreign, ours)


def test_the_derived_class_is_caught_by_what_its_counterpart_is_caught_by() -> None:
    ours, derived = make_tree()
    ours.also_caught_as(Foreign)
    assert not issubclass(ours, ForeignDerived)

    class Later(derived):  # type: ignore[valid-type,misc]
        pass

    assert issubclass(Later, Foreign)


def test_an_exception_of_another_layout_is_refused_and_nothing_has_changed() -> None:
    ours, _ = make_tree()
    before = ours.__mro__
    with pytest.raises(TypeError, match="layout"):
        ours.also_caught_as(OSError)
    assert ours.__mro__ == before


def test_two_names_and_the_same_one_twice() -> None:
    ours, _ = make_tree()
    ours.also_caught_as(Foreign)
    ours.also_caught_as(ForeignDerived)
    ours.also_caught_as(Foreign)
    assert ours.__mro__.count(Foreign) == 1
    assert issubclass(ours, ForeignDerived)


def test_without_drop_in_mode_nothing_is_imported_or_changed() -> None:
    assert [base.__name__ for base in ClientError.__mro__] == [
        "ClientError",
        "Exception",
        "BaseException",
        "object",
    ]
    program = "import sys, whorl.http\nprint('aiohttp' in sys.modules)"
    assert python(program, start=("-X", "utf8")) == "False\n"


def test_installing_imports_nothing_of_aiohttp() -> None:
    assert python("import sys\nprint('aiohttp' in sys.modules)") == "False\n"


# With aiohttp installed.


@needs_aiohttp
def test_the_client_is_whorls_under_every_name() -> None:
    python("""
        import aiohttp, aiohttp.client, aiohttp.connector as connector
        from aiohttp.client import ClientSession
        from aiohttp.cookiejar import CookieJar
        from aiohttp import client_reqrep
        import whorl.http
        assert aiohttp.ClientSession is aiohttp.client.ClientSession is whorl.http.ClientSession
        assert ClientSession is whorl.http.ClientSession
        assert connector.TCPConnector is aiohttp.TCPConnector is whorl.http.TCPConnector
        assert aiohttp.CookieJar is CookieJar is whorl.http.CookieJar
        assert client_reqrep.ClientRequest is whorl.http.ClientRequest
        from aiohttp.client_proto import ResponseHandler
        assert ResponseHandler is whorl.http.connect.connection.HttpConnection
        from aiohttp.test_utils import TestClient
        import aiohttp.test_utils
        assert aiohttp.test_utils.ClientSession is whorl.http.ClientSession
    """)


@needs_aiohttp
def test_the_server_keeps_its_own() -> None:
    python("""
        import sys
        import aiohttp
        from aiohttp import web, web_request, web_response, multipart
        assert web.Application.__module__ == "aiohttp.web_app"
        assert web_request.MultipartReader.__module__ == "aiohttp.multipart"
        assert multipart.MultipartReader is not web_request.MultipartReader
        assert web_response.payload is not sys.modules["aiohttp.payload"]
        assert aiohttp.ETag.__module__ == "aiohttp.helpers"
    """)


@needs_aiohttp
def test_every_exception_is_caught_under_the_name_of_aiohttps() -> None:
    python("""
        import aiohttp.client_exceptions as theirs
        import whorl.http.exceptions as ours
        assert theirs.ClientError is not ours.ClientError
        for name in ours.__all__:
            assert issubclass(getattr(ours, name), getattr(theirs, name)), name
        try:
            raise ours.ServerTimeoutError
        except theirs.ServerTimeoutError:
            pass
    """)


@needs_aiohttp
def test_no_exception_with_a_counterpart_is_left_out() -> None:
    python("""
        import aiohttp, aiohttp.http, aiohttp.http_exceptions, aiohttp.payload, aiohttp.streams
        from whorl.http.exception_type import ExceptionType
        from whorl.http.compat.substitution import counterparts
        modules = (aiohttp, aiohttp.http, aiohttp.http_exceptions, aiohttp.payload, aiohttp.streams)
        left_out = [
            name for name, mine in counterparts().items()
            if isinstance(mine, type) and issubclass(mine, Exception)
            and any(hasattr(module, name) for module in modules)
            and not isinstance(mine, ExceptionType)
        ]
        assert not left_out, left_out
    """)


@needs_aiohttp
def test_a_library_that_was_imported_before_catches_what_whorl_raises() -> None:
    before = """
from aiohttp import ClientConnectorError, ClientError, ClientSession as Theirs
import aiohttp
"""
    python(
        """
        from whorl.http.exceptions import ClientConnectorDNSError
        class Key:
            host, port, ssl, is_ssl = "nowhere.invalid", 80, True, False
        try:
            raise ClientConnectorDNSError(Key, OSError(2, "No such name"))
        except ClientConnectorError as error:
            assert (error.host, error.port, error.os_error.errno) == ("nowhere.invalid", 80, 2)
            assert "No such name" in str(error)
            assert isinstance(error, ClientError)
        assert aiohttp.ClientSession is not Theirs
        """,
        before=before,
    )


@needs_aiohttp
def test_a_session_that_was_bound_before_remains_aiohttps() -> None:
    python(
        """
        import asyncio
        from aiohttp import web
        async def main():
            application = web.Application()
            application.router.add_get("/", lambda request: web.Response(text="here"))
            runner = web.AppRunner(application)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            async with Theirs() as session, session.get("http://%s:%d/" % runner.addresses[0]) as response:
                assert await response.text() == "here"
            await runner.cleanup()
        # aiohttp itself warns of a handler that is no coroutine.
        import warnings; warnings.simplefilter("ignore", DeprecationWarning)
        async def respond(request): return web.Response(text="here")
        asyncio.run(main())
        """,
        before="from aiohttp import ClientSession as Theirs\n",
    )


@needs_aiohttp
def test_what_the_server_makes_is_an_instance_of_the_rebound_classes() -> None:
    python("""
        import aiohttp
        from aiohttp.test_utils import make_mocked_request
        from aiohttp.web_request import StreamReader as Theirs
        from aiohttp.base_protocol import BaseProtocol
        import asyncio
        async def main():
            stream = Theirs(BaseProtocol(asyncio.get_running_loop()), 2**16, loop=asyncio.get_running_loop())
            assert isinstance(stream, aiohttp.StreamReader)
            assert issubclass(Theirs, aiohttp.StreamReader)
            assert not isinstance(object(), aiohttp.StreamReader)
            class Derived(aiohttp.StreamReader): pass
            assert not isinstance(stream, Derived)
        asyncio.run(main())
    """)


@needs_aiohttp
def test_a_payload_that_the_program_registers_is_made_on_both_sides() -> None:
    python("""
        import aiohttp
        from aiohttp import web
        class Text(str): pass
        class Measure:
            metres = 3
        @aiohttp.payload_type(Measure)
        class MeasurePayload(aiohttp.StringPayload):
            def __init__(self, value, *args, **kwargs):
                super().__init__(f"{value.metres} m", *args, **kwargs)
        assert isinstance(aiohttp.get_payload(Measure()), MeasurePayload)
        assert isinstance(web.Response(body=Measure()).body, aiohttp.Payload)
    """)


# Without it.


def test_without_aiohttp_its_names_are_whorls() -> None:
    python(
        """
        import aiohttp, aiohttp.client, aiohttp.hdrs
        from aiohttp import hdrs
        from aiohttp.client_exceptions import *
        from aiohttp.client_exceptions import ClientConnectorError
        from aiohttp.client_proto import ResponseHandler
        from aiohttp.connector import TCPConnector
        import whorl.http, whorl.http.exceptions
        assert aiohttp.ClientSession is aiohttp.client.ClientSession is whorl.http.ClientSession
        assert TCPConnector is whorl.http.TCPConnector
        assert ClientConnectorError is whorl.http.exceptions.ClientConnectorError
        assert hdrs is aiohttp.hdrs and hdrs.CONTENT_TYPE == "Content-Type"
        assert aiohttp.__version__.count(".") == 2
        """,
        before=WITHOUT_AIOHTTP,
    )


@pytest.mark.parametrize(
    "statement", ["import aiohttp.web", "from aiohttp import web", "import aiohttp.test_utils"]
)
def test_without_aiohttp_the_server_is_not_there_and_the_error_names_the_way_out(statement: str) -> None:
    said = python(
        f"""
        try:
            {statement}
        except ImportError as error:
            print(error)
        """,
        before=WITHOUT_AIOHTTP,
    )
    assert "aiohttp is not installed: run `pip install aiohttp`" in said


def test_without_aiohttp_an_unknown_module_is_missing_as_any_other() -> None:
    said = python(
        """
        try:
            import aiohttp.nonsense
        except ModuleNotFoundError as error:
            print(error)
        """,
        before=WITHOUT_AIOHTTP,
    )
    assert said == "No module named 'aiohttp.nonsense'\n"


def test_the_command_line_installs_it(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import aiohttp\nprint(aiohttp.ClientSession.__module__)\n")
    done = subprocess.run(
        [sys.executable, "-m", "whorl", "run", "--drop-in", str(program)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("whorl.http")
