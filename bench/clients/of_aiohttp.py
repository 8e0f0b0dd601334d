"""aiohttp, or whorl.http, which has its API."""

import importlib
import json
from pathlib import Path
from typing import Any

from bench.clients import PIECE, UPLOAD, raise_for_body, raise_for_length, trusting
from bench.workloads import DOCUMENT


class AiohttpClient:
    """aiohttp, or whorl.http, which has its API."""

    def __init__(self, module: str, authority: Path | None, feature: str = "") -> None:
        self._http: Any = importlib.import_module(module)
        self._ssl = True if authority is None else trusting(authority)
        connector = self._http.TCPConnector(limit=0, ssl=self._ssl)
        self._session = self._http.ClientSession(connector=connector, **_options(self._http, feature))

    async def get(self, url: str, times: int, size: int) -> None:
        session = self._session
        for _ in range(times):
            async with session.get(url) as response:
                body = await response.read()
                if response.status != 200 or len(body) != size:
                    raise_for_length(url, response.status, len(body), size)

    async def stream(self, url: str, times: int, size: int) -> None:
        session = self._session
        for _ in range(times):
            async with session.get(url) as response:
                length = 0
                async for piece in response.content.iter_chunked(PIECE):
                    length += len(piece)
                if response.status != 200 or length != size:
                    raise_for_length(url, response.status, length, size)

    async def post_json(self, url: str, times: int, document: dict[str, Any]) -> None:
        session = self._session
        for _ in range(times):
            async with session.post(url, json=document) as response:
                received = await response.json()
                if response.status != 200 or received != document:
                    raise_for_body(url, response.status, received)

    async def pages(self, url: str, times: int, size: int) -> None:
        http, ssl = self._http, self._ssl
        for _ in range(times):
            async with http.ClientSession() as session, session.get(url, ssl=ssl) as response:
                text = await response.text()
                if response.status != 200 or len(text) != size:
                    raise_for_length(url, response.status, len(text), size)

    async def post_without_json(self, url: str, times: int, document: dict[str, Any], text: str) -> None:
        session, loads = self._session, _same
        for _ in range(times):
            async with session.post(url, json=document) as response:
                received = await response.json(loads=loads)
                if response.status != 200 or received != text:
                    raise_for_body(url, response.status, received)

    async def post_bytes(self, url: str, times: int, body: bytes) -> None:
        session, headers = self._session, {"Content-Type": "application/json"}
        for _ in range(times):
            async with session.post(url, data=body, headers=headers) as response:
                received = await response.read()
                if response.status != 200 or received != body:
                    raise_for_body(url, response.status, received)

    async def post_form(self, url: str, times: int, fields: dict[str, str], size: int) -> None:
        session = self._session
        for _ in range(times):
            async with session.post(url, data=fields) as response:
                received = await response.read()
                if response.status != 200 or int(received) != size:
                    raise_for_body(url, response.status, received)

    async def post_multipart(self, url: str, times: int, file: Path, size: int) -> None:
        session, form_of = self._session, self._http.FormData
        for _ in range(times):
            form = form_of()
            form.add_field("file", file.open("rb"), filename=UPLOAD)
            async with session.post(url, data=form) as response:
                received = await response.read()
                if response.status != 200 or int(received) < size:
                    raise_for_body(url, response.status, received)

    async def close(self) -> None:
        await self._session.close()


def _same(text: str) -> str:
    return text


def _options(http: Any, feature: str) -> dict[str, Any]:
    """The options by which a session has the feature."""
    match feature:
        case "middleware":

            async def middleware(request: Any, handler: Any) -> Any:
                return await handler(request)

            return {"middlewares": (middleware,)}
        case "trace":

            async def observe(session: Any, context: Any, parameters: Any) -> None:
                pass

            trace = http.TraceConfig()
            # What instrumentation connects to.
            for signal in (trace.on_request_start, trace.on_request_end, trace.on_request_exception):
                signal.append(observe)
            return {"trace_configs": [trace]}
        case "trust_env":
            return {"trust_env": True}
        case "skip_auto_headers":
            return {"skip_auto_headers": ("User-Agent",)}
        case "without_json":
            text = json.dumps(DOCUMENT)
            return {"json_serialize": lambda document: text}
        case "" | "redirects":
            return {}
        case _:
            raise LookupError(f"no feature is called {feature!r}")
