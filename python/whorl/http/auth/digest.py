"""Digest authentication (RFC 7616) as a middleware of the client.

The server answers the first request with 401 and a challenge; the middleware sends the request again with the
digest of the password that the challenge requires. From then on it signs requests before they are rejected.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol, TypedDict

from multidict import MultiMapping
from yarl import URL

from .. import hdrs
from ..exceptions import ClientError
from ..hooks.middlewares import ClientHandlerType
from ..lazy import lazy_pattern
from ..urls import make_url
from .redaction import HIDDEN

__all__ = ["DigestAuthChallenge", "DigestAuthMiddleware"]


class DigestAuthChallenge(TypedDict, total=False):
    """The parameters of a challenge (RFC 7616, section 3.3)."""

    realm: str
    nonce: str
    qop: str
    algorithm: str
    opaque: str
    domain: str
    stale: str


_CHALLENGE_FIELDS: Final = ("realm", "nonce", "qop", "algorithm", "opaque", "domain", "stale")


class Body(Protocol):
    """A body that can be had as bytes, for the quality of protection that covers it."""

    async def as_bytes(self) -> bytes:
        """Returns all of it."""
        ...


def _functions() -> Iterator[tuple[str, Callable[[bytes], Any]]]:
    functions: dict[str, Callable[[bytes], Any]] = {
        "MD5": hashlib.md5,
        "SHA": hashlib.sha1,
        "SHA-256": hashlib.sha256,
        "SHA256": hashlib.sha256,
        "SHA-512": hashlib.sha512,
        "SHA512": hashlib.sha512,
    }
    if "sha512_256" in hashlib.algorithms_available:
        functions["SHA-512-256"] = lambda data: hashlib.new("sha512_256", data)
    for name, function in functions.items():
        yield name, function
        yield f"{name}-SESS", function


DigestFunctions: Final[dict[str, Callable[[bytes], Any]]] = dict(_functions())
"""The hash functions by the name of the algorithm, in upper case. Not only the RFC's names are in use."""

# A parameter, or a token alone, which is the name of a scheme. Nothing backtracks into text that was read.
_HEADER_PAIRS_PATTERN = lazy_pattern(
    r"(?:^|[\s,])\s*+([\w!#$%&'*+.^`|~-]++)"
    r'(?:\s*+=\s*+(?:"((?:[^"\\]|\\.)*+)"|([^\s,]++)))?'
)  # fmt: skip


# Control characters, and bytes that were no UTF-8 when they were received.
_CANNOT_BE_SENT = lazy_pattern("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
# What the response to a challenge repeats.
_REPEATED: Final = ("realm", "nonce", "opaque")


def escape_quotes(value: str) -> str:
    """Escapes the value for the inside of a quoted-string (RFC 9110, section 5.6.4)."""
    return value.replace("\\", "\\\\").replace('"', '\\"')


def unescape_quotes(value: str) -> str:
    """The value of the inside of a quoted-string."""
    return re.sub(r"\\(.)", r"\1", value)


def parse_challenges(header: str) -> list[tuple[str, dict[str, str]]]:
    """Reads a WWW-Authenticate field: the scheme and the parameters of each challenge (RFC 9110, section
    11.6.1).

    The scheme of parameters without one is empty. Of a parameter that is given twice, the first is taken.
    """
    challenges: list[tuple[str, dict[str, str]]] = []
    for match in _HEADER_PAIRS_PATTERN.finditer(header):
        name, quoted, token = match.groups()
        if quoted is None and token is None:
            challenges.append((name, {}))
            continue
        if not challenges:
            challenges.append(("", {}))
        challenges[-1][1].setdefault(name.lower(), token if quoted is None else unescape_quotes(quoted))
    return challenges


def parse_header_pairs(header: str) -> dict[str, str]:
    """Returns the parameters of the first challenge that has any."""
    return next((parameters for _, parameters in parse_challenges(header) if parameters), {})


class DigestAuthMiddleware:
    """Answers the challenges of a server with the digest of a password.

    :param login: the user's name, without a colon. :param password: the password. :param preemptive: whether
    requests to the same protection space are signed before they are challenged (RFC
        7616, section 3.6).

    The credentials are for the origin of the first request that passes through the middleware, and for the
    protection space that this origin names (``domain``): requests to others are sent as they are. Of several
    challenges, the first one supported is answered. A response may give the next nonce.

    Raises :exc:`ValueError` for None and for a login with a colon. Requests raise :exc:`ClientError` for a
    challenge that cannot be answered.
    """

    def __init__(self, login: str, password: str, preemptive: bool = True) -> None:
        for name, value in (("login", login), ("password", password)):
            if value is None:
                raise ValueError(f'None is not allowed as {name} value, use ""')
        if ":" in login:
            # What follows the colon is probably the password.
            shown = f"{login.partition(':')[0]}:{HIDDEN}"
            raise ValueError(f'A ":" is not allowed in username (RFC 7616, section 3.4.2), got {shown!r}')
        self._login = login
        self._password = password
        self._preemptive = preemptive
        self._origin: URL | None = None
        self._protection_space: list[str] = []
        self._challenge: DigestAuthChallenge = {}
        self._last_nonce_bytes = b""
        self._nonce_count = 0

    async def __call__(self, request: Any, handler: ClientHandlerType) -> Any:
        """Sends the request, and sends it again with the credentials if it is challenged."""
        origin = request.url.origin()
        if self._origin is None:
            self._origin = origin
        elif origin != self._origin and not self._in_protection_space(request.url):
            return await handler(request)

        signed = self._preemptive and bool(self._challenge) and self._in_protection_space(request.url)
        rejections = 0
        while True:
            if signed:
                request.headers[hdrs.AUTHORIZATION] = await self._encode(
                    request.method, request.url, request.body
                )
            response = await handler(request)
            if not self._authenticate(response):
                self._take_next_nonce(response)
                return response
            # Once more with the challenge's nonce; a second time only if that was too old by then.
            rejections += 1
            if rejections > 1 and (rejections > 2 or self._challenge.get("stale", "").lower() != "true"):
                return response
            _ = response.release()
            signed = True

    # Challenges.

    def _authenticate(self, response: Any) -> bool:
        """Keeps the response's challenge if it can be answered, and returns whether it can."""
        if response.status != 401:
            return False
        headers = response.headers
        if isinstance(headers, MultiMapping):
            fields = headers.getall(hdrs.WWW_AUTHENTICATE, [])
        else:
            fields = [headers.get("www-authenticate", "")]
        digests = [
            parameters
            for field in fields
            for scheme, parameters in parse_challenges(field)
            if scheme.lower() == "digest" and parameters
        ]
        if not digests:
            return False
        parameters = next(filter(_is_supported, digests), digests[0])
        self._challenge = {}
        for name in _CHALLENGE_FIELDS:
            if name in parameters:
                self._challenge[name] = parameters[name]
        origin = response.url.origin()
        # Another origin of the space may challenge, but not widen it.
        if self._origin is None or origin == self._origin:
            self._protection_space = _protection_space(origin, self._challenge.get("domain", ""))
        return True

    def _take_next_nonce(self, response: Any) -> None:
        # RFC 7616, section 3.5.
        information = response.headers.get(hdrs.AUTHENTICATION_INFO)
        if not information or not self._challenge:
            return
        nonce = parse_header_pairs(information).get("nextnonce")
        if nonce and not _CANNOT_BE_SENT.search(nonce):
            self._challenge["nonce"] = nonce

    def _in_protection_space(self, url: URL) -> bool:
        """Whether the URL is one of the space's or beneath it: ``/app`` covers ``/app/x`` but not
        ``/apple``."""
        target = str(url)
        return any(
            target.startswith(space)
            and (len(target) == len(space) or space.endswith("/") or target[len(space)] == "/")
            for space in self._protection_space
        )

    # Answers to challenges.

    async def _encode(self, method: str, url: URL, body: Body | bytes) -> str:
        """Returns the Authorization field that answers the challenge."""
        challenge = self._challenge
        for name in ("realm", "nonce"):
            if name not in challenge:
                raise ClientError(f"Malformed Digest auth challenge: Missing {name!r} parameter")
        realm, nonce = challenge["realm"], challenge["nonce"]
        for name in _REPEATED:
            if _CANNOT_BE_SENT.search(parameter := str(challenge.get(name, ""))):
                raise ClientError(f"Malformed Digest auth challenge: {name!r} cannot be sent: {parameter!r}")
        if not nonce:
            raise ClientError("Security issue: Digest auth challenge contains empty 'nonce' value")
        algorithm = challenge.get("algorithm", "MD5")
        function = DigestFunctions.get(algorithm.upper())
        if function is None:
            raise ClientError(
                f"Digest auth error: Unsupported hash algorithm: {algorithm}. "
                f"Supported algorithms: {', '.join(sorted(DigestFunctions))}"
            )
        qop = _choose_qop(challenge.get("qop", ""))

        def digest(*parts: str) -> str:
            hexadecimal: str = function(":".join(parts).encode()).hexdigest()
            return hexadecimal

        # The target as it is on the wire: the server signs what it sees.
        uri = url.raw_path_qs
        signed_message = [method.upper(), uri]
        if qop == "auth-int":
            content = body if isinstance(body, (bytes, bytearray)) else await body.as_bytes()
            signed_message.append(function(content).hexdigest())

        # No await from here on: requests that run side by side must not share a count.
        count = self._count(nonce)
        # Hashed, so that the server does not see the generator's output.
        client_nonce = hashlib.sha1(os.urandom(16)).hexdigest()[:16]
        is_session = algorithm.upper().endswith("-SESS")
        secret = digest(self._login, realm, self._password)
        if is_session:
            secret = digest(secret, nonce, client_nonce)
        conversation = [nonce, count, client_nonce, qop] if qop else [nonce]

        quoted = {"username": self._login, "realm": realm, "nonce": nonce}
        fields = [f'{name}="{escape_quotes(value)}"' for name, value in quoted.items()]
        fields.append(f'uri="{uri}"')
        fields.append(f'response="{digest(secret, *conversation, digest(*signed_message))}"')
        fields.append(f"algorithm={algorithm}")
        if opaque := challenge.get("opaque"):
            fields.append(f'opaque="{escape_quotes(opaque)}"')
        if qop:
            fields += [f"qop={qop}", f"nc={count}"]
        if qop or is_session:
            fields.append(f'cnonce="{client_nonce}"')
        return f"Digest {', '.join(fields)}"

    def _count(self, nonce: str) -> str:
        """How often the nonce was used, this time included: eight hexadecimal digits."""
        nonce_bytes = nonce.encode()
        self._nonce_count = self._nonce_count + 1 if nonce_bytes == self._last_nonce_bytes else 1
        self._last_nonce_bytes = nonce_bytes
        return f"{self._nonce_count:08x}"


def _offered(qop: str) -> set[str]:
    return {offer.strip().lower() for offer in qop.split(",") if offer.strip()}


def _choose_qop(offers: str) -> str:
    """The quality of protection to answer with; empty if the challenge has none (RFC 2069)."""
    offered = _offered(offers)
    if not offered:
        return ""
    for qop in ("auth-int", "auth"):
        if qop in offered:
            return qop
    raise ClientError(f"Digest auth error: Unsupported Quality of Protection (qop) value(s): {offers}")


def _is_supported(parameters: Mapping[str, str]) -> bool:
    offered = _offered(parameters.get("qop", ""))
    return (
        parameters.get("algorithm", "MD5").upper() in DigestFunctions
        and (not offered or not offered.isdisjoint(("auth", "auth-int")))
        and not any(_CANNOT_BE_SENT.search(parameters.get(name, "")) for name in _REPEATED)
    )


def _protection_space(origin: URL, domain: str) -> list[str]:
    """The URLs that the ``domain`` of a challenge names, or the whole origin."""
    space: list[str] = []
    for uri in domain.split():
        uri = uri.strip('"')
        try:
            if uri.startswith("/"):
                space.append(str(origin.join(make_url(uri))))
            elif uri:
                space.append(str(make_url(uri)))
        except ValueError:
            # A text that is no URL covers none.
            continue
    return space or [str(origin)]
