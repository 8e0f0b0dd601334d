"""Other clients on the corpus of the core: what each of them reads of the responses in it.

``python -m tests.http.peers`` records it in ``peers.json``, which ``test_peers.py`` holds against what it
finds. A verdict is relative to what a user agent's parser of ours reads: ``same``, ``refuses``, or what else
the peer reads.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "crates" / "core" / "tests" / "http1"
RECORD = Path(__file__).with_name("peers.json")

#: Files of the corpus that have responses.
FILES = ("responses-valid.txt", "responses-invalid.txt", "tolerance.txt", "chunked.txt")

_ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|.)", re.DOTALL)
_ESCAPES = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0"}
_HEAD = re.compile(r'head HTTP/\S+ (\d+) ".*" (.*)')

#: Seconds after which a peer has hung. Long, so that only a hang reaches it.
PATIENCE = 20

#: What a client reads: the status and the body; None if it refuses the response.
Reading = tuple[int, bytes] | None


@dataclass
class Case:
    """A response to a GET, and the steps that the parsers of ours take."""

    title: str
    raw: bytes = b""
    kind: str = ""
    limits: bool = False
    steps: dict[str, list[str]] = field(default_factory=dict)

    def reading(self, tolerance: str) -> Reading:
        """What our parser of this ``tolerance``, ``strict`` or ``user agent``, reads until the connection
        ends."""
        status, framing, body = 0, "", b""
        for step in self.steps.get(tolerance, self.steps.get("")) or ():
            if head := _HEAD.fullmatch(step):
                status, framing = int(head[1]), head[2]
            elif step.startswith("data "):
                body += _unescape(step[6:-1].encode().replace(rb"\"", b'"').replace(rb"\'", b"'"))
            elif step.startswith(("end ", "finish end")):
                return status, body
            elif step.startswith("error "):
                return None
        return (status, body) if framing in ("until-eof", "tunnel") else None

    def verdict(self, found: Reading) -> str:
        """What ``found`` is, compared with what a user agent's parser of ours reads."""
        ours = self.reading("user agent")
        if found is None:
            return "same" if ours is None else "refuses"
        return "same" if found == ours else f"reads {found[0]} {found[1]!r}"


def _unescape(text: bytes) -> bytes:
    def character(match: re.Match[bytes]) -> bytes:
        name = match[1]
        return bytes([int(name[1:], 16)]) if len(name) == 3 else _ESCAPES.get(name, name)

    return _ESCAPE.sub(character, text)


def read_corpus() -> list[Case]:
    """The responses to a GET that are read with the default limits."""
    cases: list[Case] = []
    for name in FILES:
        tolerance = ""
        for line in (CORPUS / name).read_text().splitlines():
            if line.startswith("# "):
                cases.append(Case(line[2:]))
                tolerance = ""
            elif not line or line.startswith("//"):
                continue
            elif line.startswith("> "):
                cases[-1].raw += _unescape(line[2:].encode())
            elif line in ("strict", "user agent"):
                tolerance = line
            elif line.startswith("limits "):
                cases[-1].limits = True
            elif not cases[-1].kind:
                cases[-1].kind = line
            else:
                cases[-1].steps.setdefault(tolerance, []).append(line)
    return [case for case in cases if case.kind == "response" and not case.limits]


@contextmanager
def serving(responses: Sequence[bytes]) -> Iterator[int]:
    """The port of a server whose path ``/5`` has response number 5; the connection ends behind it."""
    stopped = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError, ValueError, IndexError):
            connection.settimeout(PATIENCE)
            request = b""
            while b"\r\n\r\n" not in request:
                piece = connection.recv(65536)
                if not piece:
                    return
                request += piece
            connection.sendall(responses[int(request.split()[1][1:])])
            connection.shutdown(socket.SHUT_WR)
            # A reset would take what the client has not read.
            while connection.recv(65536):
                pass

    def accept() -> None:
        while not stopped.is_set():
            with suppress(OSError):
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        thread = threading.Thread(target=accept, name="responses of the corpus")
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            stopped.set()
            socket.create_connection(listener.getsockname()).close()
            thread.join()


# The peers.


class Unavailable(Exception):
    """The peer is not here, or does not read leniently; the text says why."""


@dataclass(frozen=True)
class Peer:
    """A client of someone else's."""

    #: Raises :exc:`Unavailable`.
    version: Callable[[], str]
    #: What it reads of each case.
    read: Callable[[list[Case]], list[Reading]]


def _version_of_aiohttp() -> str:
    try:
        import aiohttp
        from aiohttp import http_parser
    except ImportError:
        raise Unavailable("aiohttp is not installed (requirements/examples.txt)") from None
    if sys.flags.dev_mode:
        raise Unavailable("aiohttp reads strictly in development mode")
    compiled = http_parser.HttpResponseParser is not http_parser.HttpResponseParserPy
    return aiohttp.__version__ + ("" if compiled else " (its parser in Python)")


def _read_by_aiohttp(cases: list[Case]) -> list[Reading]:
    from aiohttp.base_protocol import BaseProtocol
    from aiohttp.http_parser import HttpResponseParser

    def read(loop: asyncio.AbstractEventLoop, raw: bytes) -> Reading:
        parser: Any = HttpResponseParser(
            BaseProtocol(loop),
            loop,
            2**16,
            response_with_body=True,
            read_until_eof=True,
            auto_decompress=False,
        )
        try:
            messages, _, _ = parser.feed_data(raw)
            parser.feed_eof()
            head, body = next((head, body) for head, body in messages if head.code == 101 or head.code >= 200)
            if body.exception() is not None or not (body.is_eof() or body._eof):
                return None
            return head.code, b"" if body.at_eof() else body.read_nowait(-1)
        except Exception:
            # Many classes, and StopIteration where there is no message.
            return None

    async def read_all() -> list[Reading]:
        return [read(asyncio.get_running_loop(), case.raw) for case in cases]

    return asyncio.run(read_all())


def _over_sockets(read: Callable[[int, int], Reading]) -> Callable[[list[Case]], list[Reading]]:
    """A reader of cases from one that takes the port of a server and the number of a response."""

    def read_all(cases: list[Case]) -> list[Reading]:
        with serving([case.raw for case in cases]) as port, ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda number: read(port, number), range(len(cases))))

    return read_all


def _version_of_curl() -> str:
    if shutil.which("curl") is None:
        raise Unavailable("curl is not installed")
    text = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout
    return text.split()[1]


def _read_by_curl(port: int, number: int) -> Reading:
    command = ["curl", "--disable", "--silent", "--http1.1", "--noproxy", "*", "--max-time", str(PATIENCE)]
    command += ["--write-out", "%{stderr}%{http_code}", f"http://127.0.0.1:{port}/{number}"]
    done = subprocess.run(command, capture_output=True, timeout=2 * PATIENCE)
    return None if done.returncode else (int(done.stderr), done.stdout)


def _version_of_http_client() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def _read_by_http_client(port: int, number: int) -> Reading:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", f"/{number}")
        response = connection.getresponse()
        return response.status, response.read()
    except (http.client.HTTPException, OSError, ValueError, OverflowError, MemoryError):
        return None
    finally:
        connection.close()


PEERS = {
    "aiohttp": Peer(_version_of_aiohttp, _read_by_aiohttp),
    "curl": Peer(_version_of_curl, _over_sockets(_read_by_curl)),
    "http.client": Peer(_version_of_http_client, _over_sockets(_read_by_http_client)),
}


def verdicts(name: str, cases: list[Case]) -> dict[str, str]:
    """The verdicts of a peer, by the titles of the cases."""
    found = PEERS[name].read(cases)
    return {case.title: case.verdict(reading) for case, reading in zip(cases, found, strict=True)}


def ours(case: Case) -> dict[str, str]:
    """The verdicts of our parsers."""
    return {
        tolerance: "reads" if case.reading(tolerance) else "refuses" for tolerance in ("strict", "user agent")
    }


def main() -> None:
    """Records the verdicts of the peers that are here."""
    cases = read_corpus()
    versions = {name: peer.version() for name, peer in PEERS.items()}
    found = {name: verdicts(name, cases) for name in PEERS}
    rows = {case.title: ours(case) | {name: found[name][case.title] for name in PEERS} for case in cases}
    lines = ",\n".join(f"{json.dumps(title)}: {json.dumps(row)}" for title, row in rows.items())
    RECORD.write_text(f'{{"versions": {json.dumps(versions)},\n"cases": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    main()
