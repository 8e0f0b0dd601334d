"""Multipart bodies: what is written is read again, in pieces of any size; and what is malformed or too
much."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from tests.http.body_support import MemoryWriter, Source, cut, feed, stream_of
from whorl.http.body.multipart import (
    BodyPartReader,
    BodyPartReaderPayload,
    MultipartReader,
    MultipartResponseWrapper,
    MultipartWriter,
)
from whorl.http.body.payload import StringPayload, get_payload
from whorl.http.http_exceptions import BadHttpMessage, InvalidHeader, LineTooLong
from whorl.http.streams import StreamReader

TEXT = b"Some text, with\r\n--a line that is no boundary\r\nand more. " * 400


async def written(writer: MultipartWriter) -> bytes:
    memory = MemoryWriter()
    await writer.write(memory)
    return memory.body


def reader_of(body: bytes, boundary: str = "xyz", kind: str = "mixed", **options: Any) -> MultipartReader:
    headers = {"Content-Type": f'multipart/{kind}; boundary="{boundary}"'}
    return MultipartReader(headers, stream_of(body), **options)


async def leaf(reader: MultipartReader) -> BodyPartReader:
    part = await reader.next()
    assert isinstance(part, BodyPartReader)
    return part


async def part_of(content: bytes, *fields: str, **options: Any) -> BodyPartReader:
    """The only part of a body, with this content and these fields."""
    head = "".join(f"{field}\r\n" for field in fields).encode()
    body = b"--xyz\r\n" + head + b"\r\n" + content + b"\r\n--xyz--\r\n"
    return await leaf(reader_of(body, **options))


async def contents(reader: MultipartReader) -> list[Any]:
    """The decoded parts, those of nested bodies in lists of their own."""
    found: list[Any] = []
    async for part in reader:
        if isinstance(part, BodyPartReader):
            found.append(await part.read(decode=True))
        else:
            found.append(await contents(part))
    return found


# There and back.


@pytest.mark.parametrize("sizes", [(1,), (3, 50, 2), (100_000,)], ids=["bytes", "pieces", "whole"])
async def test_what_is_written_is_read_again(sizes: Sequence[int]) -> None:
    nested = MultipartWriter("related", boundary="xyz-inner")
    nested.append("in the inner body")
    with MultipartWriter("mixed", boundary="xyz") as writer:
        writer.append(TEXT[:2000])
        writer.append("")
        writer.append(nested)
        writer.append_json({"key": "value"})
        for encoding in ("gzip", "deflate", "identity"):
            writer.append(TEXT, {"Content-Encoding": encoding})
        for encoding in ("base64", "quoted-printable", "binary"):
            writer.append(TEXT[:1000], {"Content-Transfer-Encoding": encoding})
        writer.append(TEXT, {"Content-Encoding": "gzip", "Content-Transfer-Encoding": "base64"})
    body = await written(writer)
    assert body == await writer.as_bytes() == await written(writer)
    stream = StreamReader(Source(), 4096)
    feeding = asyncio.create_task(feed(stream, cut(body, *sizes)))
    assert await contents(MultipartReader(writer.headers, stream)) == [
        TEXT[:2000],
        b"",
        [b"in the inner body"],
        b'{"key": "value"}',
        *[TEXT] * 3,
        *[TEXT[:1000]] * 3,
        TEXT,
    ]
    await feeding
    # Nothing is left in the way of the connection's next message.
    assert stream.at_eof()


@pytest.mark.parametrize("seed", range(20))
async def test_parts_that_look_like_boundaries(seed: int) -> None:
    choice = random.Random(seed)
    parts = [b"".join(choice.choices([b"\r", b"\n", b"-", b"--", b"x", b"xy"], k=200)) for _ in range(5)]
    assert not any(b"\r\n--xyz" in b"\r\n" + part for part in parts)
    writer = MultipartWriter("form-data", boundary="xyz")
    for part in parts:
        writer.append(io.BytesIO(part))
    stream = StreamReader(Source(), 64)
    sizes = [choice.randrange(1, 40) for _ in range(9)]
    feeding = asyncio.create_task(feed(stream, cut(await written(writer), *sizes)))
    found = []
    async for part in MultipartReader(writer.headers, stream):
        assert isinstance(part, BodyPartReader)
        content = b""
        while chunk := await part.read_chunk(choice.randrange(7, 60)):
            content += chunk
        found.append(content)
    await feeding
    assert found == parts


async def test_the_size_is_what_is_written() -> None:
    writer = MultipartWriter()
    assert writer.size == len(await written(writer))
    writer.append("text", {"X-Name": "Märchen"})
    writer.append(io.BytesIO(TEXT))
    inner = MultipartWriter()
    inner.append(b"bytes")
    writer.append(inner)
    assert writer.size == len(await written(writer))
    writer.append("text", {"Content-Encoding": "gzip"})
    assert writer.size is None


async def test_without_the_last_line_parts_can_follow() -> None:
    first, second = MultipartWriter(boundary="xyz"), MultipartWriter(boundary="xyz")
    first.append("one")
    second.append("two")
    memory = MemoryWriter()
    await first.write(memory, close_boundary=False)
    await second.write(memory)
    assert await contents(reader_of(memory.body)) == [b"one", b"two"]


@pytest.mark.parametrize("boundary", ["simple", "with space", ":", 'quo"ted', "back\\slash"])
async def test_boundaries_that_need_quotes(boundary: str) -> None:
    writer = MultipartWriter(boundary=boundary)
    writer.append("text")
    reader = MultipartReader(writer.headers, stream_of(await written(writer)))
    assert await contents(reader) == [b"text"]
    assert writer.boundary == boundary


@pytest.mark.parametrize("boundary", ["Grenze ä", "line\n"])
def test_boundaries_that_cannot_be(boundary: str) -> None:
    with pytest.raises(ValueError, match="boundary"):
        MultipartWriter(boundary=boundary)


async def test_parts_are_passed_on() -> None:
    # Compressed, and larger than what is passed on at once.
    content = random.Random(1).randbytes(600_000)
    part = await part_of(
        gzip.compress(content),
        "Content-Encoding: gzip",
        'Content-Disposition: form-data; name="field"; filename="file.bin"',
    )
    body = get_payload(part)
    assert isinstance(body, BodyPartReaderPayload)
    assert body.headers["Content-Disposition"] == 'attachment; name="field"; filename="file.bin"'
    memory = MemoryWriter()
    await body.write(memory)
    assert memory.body == content
    assert body.consumed
    with pytest.raises(TypeError, match=r"write\(\)"):
        await body.as_bytes()


async def test_quoted_printable_that_comes_in_two_is_passed_on() -> None:
    memory = MemoryWriter()
    filler = 256 * 1024 - 1
    part = await part_of(b"x" * filler + b"=C3=A4", "Content-Transfer-Encoding: quoted-printable")
    await get_payload(part).write(memory)
    assert memory.body == b"x" * filler + "ä".encode()


# Reading.


async def test_what_is_around_the_parts_means_nothing() -> None:
    body = b"preamble\r\n\r\n--xyz\r\n\r\none\r\n--xyz  \r\n\r\ntwo\r\n--xyz--\r\nepilogue\r\nof two lines"
    reader = reader_of(body)
    assert await contents(reader) == [b"one", b"two"]
    assert reader.at_eof()
    assert await reader.next() is None


async def test_parts_that_are_not_read_are_skipped() -> None:
    writer = MultipartWriter(boundary="xyz")
    inner = MultipartWriter(boundary="inner")
    for name in ("one", "two"):
        inner.append(name)
    writer.append(TEXT)
    writer.append(inner)
    writer.append("three")
    body = await written(writer)
    reader = reader_of(body)
    await reader.next()
    nested = await reader.next()
    assert isinstance(nested, MultipartReader)
    await nested.next()
    assert await (await leaf(reader)).text() == "three"
    reader = reader_of(body)
    await reader.release()
    assert reader.at_eof()


async def test_lines() -> None:
    part = await part_of(b"one\r\ntwo\n\r\nno end")
    lines = []
    while line := await part.readline():
        lines.append(line)
    assert lines == [b"one\r\n", b"two\n", b"\r\n", b"no end"]
    assert part.at_eof()


@pytest.mark.parametrize("field", ["X-None: 0", f"Content-Length: {len(TEXT)}"])
async def test_lines_and_then_the_rest(field: str) -> None:
    part = await part_of(TEXT, field)
    first = await part.readline()
    assert first == b"Some text, with\r\n"
    chunk = await part.read_chunk(100)
    line = await part.readline()
    assert first + chunk + line + await part.read() == TEXT


async def test_text_json_and_forms() -> None:
    latin = "Content-Type: text/plain; charset=latin-1"
    assert await (await part_of("Märchen".encode("latin-1"), latin)).text() == "Märchen"
    assert await (await part_of("Märchen".encode("utf-16"))).text(encoding="utf-16") == "Märchen"
    assert await (await part_of(b'{"key": [1]}')).json() == {"key": [1]}
    assert await (await part_of(b"")).json() is None
    assert await (await part_of(b"a=1&a=2&b=")).form() == [("a", "1"), ("a", "2"), ("b", "")]
    assert await (await part_of(b"")).form() == []
    with pytest.raises(ValueError, match="cannot be decoded with utf-8"):
        await (await part_of(b"\xff")).form()


async def test_the_default_charset_of_a_form() -> None:
    disposition = 'Content-Disposition: form-data; name="{}"\r\n\r\n'
    body = "".join(
        f"--xyz\r\n{disposition.format(name)}{value}\r\n"
        for name, value in (("_charset_", "latin-1"), ("field", "Märchen"))
    )
    part = await leaf(reader_of(body.encode("latin-1") + b"--xyz--", kind="form-data"))
    assert part.name == "field"
    assert await part.text() == "Märchen"
    # Elsewhere it is a part as any other.
    assert (await leaf(reader_of(body.encode("latin-1")))).name == "_charset_"
    long = body.replace("latin-1", "x" * 32).encode("latin-1")
    with pytest.raises(RuntimeError, match="Invalid default charset"):
        await reader_of(long, kind="form-data").next()


async def test_in_a_form_lengths_and_encodings_of_parts_mean_nothing() -> None:
    part = await part_of(b"longer", "Content-Length: 2", "Content-Encoding: gzip", kind="form-data")
    assert await part.read(decode=True) == b"longer"


@pytest.mark.parametrize("by_length", [False, True])
@pytest.mark.parametrize("size", [7, 8, 9, 10, 64, 5000])
async def test_chunks_of_base64_can_be_decoded_each(by_length: bool, size: int) -> None:
    content = random.Random(2).randbytes(1200)
    lines = base64.encodebytes(content).replace(b"\n", b"\r\n")
    field = f"Content-Length: {len(lines)}" if by_length else "X-Length: unknown"
    part = await part_of(lines, "Content-Transfer-Encoding: base64", field)
    decoded = b""
    while not part.at_eof():
        chunk = await part.read_chunk(size)
        # Three characters of a quartet may be kept, and a chunk cannot be shorter than the boundary.
        assert len(chunk) <= size + 3
        decoded += part.decode(chunk)
    assert decoded == content


async def test_padding_in_base64_does_not_add_up() -> None:
    part = await part_of(b"A" + b" " * 50_000 + b"A==", "Content-Transfer-Encoding: base64")
    decoded = b""
    while not part.at_eof():
        chunk = await part.read_chunk(1000)
        assert 0 < len(chunk) <= 1000
        decoded += part.decode(chunk)
    assert decoded == b"\0"


async def test_names_of_parts() -> None:
    part = await part_of(b"", "Content-Disposition: form-data; name=a; filename*=utf-8''%C3%A4.txt")
    assert (part.name, part.filename) == ("a", "ä.txt")
    part = await part_of(b"")
    assert (part.name, part.filename) == (None, None)


async def test_the_response_is_released_at_the_end() -> None:
    class Response:
        def __init__(self) -> None:
            self.headers = {"Content-Type": "multipart/mixed; boundary=xyz"}
            self.content = stream_of(b"--xyz\r\n\r\none\r\n--xyz--\r\n")
            self.released = 0

        async def release(self) -> None:
            self.released += 1

    response = Response()
    wrapper = MultipartReader.from_response(response)
    assert isinstance(wrapper, MultipartResponseWrapper)
    async for part in wrapper:
        assert await part.read() == b"one"  # type: ignore[union-attr]
        assert not response.released
    assert response.released == 1
    assert wrapper.at_eof()


async def test_readers_of_ones_own() -> None:
    class Part(BodyPartReader):
        pass

    class Inner(MultipartReader):
        pass

    class Outer(MultipartReader):
        part_reader_cls = Part
        multipart_reader_cls = Inner

    writer = MultipartWriter(boundary="xyz")
    writer.append("one")
    writer.append(MultipartWriter())
    reader = Outer(writer.headers, stream_of(await written(writer)))
    assert [type(part) async for part in reader] == [Part, Inner]


# What is malformed, or too much.


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no boundary at all",
        b"--xyz\r\n\r\nno end",
        b"--xyz\r\n\r\nno end\r\n--xy",
        b"--xyz\r\n\r\n",
        b"--xyz\r\nContent-Length: 100\r\n\r\nshort",
        b"--xyz\r\nContent-Length: 3\r\n\r\nlonger\r\n--xyz--",
        b"--xyz\r\nContent-Length: 1_0\r\n\r\n0123456789\r\n--xyz--",
        b"--xyz\r\n\r\none\r\n--xyzzy\r\n",
    ],
)
@pytest.mark.parametrize("lines", [False, True])
async def test_bodies_that_end_too_soon_or_elsewhere(body: bytes, lines: bool) -> None:
    with pytest.raises(ValueError, match="malformed|boundary|Content-Length"):
        async for part in reader_of(body):
            assert isinstance(part, BodyPartReader)
            while lines and b"Content-Length" not in body and b"xyzzy" not in body and await part.readline():
                pass
            await part.read()


@pytest.mark.parametrize(
    "field", [b"no colon", b"name : value", b": value", b"n\xc3\xa4me: value", b"name: \0"]
)
async def test_malformed_fields(field: bytes) -> None:
    with pytest.raises(InvalidHeader):
        await reader_of(b"--xyz\r\n" + field + b"\r\n\r\n\r\n--xyz--").next()


async def test_too_many_fields_or_too_long_ones() -> None:
    with pytest.raises(BadHttpMessage, match="more than 3"):
        await part_of(b"", *["X-Name: value"] * 4, max_headers=3)
    await part_of(b"", *["X-Name: value"] * 3, max_headers=3)
    with pytest.raises(LineTooLong):
        await part_of(b"", "X-Name: " + "v" * 100, max_field_size=100)
    with pytest.raises(BadHttpMessage, match="Duplicate 'Content-Type'"):
        await part_of(b"", "Content-Type: text/plain", "Content-Type: text/html")


@pytest.mark.parametrize("decode", [False, True])
async def test_parts_that_are_too_large(decode: bool) -> None:
    class TooLarge(Exception):
        pass

    content, *fields = (gzip.compress(bytes(1000)), "Content-Encoding: gzip") if decode else (bytes(1000),)
    fits = await part_of(content, *fields, client_max_size=1000)
    assert len(await fits.read(decode=decode)) == 1000
    part = await part_of(content, *fields, client_max_size=999, max_size_error_cls=TooLarge)
    with pytest.raises(TooLarge, match="999"):
        await part.read(decode=decode)


async def test_what_is_decompressed_comes_in_pieces_of_bounded_size() -> None:
    part = await part_of(gzip.compress(bytes(2_000_000)), "Content-Encoding: gzip")
    sizes = [len(piece) async for piece in part.decode_iter(await part.read())]
    assert sum(sizes) == 2_000_000
    assert max(sizes) <= 256 * 1024


@pytest.mark.parametrize("field", ["Content-Encoding: snappy", "Content-Transfer-Encoding: uuencode"])
async def test_encodings_that_are_not_known(field: str) -> None:
    with pytest.raises(RuntimeError, match="unknown content .*: (snappy|uuencode)"):
        await (await part_of(b"content", field)).read(decode=True)
    name, value = field.split(": ")
    with pytest.raises(RuntimeError, match="unknown content"):
        MultipartWriter().append("content", {name: value})


async def test_content_types_that_are_not_multipart() -> None:
    with pytest.raises(ValueError, match="'text/plain'"):
        MultipartReader({"Content-Type": "text/plain"}, stream_of())
    with pytest.raises(ValueError, match="boundary missed"):
        MultipartReader({"Content-Type": "multipart/mixed"}, stream_of())
    with pytest.raises(ValueError, match="too long"):
        reader_of(b"", "x" * 71)


async def test_chunks_shorter_than_the_boundary() -> None:
    with pytest.raises(ValueError, match="cannot read 3 bytes"):
        await (await part_of(b"content")).read_chunk(3)


@pytest.mark.parametrize("value", [1, 1.5, None, object()])
def test_values_that_are_no_parts(value: object) -> None:
    with pytest.raises(TypeError, match="Cannot create payload from"):
        MultipartWriter().append(value)


async def test_parts_of_forms() -> None:
    writer = MultipartWriter("form-data")
    writer.append("text")
    named = StringPayload("text")
    named.set_content_disposition("form-data", name="named")
    writer.append(named)
    reader = MultipartReader(writer.headers, stream_of(await written(writer)))
    names = [part.name async for part in reader if isinstance(part, BodyPartReader)]
    assert names == ["section-0", "named"]
    with pytest.raises(ValueError, match="Content-Encoding"):
        writer.append("text", {"Content-Encoding": "gzip"})
    named.set_content_disposition("form-data")
    with pytest.raises(ValueError, match="has no name"):
        await written(writer)


# Closing, and sending again.


async def test_closing_continues_after_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    class Held(StringPayload):
        _autoclose = False
        closed = 0

        async def close(self) -> None:
            self.closed += 1
            if str(self.decode()) == "faulty":
                raise OSError("it does not close")

    writer = MultipartWriter()
    parts = [Held("faulty"), Held("fine")]
    for part in parts:
        writer.append(part)
    await writer.close()
    await writer.close()
    assert [part.closed for part in parts] == [1, 1]
    assert "it does not close" in caplog.text
    assert writer.consumed


async def test_what_holds_nothing_can_be_sent_after_closing() -> None:
    writer = MultipartWriter()
    writer.append("text")
    body = await written(writer)
    await writer.close()
    assert not writer.consumed
    assert await written(writer) == body


async def test_a_part_that_is_used_up_uses_up_the_body() -> None:
    async def generator() -> AsyncIterator[bytes]:
        yield b"once"

    writer = MultipartWriter(boundary="xyz")
    writer.append("often")
    writer.append(generator())
    assert not writer.consumed
    assert await contents(reader_of(await written(writer))) == [b"often", b"once"]
    assert writer.consumed
