"""The result of a request: to be awaited, or entered with ``async with``."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from whorl import _core

if TYPE_CHECKING:
    from .response import ClientResponse
    from .session import ClientSession
    from .websocket.client import ClientWebSocketResponse

__all__: list[str] = []

_T = TypeVar("_T", bound="ClientResponse | ClientWebSocketResponse[Any]")


class _BaseRequestContextManager(Coroutine[Any, Any, _T], Generic[_T]):
    __slots__ = ("_coro", "_resp")

    def __init__(self, coro: Coroutine[Any, Any, _T]) -> None:
        self._coro = coro

    def send(self, arg: None) -> Any:
        return self._coro.send(arg)

    def throw(self, *args: Any, **kwargs: Any) -> Any:
        return self._coro.throw(*args, **kwargs)

    def close(self) -> None:
        self._coro.close()

    def __await__(self) -> Generator[Any, None, _T]:
        return self._coro.__await__()

    def __iter__(self) -> Generator[Any, None, _T]:
        return self.__await__()

    async def __aenter__(self) -> _T:
        self._resp: _T = await self._coro
        return await self._resp.__aenter__()  # type: ignore[return-value]

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        exc_traceback: TracebackType | None,
    ) -> None:
        await self._resp.__aexit__(exc_type, exc_value, exc_traceback)


class _RequestContextManager(_BaseRequestContextManager["ClientResponse"]):
    """The result of a request: to be awaited, or entered with ``async with``. That of a session's own is
    native, and an instance of this class to ``isinstance()`` and type checkers."""

    __slots__ = ()


_RequestContextManager.register(_core._RequestContextManager)


class _WSRequestContextManager(_BaseRequestContextManager["ClientWebSocketResponse[Any]"]):
    __slots__ = ()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        exc_traceback: TracebackType | None,
    ) -> None:
        await self._resp.close()


class _SessionRequestContextManager:
    """A request with a session of its own, which is closed with the response; to be entered only."""

    __slots__ = ("_coro", "_resp", "_session")

    def __init__(self, coro: Coroutine[Any, Any, ClientResponse], session: ClientSession) -> None:
        self._coro = coro
        self._session = session

    async def __aenter__(self) -> ClientResponse:
        try:
            self._resp = await self._coro
        except BaseException:
            await self._session.close()
            raise
        if isinstance(self._resp, _core.ResponseBase):
            self._resp._in_context = True
        return self._resp

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        exc_traceback: TracebackType | None,
    ) -> None:
        self._resp.close()
        await self._session.close()
