"""Codings. The names of ``aiohttp.compression_utils`` that whorl.http has."""

from __future__ import annotations

from whorl.http.body.compression import (
    MAX_DECOMPRESS_MEMBERS,
    MAX_SYNC_CHUNK_SIZE,
    TooManyMembersError,
    ZLibBackend,
    ZLibBackendProtocol,
    ZLibBackendWrapper,
    ZLibCompressor,
    ZLibDecompressor,
    encoding_to_mode,
    set_zlib_backend,
)

__all__ = [
    "MAX_DECOMPRESS_MEMBERS",
    "MAX_SYNC_CHUNK_SIZE",
    "TooManyMembersError",
    "ZLibBackend",
    "ZLibBackendProtocol",
    "ZLibBackendWrapper",
    "ZLibCompressor",
    "ZLibDecompressor",
    "encoding_to_mode",
    "set_zlib_backend",
]
