"""aiosmtpd: STARTTLS in the middle of a connection, and its controller, whose loop runs in a thread."""

# ruff: noqa: E402 - the package is looked for before it is imported

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from email.message import EmailMessage
from typing import Any

import pytest

from tests.programs.support import Harness, Tls, require_package
from tools.services import free_port

require_package("aiosmtpd")

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

# aiosmtpd sets up TLS and its argument checks with what newer interpreters warn of; that is its own business.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:aiosmtpd")


class Mailbox:
    """Keeps what comes in."""

    def __init__(self) -> None:
        self.received: list[Envelope] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.received.append(envelope)
        return "250 OK"


def message(number: int, size: int = 100) -> EmailMessage:
    """A message of about `size` bytes."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "a@example.org", "b@example.org", f"number {number}"
    mail.set_content(("whorl " * 12 + "\n") * (size // 73 + 1))
    return mail


@asynccontextmanager
async def serving(mailbox: Mailbox, **options: Any) -> AsyncIterator[int]:
    """A server on the running loop; yields its port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(mailbox, hostname="localhost", loop=loop, **options), "127.0.0.1", 0
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def send(port: int, numbers: range, tls: Tls | None = None, size: int = 100) -> None:
    """Send messages over one connection, after STARTTLS if `tls` is given. Blocks."""
    with smtplib.SMTP("localhost", port, local_hostname="localhost", timeout=30) as client:
        if tls is not None:
            client.starttls(context=tls.client)
        for number in numbers:
            client.send_message(message(number, size))


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "starttls"])
def test_mail(run: Harness, tls: Tls, encrypted: bool) -> None:
    async def main() -> None:
        mailbox = Mailbox()
        options = {"tls_context": tls.server, "require_starttls": True} if encrypted else {}
        async with serving(mailbox, **options) as port:
            security = tls if encrypted else None
            await asyncio.gather(
                *(asyncio.to_thread(send, port, range(n, n + 10), security) for n in range(0, 100, 10))
            )
            await asyncio.to_thread(send, port, range(100, 101), security, 1_000_000)
            subjects = sorted(
                int(envelope.content.partition(b"number ")[2].split(b"\r\n")[0])
                for envelope in mailbox.received
                if isinstance(envelope.content, bytes)
            )
            assert subjects == list(range(101))
            assert len(mailbox.received[-1].content or b"") > 1_000_000
            await asyncio.sleep(0.05)  # the sessions end

    run(main())


def test_controller_in_a_thread(run: Harness) -> None:
    """The loop is made here, and run and closed in the controller's thread."""
    mailbox = Mailbox()
    controller = Controller(mailbox, loop=run.factory(), hostname="127.0.0.1", port=0)
    # The controller visits its server once to see it answer; that takes the port from the attribute.
    controller.port = free_port()
    controller.start()
    try:
        with ThreadPoolExecutor(4) as threads:
            visits = [threads.submit(send, controller.port, range(n, n + 5)) for n in range(0, 20, 5)]
            for visit in visits:
                visit.result()
    finally:
        controller.stop()
    assert len(mailbox.received) == 20
    assert controller.loop.is_closed()
