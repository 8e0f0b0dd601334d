"""The Content-Disposition field: what is written can be read, and what others write too."""

from __future__ import annotations

import pytest

from whorl.http.body.content_disposition import (
    BadContentDispositionHeader,
    BadContentDispositionParam,
    content_disposition_filename,
    content_disposition_header,
    parse_content_disposition,
)

NAMES = [
    "plain",
    "with space",
    'with "quotes"',
    "semi;colon",
    "back\\slash",
    "Märchen",
    "日本",
    "50%",
    "a=b",
    "",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("quote_fields", [True, False])
def test_what_is_written_can_be_read(name: str, quote_fields: bool) -> None:
    header = content_disposition_header("form-data", quote_fields=quote_fields, name=name, other="x")
    kind, params = parse_content_disposition(header)
    assert kind == "form-data"
    assert content_disposition_filename(params, "name") == name
    assert params["other"] == "x"
    if quote_fields:
        assert header.isascii()


def test_names_of_files_are_percent_encoded() -> None:
    assert content_disposition_header("form-data", filename="ä b") == 'form-data; filename="%C3%A4%20b"'
    header = content_disposition_header("form-data", _charset="latin-1", filename="ä", name="ä")
    assert header == "form-data; filename=\"%E4\"; name*=latin-1''%E4"


@pytest.mark.parametrize("kind", ["", "two words", "ä", "nul\0"])
def test_what_cannot_be_written(kind: str) -> None:
    with pytest.raises(ValueError, match="disposition type"):
        content_disposition_header(kind)
    with pytest.raises(ValueError, match="disposition parameter"):
        content_disposition_header("inline", **{kind: "value"})


@pytest.mark.parametrize(
    ("header", "filename"),
    [
        ("ATTACHMENT; FileName=a.txt", "a.txt"),
        ('attachment; filename="a.txt" ; name=x', "a.txt"),
        ('attachment; filename = "a.txt"', "a.txt"),
        ('attachment; filename="a;b.txt"; name="x"', "a;b.txt"),
        ('attachment; filename="a\\"; b.txt"; name="x"', 'a"; b.txt'),
        # As browsers have sent them: quotes and backslashes that should have been escaped.
        ('attachment; filename="a"b".txt"', 'a"b".txt'),
        ('attachment; filename="C:\\dir\\"; name="x"', "C:dir\\"),
        ('attachment; filename="/etc/passwd"', "etc/passwd"),
        ("attachment; filename=old.txt; filename*=utf-8''new%20%C3%A4.txt", "new ä.txt"),
        ("attachment; filename*=iso-8859-1'de'%E4", "ä"),
        ("attachment; filename*=''%C3%A4", "ä"),
        ("attachment; filename*0=a; filename*1=b; filename*3=d", "ab"),
        ("attachment; filename*0*=utf-8''%C3%A4; filename*1=\"'s\"; filename*2*=%C3%B6", "ä'sö"),
        ("attachment; " + "; ".join(f"filename*{n}={n}" for n in range(12)), "01234567891011"),
        ('attachment; filename*0="it\'s"', "it's"),
        ("attachment; filename*0*=none''%C3%A4", None),
        ("attachment; filename*0*=utf-8''%FF", None),
        ("attachment; filename*1=b", None),
    ],
)
def test_names_that_others_write(header: str, filename: str | None) -> None:
    kind, params = parse_content_disposition(header)
    assert kind == "attachment"
    assert content_disposition_filename(params) == filename


@pytest.mark.parametrize(
    "header",
    [
        '"inline"',
        "; filename=a",
        "two words; filename=a",
        "attachment; filename",
        "attachment; filename=",
        "attachment; filename=two words",
        'attachment; filename="a',
        'attachment; filename="a"b',
        "attachment; filename=a; filename=b",
        "attachment; filename=a ;",
    ],
)
def test_fields_that_cannot_be_read(header: str) -> None:
    with pytest.warns(BadContentDispositionHeader):
        assert parse_content_disposition(header) == (None, {})


@pytest.mark.parametrize(
    "parameter",
    [
        "file name=a",
        "filename*=a",
        "filename*=\"utf-8''a\"",
        "filename*=none''%C3",
        "filename*=utf-8''%FF",
        "a*0=b c",
    ],
)
def test_parameters_that_cannot_be_read_are_left_out(parameter: str) -> None:
    with pytest.warns(BadContentDispositionParam):
        assert parse_content_disposition(f"inline; {parameter}; name=x") == ("inline", {"name": "x"})


def test_a_semicolon_too_many() -> None:
    with pytest.warns(BadContentDispositionHeader):
        assert parse_content_disposition("inline;; name=x;") == ("inline", {"name": "x"})


@pytest.mark.parametrize("header", [None, ""])
def test_no_field(header: str | None) -> None:
    assert parse_content_disposition(header) == (None, {})


def test_long_fields_are_read_in_linear_time() -> None:
    # Each of these takes minutes in quadratic time.
    for header in (
        'a; b="' + '"  ' * 200_000 + "x",
        "a;" + ' b="\\' * 200_000,
        "a; b=" + '"' * 400_000 + "x",
    ):
        with pytest.warns(BadContentDispositionHeader):
            assert parse_content_disposition(header) == (None, {})
