"""wreq."""

import importlib
from pathlib import Path
from typing import Any

from bench.clients import UPLOAD, raise_for_body, raise_for_length


class WreqClient:
    """wreq, imitating no browser. Its pieces are as they come."""

    def __init__(self, authority: Path | None, feature: str = "") -> None:
        self._wreq: Any = importlib.import_module("wreq")
        self._trusted = True if authority is None else authority
        options: dict[str, Any] = {}
        if feature == "redirects":
            options["redirect"] = importlib.import_module("wreq.redirect").Policy.limited()
        self._client = self._wreq.Client(gzip=True, tls_verify=self._trusted, **options)

    async def get(self, url: str, times: int, size: int) -> None:
        client = self._client
        for _ in range(times):
            response = await client.get(url)
            body = await response.bytes()
            if response.status.as_int() != 200 or len(body) != size:
                raise_for_length(url, response.status.as_int(), len(body), size)

    async def stream(self, url: str, times: int, size: int) -> None:
        client = self._client
        for _ in range(times):
            async with client.get(url) as response:
                length = 0
                async with response.stream() as pieces:
                    async for piece in pieces:
                        length += len(piece)
                if response.status.as_int() != 200 or length != size:
                    raise_for_length(url, response.status.as_int(), length, size)

    async def post_json(self, url: str, times: int, document: dict[str, Any]) -> None:
        client = self._client
        for _ in range(times):
            response = await client.post(url, json=document)
            received = await response.json()
            if response.status.as_int() != 200 or received != document:
                raise_for_body(url, response.status.as_int(), received)

    async def pages(self, url: str, times: int, size: int) -> None:
        wreq, trusted = self._wreq, self._trusted
        for _ in range(times):
            async with wreq.Client(tls_verify=trusted) as client:
                response = await client.get(url)
                text = await response.text()
                if response.status.as_int() != 200 or len(text) != size:
                    raise_for_length(url, response.status.as_int(), len(text), size)

    async def post_bytes(self, url: str, times: int, body: bytes) -> None:
        client, headers = self._client, {"Content-Type": "application/json"}
        for _ in range(times):
            response = await client.post(url, body=body, headers=headers)
            received = await response.bytes()
            if response.status.as_int() != 200 or received != body:
                raise_for_body(url, response.status.as_int(), received)

    async def post_form(self, url: str, times: int, fields: dict[str, str], size: int) -> None:
        client = self._client
        for _ in range(times):
            response = await client.post(url, form=fields)
            received = await response.text()
            if response.status.as_int() != 200 or int(received) != size:
                raise_for_body(url, response.status.as_int(), received)

    async def post_multipart(self, url: str, times: int, file: Path, size: int) -> None:
        client, wreq = self._client, self._wreq
        for _ in range(times):
            form = wreq.Multipart(wreq.Part("file", file, filename=UPLOAD))
            response = await client.post(url, multipart=form)
            received = await response.text()
            if response.status.as_int() != 200 or int(received) < size:
                raise_for_body(url, response.status.as_int(), received)

    async def close(self) -> None:
        self._client.close()
