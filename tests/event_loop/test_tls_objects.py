"""The ``ssl.SSLObject`` of a connection, which is the user's as well: what its methods return, and where.

The native engine is in OpenSSL with the interpreter's lock, and keeps the methods that are there without it
from the connection that it uses.
"""

from __future__ import annotations

import asyncio
import select
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest

from .certificates import Certificates
from .support import turns, whorl_only
from .tls_support import ENGINES, address_of, tls_client, tls_pair, tls_server

Loop = asyncio.AbstractEventLoop

pytestmark = [
    whorl_only,
    pytest.mark.usefixtures("engine"),
    pytest.mark.parametrize("engine", ENGINES, indirect=True),
]


@pytest.fixture
def native(engine: str) -> None:
    if engine != "native":
        pytest.skip("the other engine has only the locks of the ssl module")


#: What gives up the interpreter's lock while it is in OpenSSL.
WORK: dict[str, Callable[[Any], Any]] = {
    "read": lambda ssl_object: ssl_object.read(10),
    "read into a buffer": lambda ssl_object: ssl_object.read(10, bytearray(10)),
    "write": lambda ssl_object: ssl_object.write(b"x"),
    "do_handshake": lambda ssl_object: ssl_object.do_handshake(),
    "unwrap": lambda ssl_object: ssl_object.unwrap(),
}


async def in_a_thread(call: Callable[[], Any], threaded: bool) -> Any:
    return await asyncio.to_thread(call) if threaded else call()


@pytest.mark.parametrize("threaded", [False, True])
async def test_what_the_object_knows_is_known_on_every_thread(
    loop: Loop, certificates: Certificates, threaded: bool
) -> None:
    async with tls_pair(certificates) as pair:
        ssl_object = pair.transport.get_extra_info("ssl_object")
        assert type(ssl_object) is ssl.SSLObject
        peer = pair.peer

        def query() -> None:
            assert ssl_object.version() == peer.version()
            assert ssl_object.cipher() == peer.cipher()
            assert ssl_object.shared_ciphers() is None
            assert ssl_object.compression() is None
            assert ssl_object.selected_alpn_protocol() == peer.selected_alpn_protocol()
            assert ssl_object.getpeercert()["subject"]
            assert ssl.DER_cert_to_PEM_cert(ssl_object.getpeercert(binary_form=True))
            assert isinstance(ssl_object.get_channel_binding("tls-unique"), bytes)
            with pytest.raises(ValueError, match="channel binding"):
                ssl_object.get_channel_binding("unknown")
            assert ssl_object.pending() == 0
            assert ssl_object.server_side is False
            assert ssl_object.server_hostname == "localhost"
            assert ssl_object.context is pair.transport.get_extra_info("sslcontext")
            assert isinstance(ssl_object.session, ssl.SSLSession)
            assert ssl_object.session_reused is False

        await in_a_thread(query, threaded)


@pytest.mark.parametrize("threaded", [False, True])
async def test_what_can_be_set_of_the_object(loop: Loop, certificates: Certificates, threaded: bool) -> None:
    other = certificates.client()
    async with tls_pair(certificates) as pair:
        ssl_object = pair.transport.get_extra_info("ssl_object")

        def change() -> None:
            ssl_object.context = other
            with pytest.raises(TypeError):
                ssl_object.context = "no context"
            with pytest.raises((TypeError, ValueError)):
                ssl_object.session = "no session"
            with pytest.raises(AttributeError):
                ssl_object.server_side = True
            ssl_object.of_the_user = 1

        await in_a_thread(change, threaded)
        assert ssl_object.context is other
        assert ssl_object.of_the_user == 1


async def test_what_the_object_has_beneath_it(loop: Loop, certificates: Certificates) -> None:
    """Libraries read there what the object itself has from Python 3.13 on."""
    async with tls_pair(certificates) as pair:
        beneath = pair.transport.get_extra_info("ssl_object")._sslobj
        assert [certificate.get_info() for certificate in beneath.get_unverified_chain()]
        assert {"read", "get_unverified_chain", "context"} <= set(dir(beneath))
        with pytest.raises(AttributeError, match="unknown"):
            beneath.unknown  # noqa: B018


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("work", WORK)
async def test_another_thread_may_not_work_on_the_connection(
    loop: Loop, certificates: Certificates, work: str
) -> None:
    async with tls_pair(certificates) as pair:
        ssl_object = pair.transport.get_extra_info("ssl_object")
        with pytest.raises(RuntimeError, match="Non-thread-safe operation"):
            await asyncio.to_thread(WORK[work], ssl_object)
        await pair.peer_sends(b"question")
        assert await pair.protocol.received(8) == b"question"
        pair.transport.write(b"answer")
        assert await pair.peer_receives(6) == b"answer"


async def test_the_loops_thread_may_work_on_the_connection(loop: Loop, certificates: Certificates) -> None:
    async with tls_pair(certificates) as pair:
        ssl_object = pair.transport.get_extra_info("ssl_object")
        assert ssl_object.do_handshake() is None
        for read in (lambda: ssl_object.read(10), lambda: ssl_object.read(10, bytearray(10))):
            with pytest.raises(ssl.SSLWantReadError):
                read()
        with pytest.raises(TypeError):
            ssl_object.write("no bytes")
        assert ssl_object.write(b"first ") == 6
        pair.transport.write(b"second")
        assert await pair.peer_receives(12) == b"first second"
        with pytest.raises(ssl.SSLWantReadError):
            ssl_object.unwrap()


@pytest.mark.usefixtures("native")
def test_another_thread_may_work_once_the_loop_rests(loop: Loop, certificates: Certificates) -> None:
    async def main() -> None:
        async with tls_pair(certificates) as pair:
            objects.append(pair.transport.get_extra_info("ssl_object"))

    objects: list[ssl.SSLObject] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            objects[0].read(10)
        except BaseException as error:
            raised.append(error)

    loop.run_until_complete(main())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert isinstance(raised[0], OSError), "an ssl.SSLError"


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("direction", ["read", "write"])
@pytest.mark.parametrize("work", WORK)
async def test_what_openssl_calls_may_not_work_on_the_connection(
    loop: Loop, certificates: Certificates, work: str, direction: str
) -> None:
    """It would be in OpenSSL a second time."""
    outcomes: list[Any] = []
    armed = False

    def called(ssl_object: Any, on: str, *_rest: Any) -> None:
        nonlocal armed
        if armed and on == direction:
            armed = False
            outcomes.append(ssl_object.pending())
            try:
                WORK[work](ssl_object)
            except RuntimeError as error:
                outcomes.append(str(error))

    context = certificates.client()
    context._msg_callback = called  # type: ignore[attr-defined]
    async with (
        tls_server(certificates) as (server, _),
        tls_client(address_of(server), certificates, ssl=context) as (transport, protocol),
    ):
        await turns()
        armed = True
        transport.write(b"ping")
        assert await protocol.received(4) == b"ping"
    assert outcomes == [0, "OpenSSL is at work on this connection further up the stack"]


@pytest.mark.usefixtures("native")
async def test_pending_is_what_openssl_has_decrypted(loop: Loop, certificates: Certificates) -> None:
    async with tls_pair(certificates) as pair:
        ssl_object = pair.transport.get_extra_info("ssl_object")
        pair.transport.pause_reading()
        await pair.peer_sends(b"question")
        raw = pair.transport.get_extra_info("socket")
        ciphertext = await asyncio.to_thread(receive_some, raw)
        pair.transport._ssl_protocol._feed(ciphertext)
        data = ssl_object.read(1)
        # The session tickets have come before it, in records of their own.
        assert data == b"q"
        assert ssl_object.pending() == 7
        assert await asyncio.to_thread(ssl_object.pending) == 7
        assert ssl_object.read(10) == b"uestion"
        assert ssl_object.pending() == 0


def receive_some(sock: Any) -> bytes:
    duplicate = sock.dup()
    with duplicate:
        select.select([duplicate], [], [], 10)
        data: bytes = duplicate.recv(65536)
    return data
