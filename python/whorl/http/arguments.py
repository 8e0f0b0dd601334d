"""Arguments of a wrong type: found before anything is sent, by errors that name the argument.

No error shows a value that may be a credential. Each function is given an argument as a caller wrote it.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from multidict import CIMultiDict, MultiDict, MultiDictProxy

if TYPE_CHECKING:
    from yarl import URL

    from .typedefs import LooseCookies, LooseHeaders, Query

__all__ = [
    "DEPRECATED",
    "check_cookies",
    "check_instance",
    "check_list",
    "check_loop",
    "check_method",
    "check_names",
    "check_seconds",
    "check_sizes",
    "deprecated",
    "header_fields",
    "params_error",
    "with_params",
]


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def check_instance(value: object, argument: str) -> None:
    """:raises TypeError: if the value of an argument is a class, as where its parentheses are missing"""
    if isinstance(value, type):
        raise TypeError(f"{argument} must be an object, not {_kind(value)}: {value.__name__}()")


def check_loop(loop: asyncio.AbstractEventLoop, subject: str = "this session") -> None:
    """Checks that ``loop`` is the one that runs.

    :raises RuntimeError: if it is another
    """
    if asyncio.get_running_loop() is loop:
        return
    if loop.is_closed():
        reason = "which is closed: make one in the coroutine that is run, for each asyncio.run()"
    else:
        reason = (
            "which is not this one: make one here, or use asyncio.run_coroutine_threadsafe(coroutine, loop)"
        )
    raise RuntimeError(f"{subject} belongs to another event loop, {reason}")


def check_list(value: object, argument: str, members: str) -> None:
    """:raises TypeError: if an argument is not a list or another sequence"""
    if not isinstance(value, list | tuple | Sequence):
        raise TypeError(f"{argument} must be a list of {members}, not {_kind(value)}")


def check_method(method: object) -> None:
    """:raises TypeError: if the method is no text"""
    if not isinstance(method, str):
        raise TypeError(f"method must be str, not {_kind(method)}")


def check_names(names: object, argument: str) -> None:
    """Checks an argument that takes several names.

    :raises TypeError: if it is one text, whose letters would be the names, or none of many
    """
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise TypeError(f"{argument} must be a list of names, not {_kind(names)}")


def check_seconds(of: str = "", **values: object) -> None:
    """Checks arguments that are lengths of time.

    :param of: what has them, if it is no argument itself
    :raises TypeError: if one is neither a number nor None
    :raises ValueError: if one is not a number (NaN), which compares with none and would be no limit
    """
    for name, value in values.items():
        if value is not None and not hasattr(value, "__float__"):
            raise TypeError(f"{name}{of} must be a number of seconds or None, not {value!r}")
        if value != value:
            raise ValueError(f"{name}{of} must be a number of seconds or None, not NaN")


def check_sizes(**sizes: object) -> None:
    """Checks arguments that are numbers of bytes or of fields.

    :raises TypeError: if one is no integer
    :raises ValueError: if one is negative
    """
    for name, value in sizes.items():
        if value is None:
            continue
        if not isinstance(value, int):
            raise TypeError(f"{name} must be an int, not {_kind(value)}")
        if value < 0:
            raise ValueError(f"{name} must not be negative: {value}")


def _pairs(value: object, argument: str) -> list[tuple[Any, Any]]:
    """The pairs of a mapping or an iterable of pairs."""
    if isinstance(value, Mapping | MultiDict | MultiDictProxy):
        return list(value.items())
    text = f"{argument} must be a mapping, or pairs of names and values, not {_kind(value)}"
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError(text)
    pairs: list[tuple[Any, Any]] = []
    for pair in value:
        if isinstance(pair, str | bytes) or not isinstance(pair, Iterable) or len(parts := tuple(pair)) != 2:
            raise TypeError(f"{text} of {_kind(pair)}")
        pairs.append(parts)
    return pairs


def header_fields(headers: LooseHeaders | None, argument: str = "headers") -> CIMultiDict[str]:
    """Returns the header fields that an argument has.

    :raises TypeError: if it is neither a mapping nor pairs, or a name or value is no text
    """
    fields: CIMultiDict[str] = CIMultiDict()
    if not headers:
        return fields
    for pair in _pairs(headers, argument):
        name, value = pair
        if not isinstance(name, str):
            raise TypeError(f"the name of a header field must be str, not {_kind(name)}")
        if not isinstance(value, str):
            raise TypeError(f"the value of the header field {name} must be str, not {_kind(value)}")
        fields.add(name, value)
    return fields


def check_cookies(cookies: LooseCookies) -> Iterable[tuple[str, Any]]:
    """Returns the pairs of names and values that an argument has.

    :raises TypeError: if it is neither a mapping nor pairs, or a name is no text
    """
    pairs = _pairs(cookies, "cookies")
    for name, _ in pairs:
        if not isinstance(name, str):
            raise TypeError(f"the name of a cookie must be str, not {_kind(name)}")
    return pairs


def with_params(url: URL, params: Query) -> URL:
    """Returns the URL with ``params`` added to its query.

    :raises TypeError: for an argument, or a value in it, of a type that a query cannot have
    :raises ValueError: for a number that is none
    """
    try:
        return url.extend_query(params)
    except (TypeError, ValueError) as error:
        raise params_error(params, error) from error


def params_error(params: object, error: Exception) -> Exception:
    """Returns the error that names the fault of ``params``, for the one that adding them to a URL ends in."""
    if not isinstance(error, TypeError | ValueError):
        return error
    pairs: Any = params.items() if isinstance(params, Mapping) else params
    if isinstance(params, bytes | bytearray | memoryview) or not isinstance(pairs, Iterable):
        return TypeError(f"params must be a mapping, pairs, or a str, not {_kind(params)}")
    for pair in pairs:
        try:
            name, value = pair
        except (TypeError, ValueError):
            return TypeError(f"params must be a mapping, pairs of names and values, or a str, not {params!r}")
        if value is None or isinstance(value, bool):
            way_out = "leave it out" if value is None else "use a str, such as 'true', or an int"
            return TypeError(f"params: the value of {name!r} is {value}, which no query can have: {way_out}")
    return type(error)(f"params: {error}")


#: The warnings for options that aiohttp has deprecated.
DEPRECATED: Final = {
    "auth": (
        "The 'auth' parameter is deprecated and will be removed in v4; pass headers={'Authorization': "
        "aiohttp.encode_basic_auth(login, password)} instead"
    ),
    "proxy_auth": (
        "The 'proxy_auth' parameter is deprecated and will be removed in v4; pass "
        "proxy_headers={'Proxy-Authorization': aiohttp.encode_basic_auth(login, password)} instead"
    ),
    "chunked": "Chunk size is deprecated #1615",
}


def deprecated(name: str) -> None:
    """Warn of an option that aiohttp has deprecated; the caller is native, the next frame the program."""
    warnings.warn(DEPRECATED[name], DeprecationWarning, stacklevel=2)
