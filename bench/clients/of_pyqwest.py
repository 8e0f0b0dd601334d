"""pyqwest."""

import importlib
from pathlib import Path
from typing import Any

from bench.clients import raise_for_body, raise_for_length


class PyqwestClient:
    """pyqwest, whose pool keeps two connections unless a number is given. Its pieces are as they come."""

    def __init__(self, connections: int, authority: Path | None) -> None:
        self._pyqwest: Any = importlib.import_module("pyqwest")
        self._trusted = None if authority is None else authority.read_bytes()
        self._transport = self._pyqwest.HTTPTransport(
            tls_ca_cert=self._trusted, pool_max_idle_per_host=connections
        )
        self._client = self._pyqwest.Client(self._transport)

    async def get(self, url: str, times: int, size: int) -> None:
        client = self._client
        for _ in range(times):
            response = await client.get(url)
            if response.status != 200 or len(response.content) != size:
                raise_for_length(url, response.status, len(response.content), size)

    async def stream(self, url: str, times: int, size: int) -> None:
        client = self._client
        for _ in range(times):
            async with client.stream("GET", url) as response:
                length = 0
                async for piece in response.content:
                    length += len(piece)
                if response.status != 200 or length != size:
                    raise_for_length(url, response.status, length, size)

    async def post_json(self, url: str, times: int, document: dict[str, Any]) -> None:
        client = self._client
        for _ in range(times):
            response = await client.post(url, content=document)
            received = response.json()
            if response.status != 200 or received != document:
                raise_for_body(url, response.status, received)

    async def pages(self, url: str, times: int, size: int) -> None:
        pyqwest, trusted = self._pyqwest, self._trusted
        for _ in range(times):
            async with pyqwest.HTTPTransport(tls_ca_cert=trusted) as transport:
                response = await pyqwest.Client(transport).get(url)
                text = response.text()
                if response.status != 200 or len(text) != size:
                    raise_for_length(url, response.status, len(text), size)

    async def post_bytes(self, url: str, times: int, body: bytes) -> None:
        client, headers = self._client, {"Content-Type": "application/json"}
        for _ in range(times):
            response = await client.post(url, headers, body)
            if response.status != 200 or response.content != body:
                raise_for_body(url, response.status, response.content)

    async def close(self) -> None:
        await self._transport.aclose()
