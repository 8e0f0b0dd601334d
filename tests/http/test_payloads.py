"""Request bodies: what is sent of each kind of value, how much, how often, and in which thread."""

from __future__ import annotations

import array
import asyncio
import gzip
import io
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from tests.http.body_support import MemoryWriter, stream_of
from whorl.http.body import payload as payloads
from whorl.http.body.payload import (
    AsyncIterablePayload,
    BytesPayload,
    IOBasePayload,
    JsonBytesPayload,
    JsonPayload,
    Order,
    Payload,
    PayloadRegistry,
    StringPayload,
    TextIOPayload,
    get_payload,
)
from whorl.http.body.streamer import streamer

BODY = bytes(range(256)) * 2500  # more than one piece, less than what warns
STORY = "Ein Märchen\n" * 40_000

# Values of each kind, made of a directory to keep files in, and what is sent for them.
KINDS: dict[str, Callable[[Path], tuple[Any, bytes]]] = {
    "bytes": lambda _: (BODY, BODY),
    "bytearray": lambda _: (bytearray(BODY), BODY),
    "memoryview": lambda _: (memoryview(array.array("H", range(9))), array.array("H", range(9)).tobytes()),
    "str": lambda _: (STORY, STORY.encode()),
    "StringIO": lambda _: (io.StringIO(STORY), STORY.encode()),
    "BytesIO": lambda _: (io.BytesIO(BODY), BODY),
    "file": lambda path: ((path / "body").open("rb"), BODY),
    "random access": lambda path: ((path / "body").open("r+b"), BODY),
    "raw file": lambda path: ((path / "body").open("rb", buffering=0), BODY),
    "text file": lambda path: ((path / "story").open(encoding="utf-8"), STORY.encode()),
    "text file of another encoding": lambda path: (
        (path / "latin").open(encoding="latin-1"),
        STORY.encode(),
    ),
    "compressed file": lambda path: (gzip.open(path / "body.gz"), BODY),
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "body").write_bytes(BODY)
    (tmp_path / "body.gz").write_bytes(gzip.compress(BODY))
    (tmp_path / "story").write_text(STORY, encoding="utf-8")
    (tmp_path / "latin").write_text(STORY, encoding="latin-1")
    return tmp_path


async def sent(body: Payload, length: int | None = None) -> bytes:
    writer = MemoryWriter()
    await body.write_with_length(writer, length)
    return writer.body


async def closed(*bodies: Payload) -> None:
    for body in bodies:
        await body.close()
    await asyncio.gather(*payloads._CLOSE_FUTURES)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_sent(kind: str, directory: Path) -> None:
    value, expected = KINDS[kind](directory)
    body = get_payload(value)
    assert body.size in (None, len(expected))
    # Once more as after a redirect, which may read the size before.
    for _ in range(2):
        assert await sent(body) == expected
        assert body.size in (None, len(expected))
        assert not body.consumed
    writer = MemoryWriter()
    await body.write(writer)
    assert writer.body == expected
    assert await body.as_bytes() == expected
    for length in (0, 1, len(expected) - 1, len(expected), len(expected) + 1):
        assert await sent(body, length) == expected[:length]
    await closed(body)


@pytest.mark.parametrize("kind", set(KINDS) - {"text file of another encoding", "compressed file"})
async def test_the_size_is_known(kind: str, directory: Path) -> None:
    value, expected = KINDS[kind](directory)
    body = get_payload(value)
    assert body.size == len(expected)
    await closed(body)


@pytest.mark.parametrize("kind", ["BytesIO", "StringIO", "file", "text file of another encoding"])
async def test_files_are_sent_from_where_they_stand(kind: str, directory: Path) -> None:
    value, expected = KINDS[kind](directory)
    value.read(100)
    value.seek(position := value.tell())
    # Of the story, a hundred characters are a few more bytes.
    start = len(STORY[:100].encode()) if expected == STORY.encode() else position
    body = get_payload(value)
    for _ in range(2):
        assert await sent(body) == expected[start:]
    await closed(body)


async def test_decoding() -> None:
    assert get_payload(b"caf\xc3\xa9").decode() == "café"
    assert get_payload(memoryview(b"caf\xe9")).decode("latin-1") == "café"
    assert get_payload(io.BytesIO(b"caf\xc3\xa9")).decode() == "café"
    assert get_payload(io.StringIO("café")).decode() == "café"


def test_media_types(tmp_path: Path) -> None:
    assert get_payload(b"").content_type == "application/octet-stream"
    assert get_payload("").content_type == "text/plain; charset=utf-8"
    assert get_payload("", encoding="koi8-r").content_type == "text/plain; charset=koi8-r"
    assert JsonPayload({}).content_type == "application/json"
    assert get_payload(b"", headers={"content-type": "image/gif"}).content_type == "image/gif"
    with (tmp_path / "page.html").open("wb+") as file:
        assert get_payload(file).content_type == "text/html"
        assert get_payload(file).headers["Content-Disposition"] == 'attachment; filename="page.html"'
        assert "Content-Disposition" not in get_payload(file, disposition=None).headers
        assert get_payload(file).filename == "page.html"


async def test_text_is_sent_in_the_charset_of_its_type() -> None:
    body = get_payload("Märchen", content_type="text/plain; charset=utf-16-le")
    assert await sent(body) == "Märchen".encode("utf-16-le")
    assert body.encoding == "utf-16-le"
    latin = TextIOPayload(io.StringIO("Märchen"), content_type="text/plain; charset=latin-1")
    assert await sent(latin) == "Märchen".encode("latin-1")


async def test_text_in_many_pieces_has_one_byte_order_mark() -> None:
    text = "x" * 600_000
    body = TextIOPayload(io.StringIO(text), encoding="utf-16")
    assert await sent(body) == text.encode("utf-16") == await sent(body)


async def test_a_text_file_is_sent_with_the_line_ends_it_has(tmp_path: Path) -> None:
    data = b"eins\r\nzwei\r\ndrei\n" * 50_000
    (tmp_path / "dos.txt").write_bytes(data)
    body = get_payload((tmp_path / "dos.txt").open(encoding="utf-8"))
    assert body.size == len(data)
    assert await sent(body) == await body.as_bytes() == data
    await closed(body)


async def test_json() -> None:
    value = {"key": ["Märchen", 1]}
    assert json.loads(await sent(JsonPayload(value))) == value
    as_bytes = JsonBytesPayload(value, dumps=lambda data: json.dumps(data).encode())
    assert json.loads(await sent(as_bytes)) == value
    assert as_bytes.size == len(json.dumps(value))


# Threads and files.


async def test_files_are_read_and_closed_in_a_thread(tmp_path: Path) -> None:
    used: list[tuple[str, int]] = []

    class Watched(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            used.append(("read", threading.get_ident()))
            return super().read(size)

        def close(self) -> None:
            if not self.closed:
                used.append(("close", threading.get_ident()))
            super().close()

    (tmp_path / "body").write_bytes(BODY)
    file = Watched(os.fspath(tmp_path / "body"))
    body = get_payload(file)
    assert await sent(body) == BODY
    await closed(body, body)
    assert file.closed
    assert [what for what, _ in used].count("close") == 1
    assert threading.get_ident() not in {thread for _, thread in used}


async def test_pieces_are_of_bounded_size(directory: Path) -> None:
    for body in (get_payload((directory / "body").open("rb")), get_payload(io.BytesIO(BODY))):
        writer = MemoryWriter()
        await body.write(writer)
        assert max(map(len, writer.pieces)) == 256 * 1024
        await closed(body)


async def test_memory_is_not_closed() -> None:
    value = io.BytesIO(b"body")
    body = get_payload(value)
    assert body.autoclose
    await closed(body)
    assert not value.closed
    assert await sent(body) == b"body"


async def test_what_cannot_be_sent_twice_is_consumed_and_closed_all_the_same() -> None:
    read, write = os.pipe()
    os.write(write, b"through a pipe")
    os.close(write)
    file = os.fdopen(read, "rb")
    body = get_payload(file)
    assert body.size is None
    assert not body.consumed
    assert await sent(body) == b"through a pipe"
    assert body.consumed
    await closed(body)
    assert file.closed


async def test_a_file_that_grows_is_sent_as_it_was(tmp_path: Path) -> None:
    class Growing(MemoryWriter):
        async def write(self, chunk: Any) -> None:
            await super().write(chunk)
            with (tmp_path / "log").open("ab") as log:
                log.write(b"more")

    (tmp_path / "log").write_bytes(BODY)
    body = get_payload((tmp_path / "log").open("rb"))
    writer = Growing()
    await body.write(writer)
    assert writer.body == BODY
    await closed(body)


async def test_a_device_has_no_size() -> None:
    body = get_payload(open("/dev/zero", "rb"))
    assert body.size is None
    assert await sent(body, 1000) == bytes(1000)
    await closed(body)


# Async iterables.


async def pieces() -> AsyncIterator[bytes]:
    for piece in (b"one", b"two", b"three"):
        yield piece


async def test_what_is_yielded_is_sent_once() -> None:
    body = get_payload(pieces())
    assert body.size is None
    writer = MemoryWriter()
    await body.write(writer)
    assert writer.pieces == [b"one", b"two", b"three"]
    assert body.consumed
    assert await sent(body) == await body.as_bytes() == b""


async def test_what_is_kept_can_be_sent_again() -> None:
    body = get_payload(pieces())
    with pytest.raises(TypeError, match="as_bytes"):
        body.decode()
    assert await body.as_bytes() == b"onetwothree"
    assert [await sent(body), await sent(body, 4)] == [b"onetwothree", b"onet"]
    assert body.decode() == "onetwothree"
    assert not body.consumed


async def test_a_generator_is_run_to_its_end_whatever_the_length() -> None:
    ended = False

    async def generator() -> AsyncIterator[bytes]:
        nonlocal ended
        yield b"one"
        yield b"two"
        ended = True

    assert await sent(get_payload(generator()), 2) == b"on"
    assert ended


async def test_half_of_a_generator_is_gone() -> None:
    class Broken(MemoryWriter):
        async def write(self, chunk: Any) -> None:
            raise ConnectionResetError

    body = get_payload(pieces())
    with pytest.raises(ConnectionResetError):
        await body.write(Broken())
    assert body.consumed


async def test_a_body_that_comes_in_is_passed_on_as_it_comes() -> None:
    writer = MemoryWriter()
    await get_payload(stream_of(b"one\ntwo\n", b"three")).write(writer)
    # Not by lines, which is what iterating over a stream gives.
    assert writer.body == b"one\ntwo\nthree"
    assert len(writer.pieces) < 3


def test_an_iterable_that_is_not_async() -> None:
    with pytest.raises(TypeError, match="async generator"):
        AsyncIterablePayload([b"one"])  # type: ignore[arg-type]


async def test_a_coroutine_that_writes() -> None:
    with pytest.deprecated_call(match="streamer"):

        @streamer
        async def count(writer: MemoryWriter, to: int = 2) -> None:
            for number in range(to):
                await writer.write(b"%d" % number)

    assert await sent(get_payload(count(to=4))) == b"0123"
    assert await sent(get_payload(count)) == b"01"


# Finding the class.


class Temperature:
    """A value that no payload knows."""


class TemperaturePayload(Payload):
    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return "21 °C"

    async def write(self, writer: Any) -> None:
        await writer.write(await self.as_bytes())


@pytest.fixture
def registry() -> Iterator[PayloadRegistry]:
    kept = payloads.PAYLOAD_REGISTRY
    payloads.PAYLOAD_REGISTRY = PayloadRegistry()
    yield payloads.PAYLOAD_REGISTRY
    payloads.PAYLOAD_REGISTRY = kept


async def test_a_class_of_ones_own(registry: PayloadRegistry) -> None:
    with pytest.raises(payloads.LookupError, match="'Temperature'"):
        get_payload(Temperature())
    payloads.payload_type(Temperature)(TemperaturePayload)
    body = get_payload(Temperature(), encoding="latin-1")
    assert isinstance(body, TemperaturePayload)
    assert await sent(body) == "21 °C".encode("latin-1")


def test_which_class_comes_first(registry: PayloadRegistry) -> None:
    class Exact(bytes):
        pass

    class Last(TemperaturePayload):
        pass

    class First(TemperaturePayload):
        pass

    registry.register(Last, (bytes, str), order=Order.try_last)
    assert type(get_payload(Exact())) is Last
    registry.register(BytesPayload, bytes)
    assert type(get_payload(Exact())) is type(get_payload(b"")) is BytesPayload
    registry.register(TemperaturePayload, Exact)
    assert type(get_payload(Exact())) is TemperaturePayload
    assert type(get_payload("text")) is Last
    registry.register(First, bytes, order=Order.try_first)
    assert type(get_payload(Exact())) is First
    with pytest.raises(ValueError, match="Unsupported order"):
        registry.register(First, bytes, order="soon")  # type: ignore[arg-type]


def test_a_payload_is_taken_as_it_is() -> None:
    body = StringPayload("text")
    assert get_payload(body) is body


async def test_a_payload_of_another_library_is_taken_as_it_is() -> None:
    aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    from aiohttp import payload as theirs

    body = theirs.StringPayload("text")
    assert get_payload(body) is body
    with aiohttp.MultipartWriter() as writer:
        writer.append("part")
    assert get_payload(writer) is writer
    assert b"part" in await sent(get_payload(writer))


async def test_streams_of_another_library_are_sent_by_pieces_not_lines() -> None:
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    from aiohttp.base_protocol import BaseProtocol
    from aiohttp.streams import StreamReader

    loop = asyncio.get_running_loop()
    stream = StreamReader(BaseProtocol(loop), 2**16, loop=loop)
    stream.feed_data(b"one\ntwo\nthree")
    stream.feed_eof()
    writer = MemoryWriter()
    await get_payload(stream).write(writer)
    assert writer.pieces == [b"one\ntwo\nthree"]


# What is refused.


@pytest.mark.parametrize("text", ["a\r\nX: b", "a\nb", "a\x00"])
def test_fields_cannot_be_injected(text: str) -> None:
    with pytest.raises(ValueError, match="header injection"):
        _ = BytesPayload(b"", headers={"X-Name": text})._binary_headers
    with pytest.raises(ValueError, match="header injection"):
        _ = BytesPayload(b"", headers=CIMultiDict({text: "value"}))._binary_headers


def test_large_bytes_warn() -> None:
    with pytest.warns(ResourceWarning, match="BytesIO"):
        BytesPayload(bytes(2**20 + 1))


def test_not_bytes() -> None:
    with pytest.raises(TypeError, match="byte-ish, not <class 'str'>"):
        BytesPayload("text")  # type: ignore[arg-type]


async def test_a_wrapper_that_is_no_real_file() -> None:
    class Wrapper:
        def __init__(self) -> None:
            self.left = [b"one", b"two"]

        def read(self, size: int) -> bytes:
            return self.left.pop(0) if self.left else b""

    body = IOBasePayload(Wrapper())  # type: ignore[arg-type]
    assert body.size is None
    assert await sent(body) == b"onetwo"
