"""Forms. The names of ``aiohttp.formdata`` that whorl.http has."""

from __future__ import annotations

from multidict import MultiDict, MultiDictProxy

from whorl.http import hdrs
from whorl.http.body.files import guess_filename
from whorl.http.body.formdata import FormData
from whorl.http.body.payload_base import Payload

__all__ = [
    "FormData",
    "MultiDict",
    "MultiDictProxy",
    "Payload",
    "guess_filename",
    "hdrs",
]
