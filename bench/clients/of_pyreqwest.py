"""pyreqwest."""

import importlib
from pathlib import Path
from typing import Any

from bench.clients import PIECE, raise_for_body, raise_for_length


class PyreqwestClient:
    """pyreqwest, on the runtime of one thread that is its default."""

    def __init__(self, authority: Path | None, feature: str = "") -> None:
        self._builder: Any = importlib.import_module("pyreqwest.client").ClientBuilder
        self._form: Any = importlib.import_module("pyreqwest.multipart").FormBuilder
        self._authority = None if authority is None else authority.read_bytes()
        builder = self._configured()
        if feature == "middleware":

            async def middleware(request: Any, following: Any) -> Any:
                return await following.run(request)

            builder = builder.with_middleware(middleware)
        self._client = builder.build()

    def _configured(self) -> Any:
        if self._authority is None:
            return self._builder()
        return self._builder().add_root_certificate_pem(self._authority)

    async def get(self, url: str, times: int, size: int) -> None:
        client = self._client
        for _ in range(times):
            response = await client.get(url).build().send()
            body = await response.bytes()
            if response.status != 200 or len(body) != size:
                raise_for_length(url, response.status, len(body), size)

    async def stream(self, url: str, times: int, size: int) -> None:
        client = self._client
        for _ in range(times):
            async with client.get(url).build_streamed() as response:
                length, reader = 0, response.body_reader
                while piece := await reader.read(PIECE):
                    length += len(piece)
                if response.status != 200 or length != size:
                    raise_for_length(url, response.status, length, size)

    async def post_json(self, url: str, times: int, document: dict[str, Any]) -> None:
        client = self._client
        for _ in range(times):
            response = await client.post(url).body_json(document).build().send()
            received = await response.json()
            if response.status != 200 or received != document:
                raise_for_body(url, response.status, received)

    async def pages(self, url: str, times: int, size: int) -> None:
        configured = self._configured
        for _ in range(times):
            async with configured().build() as client:
                response = await client.get(url).build().send()
                text = await response.text()
                if response.status != 200 or len(text) != size:
                    raise_for_length(url, response.status, len(text), size)

    async def post_bytes(self, url: str, times: int, body: bytes) -> None:
        client = self._client
        for _ in range(times):
            request = client.post(url).header("Content-Type", "application/json").body_bytes(body)
            response = await request.build().send()
            received = await response.bytes()
            if response.status != 200 or received != body:
                raise_for_body(url, response.status, received)

    async def post_form(self, url: str, times: int, fields: dict[str, str], size: int) -> None:
        client = self._client
        for _ in range(times):
            response = await client.post(url).form(fields).build().send()
            received = await response.text()
            if response.status != 200 or int(received) != size:
                raise_for_body(url, response.status, received)

    async def post_multipart(self, url: str, times: int, file: Path, size: int) -> None:
        client, form_of = self._client, self._form
        for _ in range(times):
            form = await form_of().file("file", file)
            response = await client.post(url).multipart(form).build().send()
            received = await response.text()
            if response.status != 200 or int(received) < size:
                raise_for_body(url, response.status, received)

    async def close(self) -> None:
        await self._client.close()
