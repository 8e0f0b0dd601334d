"""Forms: as ``application/x-www-form-urlencoded``, or with files as ``multipart/form-data`` (RFC 7578)."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Iterable
from typing import Any, TypeGuard
from urllib.parse import quote_plus, urlencode

from multidict import MultiDict, MultiDictProxy

from .. import hdrs
from ..lazy import lazy_pattern
from .files import guess_filename
from .multipart_writer import MultipartWriter
from .payload import BytesPayload, get_payload
from .payload_base import Payload, safe_header

__all__ = ["FormData", "is_form"]


def is_form(data: object) -> TypeGuard[FormData]:
    """Whether ``data`` is a form: one of ours, or one of aiohttp's own, which is as good."""
    return isinstance(data, FormData) or (
        callable(data) and all(hasattr(data, name) for name in ("is_multipart", "add_field"))
    )


# What stands for itself in application/x-www-form-urlencoded, as urllib writes it.
_UNRESERVED = lazy_pattern(r"[A-Za-z0-9_.~-]*+")


def _urlencoded(name: str, value: object, charset: str) -> str:
    """``name=value``; several of a value that is a sequence, as many as there are in it."""
    if not isinstance(value, str):
        return urlencode([(name, value)], doseq=True, encoding=charset)
    if not _UNRESERVED.fullmatch(name):
        name = quote_plus(name, encoding=charset)
    if not _UNRESERVED.fullmatch(value):
        value = quote_plus(value, encoding=charset)
    return f"{name}={value}"


class FormData:
    """A form: names and values, of which some may be files. Calling it gives the body.

    ``fields`` is a mapping, or a sequence of pairs, of files and of multidicts. ``charset`` is the encoding
    of text, UTF-8 by default. With ``quote_fields`` names are sent in ASCII. The form is multipart if a field
    needs that, or ``default_to_multipart`` is true.
    """

    def __init__(
        self,
        fields: Iterable[Any] = (),
        quote_fields: bool = True,
        charset: str | None = None,
        *,
        default_to_multipart: bool = False,
    ) -> None:
        # The parameters of the Content-Disposition, the other fields, and the value.
        self._fields: list[tuple[MultiDict[str], dict[str, str], Any]] = []
        self._is_multipart = default_to_multipart
        self._quote_fields = quote_fields
        self._charset = charset
        if isinstance(fields, dict):
            fields = fields.items()
        elif not isinstance(fields, (list, tuple)):
            fields = (fields,)
        self.add_fields(*fields)

    @functools.cached_property
    def _writer(self) -> MultipartWriter:
        return MultipartWriter("form-data")

    @property
    def is_multipart(self) -> bool:
        """Whether the form is sent as ``multipart/form-data``."""
        return self._is_multipart

    def add_field(
        self,
        name: str,
        value: Any,
        *,
        content_type: str | None = None,
        filename: str | None = None,
        content_transfer_encoding: str | None = None,
    ) -> None:
        """Adds a field. A file as the value, a ``content_type`` or a ``filename`` make the form multipart.

        Bytes become a file named like the field, and ``content_transfer_encoding`` makes the form multipart
        and does nothing more: both are deprecated, as in aiohttp.

        Raises :exc:`TypeError` if one of the others is no text, and :exc:`ValueError` if one has control
        characters.
        """
        # Text first: to find that it is no file costs more than all the rest.
        is_file = not isinstance(value, str) and isinstance(value, io.IOBase)
        if is_file:
            self._is_multipart = True
        elif (
            isinstance(value, (bytes, bytearray, memoryview))
            and filename is None
            and content_transfer_encoding is None
        ):
            warnings.warn(
                "In v4, passing bytes will no longer create a file field. Please explicitly use the filename"
                " parameter or pass a BytesIO object.",
                DeprecationWarning,
                stacklevel=2,
            )
            filename = name
        for parameter, text in (
            ()
            if filename is content_type is content_transfer_encoding is None
            else (
                ("filename", filename),
                ("content_type", content_type),
                ("content_transfer_encoding", content_transfer_encoding),
            )
        ):
            if text is None:
                continue
            if not isinstance(text, str):
                raise TypeError(f"{parameter} must be an instance of str. Got: {text!r}")
            safe_header(text)
            self._is_multipart = True
        if content_transfer_encoding is not None:
            warnings.warn(
                "content_transfer_encoding is deprecated. To maintain compatibility with v4 please pass a"
                " BytesPayload.",
                DeprecationWarning,
                stacklevel=2,
            )
        parameters = MultiDict({"name": safe_header(name)})
        if filename is None and is_file:
            filename = guess_filename(value, name)
        if filename is not None:
            parameters["filename"] = safe_header(filename)
        headers = {} if content_type is None else {str(hdrs.CONTENT_TYPE): content_type}
        self._fields.append((parameters, headers, value))

    def add_fields(self, *fields: Any) -> None:
        """Adds pairs of a name and a value, files by their own name, and the pairs of multidicts.

        Raises :exc:`TypeError` for anything else.
        """
        for field in fields:
            if isinstance(field, (list, tuple)) and len(field) == 2:
                self.add_field(*field)
            elif isinstance(field, io.IOBase):
                self.add_field(guess_filename(field, "unknown") or "unknown", field)
            elif isinstance(field, (MultiDict, MultiDictProxy)):
                self.add_fields(*field.items())
            else:
                raise TypeError(
                    "Only io.IOBase, multidict and (name, file) pairs allowed, use .add_field() for passing"
                    f" more complex parameters, got {field!r}"
                )

    def __call__(self) -> Payload:
        """Returns the body of a request with the form. It is called once for each time the form is sent.

        Raises :exc:`TypeError` if a value has a type for which there is no payload.
        """
        return self._gen_form_data() if self._is_multipart else self._gen_form_urlencoded()

    def _gen_form_urlencoded(self) -> BytesPayload:
        charset = self._charset or "utf-8"
        content_type = "application/x-www-form-urlencoded"
        if charset != "utf-8":
            content_type += f"; charset={charset}"
        pairs = [_urlencoded(parameters["name"], value, charset) for parameters, _, value in self._fields]
        return BytesPayload("&".join(filter(None, pairs)).encode(), content_type=content_type)

    def _gen_form_data(self) -> MultipartWriter:
        """The fields become parts once, so that files are sent again from where they stood at first."""
        for parameters, headers, value in self._fields:
            options: dict[str, Any] = {"headers": headers, "encoding": self._charset}
            if hdrs.CONTENT_TYPE in headers:
                options["content_type"] = headers[hdrs.CONTENT_TYPE]
            try:
                part = get_payload(value, **options)
            except Exception as error:
                raise TypeError(
                    f"Can not serialize value type: {type(value)!r}\n headers: {headers!r}\n value: {value!r}"
                ) from error
            part.set_content_disposition("form-data", quote_fields=self._quote_fields, **parameters)
            # Servers find the end of a part by the boundary.
            part.headers.popall(hdrs.CONTENT_LENGTH, None)
            self._writer.append_payload(part)
        self._fields.clear()
        return self._writer
