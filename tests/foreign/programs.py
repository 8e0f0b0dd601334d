"""The suites of programs and libraries that use an event loop, or aiohttp's client."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.foreign.suite import Setting, Suite, SuiteError
from tools.services import wait_for_port

HTTPBIN_PORT = 8642


@contextlib.contextmanager
def httpbin(python: Path, home: Path) -> Iterator[Setting]:
    """A server that echoes the request, which some suites expect to have."""
    log = home / "httpbin.log"
    command = [python, "-m", "httpbin.core", "--host", "127.0.0.1", "--port", str(HTTPBIN_PORT)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        if not wait_for_port(HTTPBIN_PORT, lambda: process.poll() is None):
            raise SuiteError(f"httpbin does not answer, see {log}")
        yield Setting({"HTTPBIN_URL": f"http://127.0.0.1:{HTTPBIN_PORT}/"})
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


PROGRAMS = {
    "aiohttp": Suite(
        "aiohttp==3.14.5",
        ("trustme", "pytest-mock", "freezegun", "re-assert", "proxy.py", "python-on-whales",
         "pytest-codspeed", "brotli", "zlib_ng", "isal", "aiodns", "coverage", "pytest-cov",
         "blockbuster", "gunicorn"),
        arguments=("-m", "not dev_mode and not autobahn and not internal", "--aiohttp-loop=pyloop"),
    ),
    "anyio": Suite(
        "anyio==4.16.0",
        ("trustme", "hypothesis", "psutil", "pytest-mock", "truststore", "blockbuster"),
        arguments=("-k", "not uvloop and not trio"),
    ),
    "asyncssh": Suite("asyncssh==2.24.1", ("aiofiles", "bcrypt", "ifaddr", "pyOpenSSL")),
    "uvicorn": Suite(
        "uvicorn==0.54.0",
        ("httptools", "wsproto", "websockets", "httpx", "trustme", "a2wsgi", "pyyaml", "python-dotenv",
         "watchfiles", "pytest-mock", "cryptography"),
    ),
    "aiosmtpd": Suite("aiosmtpd==1.4.6", ("pytest-mock",), tests="aiosmtpd/tests", installed=True),
    "tornado": Suite("tornado==6.6.1", tests="tornado/test", installed=True),
    # The longest to fetch: pip prepares its metadata, which translates all of it from Cython (minutes).
    # Its classes Test_UV_… run on uvloop in the control, on whorl by the replaced uvloop.new_event_loop.
    "uvloop": Suite("uvloop==0.23.0", ("psutil", "pyOpenSSL", "aiohttp")),
    # What uses aiohttp's client, or stands in for parts of it. In the control most of aioresponses fails: it
    # makes responses as aiohttp did before 3.14.5.
    "aiohttp-client-cache": Suite(
        "aiohttp-client-cache==0.15.0",
        ("aiofiles", "aiosqlite", "brotli", "faker", "httpbin", "pytest-aiohttp", "pytest-asyncio"),
        tests="test", modules=("unit", "test_memory", "test_filesystem", "test_sqlite"), way="drop-in",
        servers=httpbin,
    ),
    "aioresponses": Suite("aioresponses==0.7.9", ("ddt", "pytest-asyncio"), way="drop-in"),
    "gql": Suite(
        "gql[aiohttp]==4.4.0",
        ("aiofiles", "botocore", "httpx", "parse", "pytest-asyncio", "pytest-console-scripts", "requests",
         "requests-toolbelt", "vcrpy", "websockets"),
        modules=("test_aiohttp",), way="drop-in",
    ),
    "pytest-aiohttp": Suite("pytest-aiohttp==1.1.1", ("pytest-asyncio",), way="drop-in"),
    "vcrpy": Suite(
        "vcrpy==9.4.2",
        ("aiohttp==3.14.5", "httpbin", "pytest-aiohttp", "pytest-asyncio", "pytest-httpbin", "requests"),
        modules=("test_aiohttp",), way="drop-in",
    ),
}  # fmt: skip
