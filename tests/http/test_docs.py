"""The programs in docs/http-client.md run and print what it says; the client's messages are explained."""

from __future__ import annotations

import ast
import asyncio
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("aiohttp", reason="the servers are aiohttp's (requirements/examples.txt)")
pytest.importorskip("trustme", reason="trustme makes the certificates (requirements/programs.txt)")

from tests.guides import DOCS, Program, check_program, every_program, hosts, programs, sections
from tests.http.docs_server import Ports, servers
from whorl import http

GUIDE = DOCS / "http-client.md"
TROUBLESHOOTING = DOCS / "troubleshooting.md"

# The functions that warn and log.
_REPORTS = re.compile(r"(?:\A|\.)(?:warn|debug|warning|error|exception)\Z")


class Site(NamedTuple):
    """The servers that run for these tests, and the directory with what programs read."""

    ports: Ports
    directory: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("guide")
    started: list[Ports] = []
    ready, loop = threading.Event(), asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with servers(directory) as ports:
            started.append(ports)
            ready.set()
            await over.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        finally:
            ready.set()
            loop.close()

    thread = threading.Thread(target=run, name="servers of the guide")
    thread.start()
    ready.wait(60)
    assert started, "the servers have not started"
    yield Site(started[0], directory)
    loop.call_soon_threadsafe(over.set)
    thread.join(60)
    assert not thread.is_alive()


@every_program(GUIDE)
def test_a_program_of_the_guide(program: Program, site: Site) -> None:
    check_program(program, site.ports.put_into(program.text), site.directory)


def test_every_section_has_a_program() -> None:
    assert {program.section for program in programs(GUIDE)} == sections(GUIDE)


@every_program(GUIDE)
def test_no_program_needs_the_network(program: Program) -> None:
    assert hosts(program) <= {"localhost", "127.0.0.1", "service"}


def _fixed_part(message: ast.expr) -> str:
    """The longest part of a message's text that is the same each time."""
    constants = [node.value for node in ast.walk(message) if isinstance(node, ast.Constant)]
    texts = [value for value in constants if isinstance(value, str)]
    pieces = [piece for text in texts for piece in re.split(r"%[rsd]", text)]
    return max(
        (" ".join(piece.replace("`", "").split()).strip(" :.,") for piece in pieces), key=len, default=""
    )


def _messages() -> Iterator[tuple[str, str]]:
    """Where a message of ours is, and its fixed part."""
    for path in sorted(Path(http.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            call = node.exc if isinstance(node, ast.Raise) else node
            if not isinstance(call, ast.Call) or not call.args:
                continue
            said = ast.unparse(call)
            reports = isinstance(node, ast.Raise) or _REPORTS.search(ast.unparse(call.func))
            if not reports or "Deprecat" in said or "deprecated" in said:
                continue
            for argument in call.args:
                part = _fixed_part(argument) if isinstance(argument, ast.Constant | ast.JoinedStr) else ""
                if len(part) >= 12:
                    yield f"{path.name}, line {call.lineno}", part


def test_every_message_of_the_client_is_explained() -> None:
    text = " ".join(TROUBLESHOOTING.read_text().replace("`", "").split())
    messages = list(_messages())
    assert len(messages) > 100
    unexplained = [message for message in messages if message[1] not in text]
    assert not unexplained, "say in docs/troubleshooting.md what it means, and the way out"
