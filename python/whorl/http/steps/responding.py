"""The response of a request, or the error for there being none; and where a redirect leads."""

from __future__ import annotations

import asyncio
import sys
import traceback
from typing import TYPE_CHECKING, Final

from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from whorl import _core

from .. import hdrs, redirects
from ..client_request import ClientRequest
from ..connect.acquired import Connection
from ..exceptions import (
    ClientConnectorCertificateError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ClientOSError,
    ClientResponseError,
    ConnectionTimeoutError,
    ServerDisconnectedError,
    TooManyRedirects,
)
from ..http_exceptions import HttpProcessingError
from ..response import ClientResponse, sent_request_info
from ..timeouts import is_timeout

if TYPE_CHECKING:
    from ..session import ClientSession


async def start(response: ClientResponse, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
    """Await the head of a response, by its class."""
    try:
        await response.start(connection)
    except BaseException:
        # The collector closes a coroutine on any thread.
        _core.finish_on(loop, response.close)
        raise


def note_origin(response: ClientResponse) -> None:
    """In debug mode: where the response was made."""
    response._source_traceback = traceback.extract_stack(sys._getframe(1))


def response_error(error: BaseException, method: str, url: URL, head: bytes) -> BaseException:
    """The error of a request whose response's head will not come."""
    if not isinstance(error, HttpProcessingError):
        return error
    failed = ClientResponseError(
        sent_request_info(method, url, head),
        (),
        status=error.code,
        message=error.message,
        headers=None if error.headers is None else CIMultiDictProxy(CIMultiDict(error.headers)),
    )
    failed.__cause__ = error
    return failed


_CANNOT_CONNECT: Final = (
    ConnectionTimeoutError,
    ClientConnectorError,
    ClientConnectorCertificateError,
    ClientConnectorSSLError,
)


def failure(session: ClientSession, error: BaseException) -> tuple[BaseException, bool]:
    """The error that a failed request is raised for, and whether its connection was lost, so that the request
    may be sent again (RFC 9112, section 9.3.1)."""
    if isinstance(error, _CANNOT_CONNECT):
        return error, False
    if isinstance(error, ClientOSError | ServerDisconnectedError):
        return error, session._retry_connection and not session.closed
    if isinstance(error, OSError) and not is_timeout(error):
        failed = ClientOSError(*error.args)
        failed.__cause__ = error
        return failed, False
    return error, False


async def close_before_retry(request: ClientRequest, error: BaseException) -> None:
    """Wait until the task that writes a failed request's body is over.

    :raises BaseException: ``error``, if the body has been read off its source
    """
    await request.close()
    body = request._body
    if body is not None and body.consumed:
        raise error


def answer_of(response: ClientResponse) -> tuple[int, str | None, bool]:
    """Status and redirect of a response that was not received by a request of the session, and whether it
    sets cookies."""
    location = None
    if response.status // 100 == 3:
        location = response.headers.get(hdrs.LOCATION) or response.headers.get(hdrs.URI)
    return response.status, location, hasattr(response, "_keep_cookies")


def redirect_target(session: ClientSession, base: URL, location: str) -> tuple[URL, bool]:
    """Where a redirect leads, and whether that is the same origin.

    :raises InvalidUrlRedirectClientError: for a Location that is no URL
    :raises NonHttpUrlRedirectClientError: for one of another scheme
    """
    url = redirects.target(location, base, requote=session._requote_redirect_url)
    return url, base.origin() == url.origin()


def too_many_redirects(history: tuple[ClientResponse, ...]) -> TooManyRedirects:
    """The error of a call that has followed too many."""
    return TooManyRedirects(history[0].request_info, history)


def release(response: ClientResponse) -> None:
    """Release a response that is not read."""
    _ = response.release()
