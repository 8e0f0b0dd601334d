"""httpx."""

import importlib
from pathlib import Path
from typing import Any

from bench.clients import PIECE, SECONDS, UPLOAD, raise_for_body, raise_for_length, trusting


class HttpxClient:
    """httpx, HTTP/1.1, with no limit on connections."""

    def __init__(self, authority: Path | None, feature: str = "") -> None:
        self._httpx: Any = importlib.import_module("httpx")
        self._trusted = True if authority is None else trusting(authority)
        limits = self._httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._client = self._httpx.AsyncClient(
            limits=limits, verify=self._trusted, timeout=SECONDS, follow_redirects=feature == "redirects"
        )

    async def get(self, url: str, times: int, size: int) -> None:
        client = self._client
        for _ in range(times):
            response = await client.get(url)
            if response.status_code != 200 or len(response.content) != size:
                raise_for_length(url, response.status_code, len(response.content), size)

    async def stream(self, url: str, times: int, size: int) -> None:
        client = self._client
        for _ in range(times):
            async with client.stream("GET", url) as response:
                length = 0
                async for piece in response.aiter_bytes(PIECE):
                    length += len(piece)
                if response.status_code != 200 or length != size:
                    raise_for_length(url, response.status_code, length, size)

    async def post_json(self, url: str, times: int, document: dict[str, Any]) -> None:
        client = self._client
        for _ in range(times):
            response = await client.post(url, json=document)
            received = response.json()
            if response.status_code != 200 or received != document:
                raise_for_body(url, response.status_code, received)

    async def pages(self, url: str, times: int, size: int) -> None:
        httpx, trusted = self._httpx, self._trusted
        for _ in range(times):
            async with httpx.AsyncClient(verify=trusted, timeout=SECONDS) as client:
                response = await client.get(url)
                text = response.text
                if response.status_code != 200 or len(text) != size:
                    raise_for_length(url, response.status_code, len(text), size)

    async def post_bytes(self, url: str, times: int, body: bytes) -> None:
        client, headers = self._client, {"Content-Type": "application/json"}
        for _ in range(times):
            response = await client.post(url, content=body, headers=headers)
            if response.status_code != 200 or response.content != body:
                raise_for_body(url, response.status_code, response.content)

    async def post_form(self, url: str, times: int, fields: dict[str, str], size: int) -> None:
        client = self._client
        for _ in range(times):
            response = await client.post(url, data=fields)
            if response.status_code != 200 or int(response.content) != size:
                raise_for_body(url, response.status_code, response.content)

    async def post_multipart(self, url: str, times: int, file: Path, size: int) -> None:
        client = self._client
        for _ in range(times):
            with file.open("rb") as opened:
                response = await client.post(url, files={"file": (UPLOAD, opened)})
            if response.status_code != 200 or int(response.content) < size:
                raise_for_body(url, response.status_code, response.content)

    async def close(self) -> None:
        await self._client.aclose()
