"""Basic authentication (RFC 7617): credentials from the caller, from a URL and from the user's .netrc."""

from __future__ import annotations

import binascii
import os
import warnings
from base64 import b64decode, b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from yarl import URL

from ..log import client_logger
from .redaction import HIDDEN, auth_repr

if TYPE_CHECKING:
    import netrc

__all__ = [
    "BasicAuth",
    "basicauth_from_netrc",
    "encode_basic_auth",
    "is_basic_auth",
    "make_basic_auth",
    "netrc_from_env",
    "strip_auth_from_url",
]


def encode_basic_auth(login: str, password: str = "", encoding: str = "utf-8") -> str:
    """Returns the value of an Authorization or Proxy-Authorization field for these credentials.

    Raises :exc:`ValueError` for a login with a colon, which the server could not tell from the password.
    """
    _check_login(login)
    return "Basic " + b64encode(f"{login}:{password}".encode(encoding)).decode("ascii")


def _check_login(login: str) -> None:
    if ":" in login:
        # What follows the colon is probably the password.
        shown = f"{login.partition(':')[0]}:{HIDDEN}"
        raise ValueError(f'A ":" is not allowed in login (RFC 7617, section 2), got {shown!r}')


def _encoding_of(text: str, preferred: str) -> str:
    """The encoding that credentials are sent in: UTF-8, if the preferred one does not have them.

    :raises ValueError: if they cannot be encoded at all
    """
    try:
        text.encode(preferred)
    except UnicodeEncodeError:
        text.encode("utf-8")
        return "utf-8"
    return preferred


class _Credentials(NamedTuple):
    login: str
    password: str
    encoding: str


class BasicAuth(_Credentials):
    """The login and password of a user, and the encoding that they are sent in.

    As in aiohttp since 3.14, making one gives a :exc:`DeprecationWarning`: the header from
    :func:`encode_basic_auth` replaces it. Its representation does not show the password. Raises
    :exc:`ValueError` for None and for a login with a colon.
    """

    __slots__ = ()

    def __new__(cls, login: str, password: str = "", encoding: str = "latin1") -> Self:
        for name, value in (("login", login), ("password", password)):
            if value is None:
                raise ValueError(f'None is not allowed as {name} value, use ""')
        _check_login(login)
        warnings.warn(
            "BasicAuth is deprecated and will be removed in aiohttp 4.0; use aiohttp.encode_basic_auth() "
            "with headers={'Authorization': ...} instead",
            DeprecationWarning,
            stacklevel=2,
        )
        return super().__new__(cls, login, password, encoding)

    @classmethod
    def decode(cls, auth_header: str, encoding: str = "latin1") -> BasicAuth:
        """Reads the value of an Authorization field; raises :exc:`ValueError` if it is not of this scheme, or
        malformed."""
        scheme, space, encoded = auth_header.partition(" ")
        if not space:
            raise ValueError("Could not parse authorization header: it has to be a scheme and credentials")
        if scheme.lower() != "basic":
            raise ValueError(f"Unknown authorization method {scheme}")
        try:
            decoded = b64decode(encoded.encode("ascii"), validate=True).decode(encoding)
        except binascii.Error as error:
            raise ValueError("Invalid base64 encoding.") from error
        login, colon, password = decoded.partition(":")
        if not colon:
            raise ValueError("Invalid credentials. There is no colon after the login")
        return make_basic_auth(login, password, encoding)

    @classmethod
    def from_url(cls, url: URL, *, encoding: str = "latin1") -> BasicAuth | None:
        """Returns the user and password of the URL, or None if it has neither.

        They are sent in UTF-8 if ``encoding`` does not have them.

        :raises TypeError: if ``url`` is no URL
        :raises ValueError: for a user with a colon, and for what cannot be encoded at all
        """
        if not isinstance(url, URL):
            raise TypeError(f"url should be yarl.URL instance, not {type(url).__name__}: use yarl.URL(url)")
        if url.raw_user is None and url.raw_password is None:
            return None
        login, password = url.user or "", url.password or ""
        _check_login(login)
        return make_basic_auth(login, password, _encoding_of(login + password, encoding))

    def encode(self) -> str:
        """Returns the value of the Authorization field."""
        return encode_basic_auth(self.login, self.password, self.encoding)

    def __repr__(self) -> str:
        return auth_repr(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # Reading a pickle is no use of the class that its warning is for.
        return make_basic_auth, tuple(self)


def make_basic_auth(login: str, password: str = "", encoding: str = "latin1") -> BasicAuth:
    """Makes a :class:`BasicAuth` without its warning, which is for what callers write."""
    return tuple.__new__(BasicAuth, (login, password, encoding))


def is_basic_auth(value: object) -> bool:
    """Whether it is a :class:`BasicAuth`, or another library's class of that name."""
    return isinstance(value, BasicAuth) or (
        isinstance(value, tuple)
        and type(value).__name__ == "BasicAuth"
        and callable(getattr(value, "encode", None))
    )


def strip_auth_from_url(url: URL) -> tuple[URL, BasicAuth | None]:
    """Returns the URL without user and password, and these.

    :raises ValueError: as :meth:`BasicAuth.from_url`
    """
    auth = BasicAuth.from_url(url)
    return (url, None) if auth is None else (url.with_user(None), auth)


def netrc_from_env() -> netrc.netrc | None:
    """Reads the file that the variable NETRC names, or else ``~/.netrc``.

    Returns None if there is none; one that cannot be read or parsed is logged. Reads from disk: not for the
    thread of an event loop.
    """
    # Imported only where the environment is read.
    import netrc

    named = os.environ.get("NETRC")
    try:
        path = Path.home() / ".netrc" if named is None else Path(named)
    except RuntimeError as error:
        client_logger.debug("There is no home directory for a .netrc: %s", error)
        return None
    try:
        return netrc.netrc(path)
    except netrc.NetrcParseError as error:
        # The error's text may have a word of the file, which may be a password.
        client_logger.warning("Could not parse .netrc file: %s, line %s", path, error.lineno)
    except FileNotFoundError as error:
        # The default file need not exist.
        if named:
            client_logger.warning("Could not read .netrc file: %s", error)
    except OSError as error:
        if named or _is_file(path):
            client_logger.warning("Could not read .netrc file: %s", error)
    return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def basicauth_from_netrc(netrc_obj: netrc.netrc | None, host: str) -> BasicAuth:
    """Returns the credentials for ``host``, or those under ``default``.

    Raises :exc:`LookupError` if there is no netrc, or nothing in it for the host.
    """
    if netrc_obj is None:
        raise LookupError("No .netrc file found")
    entry = netrc_obj.authenticators(host)
    if entry is None:
        raise LookupError(f"No entry for {host} found in the `.netrc` file.")
    login, account, password = entry
    login, password = login or account or "", password or ""
    return make_basic_auth(login, password, _encoding_of(login + password, "latin1"))
