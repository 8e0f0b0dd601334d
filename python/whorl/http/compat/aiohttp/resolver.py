"""Resolvers. The names of ``aiohttp.resolver`` that whorl.http has."""

from __future__ import annotations

from whorl.http.abc import AbstractResolver, ResolveResult
from whorl.http.connect.resolver import AsyncResolver, DefaultResolver, ThreadedResolver

__all__ = [
    "AbstractResolver",
    "AsyncResolver",
    "DefaultResolver",
    "ResolveResult",
    "ThreadedResolver",
]
