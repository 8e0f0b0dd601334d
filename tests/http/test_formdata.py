"""Forms: urlencoded or multipart, what makes them so, and sending them again."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from multidict import MultiDict, MultiDictProxy

from tests.http.body_support import MemoryWriter, stream_of
from whorl.http.body.formdata import FormData, is_form
from whorl.http.body.multipart import BodyPartReader, MultipartReader
from whorl.http.body.payload import BytesPayload

FIELDS = [("name", "Märchen & more"), ("name", "again"), ("empty", ""), ("a=b", "1+1")]


async def sent(form: FormData) -> bytes:
    writer = MemoryWriter()
    await form().write(writer)
    return writer.body


async def parts(form: FormData) -> list[tuple[str | None, str | None, str, bytes]]:
    """Name, name of the file, media type and content of the parts."""
    body = form()
    reader = MultipartReader(body.headers, stream_of(await sent(form)))
    found = []
    async for part in reader:
        assert isinstance(part, BodyPartReader)
        found.append((part.name, part.filename, part.headers["Content-Type"], await part.read()))
    return found


@pytest.mark.parametrize("charset", [None, "utf-8", "latin-1"])
async def test_text_is_urlencoded(charset: str | None) -> None:
    form = FormData(FIELDS, charset=charset)
    assert not form.is_multipart
    text = (await sent(form)).decode("ascii")
    assert parse_qsl(text, keep_blank_values=True, encoding=charset or "utf-8") == FIELDS
    expected = "application/x-www-form-urlencoded" + ("; charset=latin-1" if charset == "latin-1" else "")
    assert form().content_type == expected
    assert form().size == len(text)


@pytest.mark.parametrize(
    "fields",
    [
        {"a": "1", "b": "2"},
        [("a", "1"), ("b", "2")],
        (["a", "1"], ["b", "2"]),
        MultiDict({"a": "1", "b": "2"}),
        MultiDictProxy(MultiDict({"a": "1", "b": "2"})),
        [MultiDict({"a": "1"}), ("b", "2")],
    ],
)
async def test_where_fields_come_from(fields: Any) -> None:
    assert await sent(FormData(fields)) == b"a=1&b=2"


@pytest.mark.parametrize("charset", ["utf-8", "latin-1"])
def test_what_is_urlencoded_is_what_urllib_makes_of_it(charset: str) -> None:
    """Of any text, and of values that are no text."""
    chance = random.Random(5)
    letters = [chr(number) for number in range(32, 256) if chr(number).isprintable()]

    def text() -> str:
        return "".join(chance.choices(letters, k=chance.randrange(4)))

    def value() -> Any:
        return chance.choice([text(), text(), chance.randrange(99), [text(), text()], (), 1.5, None])

    for _ in range(500):
        pairs = [(text(), value()) for _ in range(chance.randrange(5))]
        expected = urlencode(pairs, doseq=True, encoding=charset).encode()
        assert FormData(pairs, charset=charset)()._value == expected, pairs


async def test_numbers_and_lists_are_urlencoded() -> None:
    assert await sent(FormData({"number": 1, "list": ["a", "b"]})) == b"number=1&list=a&list=b"


async def test_a_multipart_form(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_bytes(b"<html>")
    form = FormData(FIELDS)
    form.add_field("bytes", io.BytesIO(b"\0"))
    form.add_field("named", "text", filename="a b.txt", content_type="text/csv")
    with (tmp_path / "page.html").open("rb") as page, (tmp_path / "page.html").open() as text:
        form.add_field("page", page)
        form.add_fields(text)
        assert await parts(form) == [
            *[(name, None, "text/plain; charset=utf-8", value.encode()) for name, value in FIELDS],
            ("bytes", "bytes", "application/octet-stream", b"\0"),
            ("named", "a%20b.txt", "text/csv", b"text"),
            ("page", "page.html", "text/html", b"<html>"),
            ("page.html", "page.html", "text/plain; charset=utf-8", b"<html>"),
        ]
    assert form().content_type.startswith("multipart/form-data; boundary=")


@pytest.mark.parametrize(
    "options",
    [
        {"value": "text", "filename": "name"},
        {"value": "text", "content_type": "text/plain"},
        {"value": io.BytesIO(b"text")},
        {"value": b"text", "filename": "name"},
    ],
)
def test_what_makes_a_form_multipart(options: dict[str, Any]) -> None:
    form = FormData()
    form.add_field("field", **options)
    assert form.is_multipart
    assert FormData(default_to_multipart=True).is_multipart


async def test_names_in_ascii_or_as_they_are() -> None:
    for quote_fields, expected in ((True, b"name*=utf-8''%C3%A4"), (False, 'name="ä"'.encode())):
        form = FormData({"ä": "1"}, quote_fields=quote_fields, default_to_multipart=True)
        assert b"Content-Disposition: form-data; " + expected in await sent(form)
        assert [name for name, *_ in await parts(form)] == ["ä"]


async def test_text_of_a_multipart_form_is_in_its_charset() -> None:
    form = FormData({"field": "Märchen"}, charset="latin-1", default_to_multipart=True)
    assert await parts(form) == [("field", None, "text/plain; charset=latin-1", "Märchen".encode("latin-1"))]


async def test_a_form_can_be_sent_again_and_extended() -> None:
    form = FormData({"field": "text"})
    file = io.BytesIO(b"skipped, sent")
    file.seek(9)
    form.add_field("file", file)
    first = await sent(form)
    assert first == await sent(form)
    assert b"\r\nsent\r\n" in first
    form.add_field("more", "later")
    assert [name for name, *_ in await parts(form)] == ["field", "file", "more"]


async def test_bytes_are_files_still_and_warn() -> None:
    form = FormData()
    with pytest.deprecated_call(match="file field"):
        form.add_field("data", b"bytes")
    assert await parts(form) == [("data", "data", "application/octet-stream", b"bytes")]
    with pytest.deprecated_call(match="content_transfer_encoding"):
        form.add_field("data", b"bytes", content_transfer_encoding="base64")


async def test_a_payload_as_a_field() -> None:
    form = FormData(default_to_multipart=True)
    form.add_field("data", BytesPayload(b"bytes", content_type="image/gif"))
    assert await parts(form) == [("data", None, "image/gif", b"bytes")]


@pytest.mark.parametrize("fields", ["text", "as", [1], [("a", "b", "c")], 5])
def test_what_is_no_form(fields: Any) -> None:
    with pytest.raises(TypeError, match="add_field"):
        FormData(fields)


@pytest.mark.parametrize("parameter", ["filename", "content_type", "content_transfer_encoding"])
def test_parameters_have_to_be_text(parameter: str) -> None:
    for value in (0, 0.5, {}, [], b"bytes"):
        with pytest.raises(TypeError, match=f"{parameter} must be an instance of str"):
            FormData().add_field("field", "text", **{parameter: value})


@pytest.mark.parametrize("parameter", ["name", "filename", "content_type"])
@pytest.mark.parametrize("text", ["a\r\nX: b", "\n", "a\0"])
def test_parameters_cannot_inject_fields(parameter: str, text: str) -> None:
    arguments: dict[str, Any] = {"name": "field", "value": "text", parameter: text}
    with pytest.raises(ValueError, match="header injection"):
        FormData().add_field(**arguments)


def test_values_that_cannot_be_sent() -> None:
    form = FormData(default_to_multipart=True)
    form.add_field("field", object())
    with pytest.raises(TypeError, match="Can not serialize value type: <class 'object'>"):
        form()


def test_forms_of_another_library() -> None:
    aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    assert is_form(FormData())
    assert is_form(aiohttp.FormData())
    assert not is_form({"a": 1})
    assert not is_form(BytesPayload(b""))
