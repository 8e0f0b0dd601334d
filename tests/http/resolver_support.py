"""A resolver that looks nothing up."""

from __future__ import annotations

import asyncio
import socket

from whorl.http.abc import AbstractResolver, ResolveResult


class Resolver(AbstractResolver):
    """Finds what it was given, for any host; ``lookups`` counts."""

    def __init__(self, *hosts: str, error: BaseException | None = None, delay: float = 0) -> None:
        self.hosts = hosts
        self.lookups = 0
        self._error = error
        self._delay = delay

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.lookups += 1
        await asyncio.sleep(self._delay)
        if self._error is not None:
            raise self._error
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in self.hosts
        ]

    async def close(self) -> None:
        """Nothing to close."""
