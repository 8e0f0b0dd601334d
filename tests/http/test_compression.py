"""gzip and deflate for parts of multipart bodies: in pieces, of several members, bounded, by any backend."""

from __future__ import annotations

import gzip
import random
import types
import zlib
from collections.abc import Iterator

import pytest

from tests.http.body_support import cut
from whorl.http.body.compression import (
    MAX_DECOMPRESS_MEMBERS,
    TooManyMembersError,
    ZLibBackend,
    ZLibCompressor,
    ZLibDecompressor,
    set_zlib_backend,
)

DATA = random.Random(3).randbytes(50_000) + bytes(500_000)


@pytest.fixture
def backend() -> Iterator[None]:
    kept = ZLibBackend._zlib_backend
    yield
    set_zlib_backend(kept)


@pytest.mark.parametrize(("encoding", "bare"), [("gzip", False), ("deflate", False), ("deflate", True)])
@pytest.mark.parametrize("limit", [0, 1000])
async def test_there_and_back_in_pieces(encoding: str, bare: bool, limit: int) -> None:
    compressor = ZLibCompressor(encoding=encoding, suppress_deflate_header=bare)
    pieces = [await compressor.compress(piece) for piece in cut(DATA, 40_000, 10)]
    compressed = b"".join(pieces) + compressor.flush()
    decompressor = ZLibDecompressor(encoding=encoding, suppress_deflate_header=bare)
    data = bytearray()
    for piece in cut(compressed, 20_000, 1, 300):
        assert not decompressor.eof
        output = await decompressor.decompress(piece, limit)
        data += output
        while decompressor.data_available:
            assert not limit or len(output) <= limit
            output = await decompressor.decompress(b"", limit)
            data += output
    assert data == DATA
    assert decompressor.eof


def test_what_zlib_itself_reads() -> None:
    gzipped, deflated = ZLibCompressor("gzip", level=9), ZLibCompressor("deflate", strategy=zlib.Z_RLE)
    assert gzip.decompress(gzipped.compress_sync(DATA) + gzipped.flush()) == DATA
    assert zlib.decompress(deflated.compress_sync(DATA) + deflated.flush()) == DATA


@pytest.mark.parametrize("limit", [0, 100])
@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_several_members(limit: int, size: int) -> None:
    members = [b"first" * 100, b"", b"second", random.Random(4).randbytes(1000)]
    decompressor = ZLibDecompressor("gzip")
    data = b""
    for piece in cut(b"".join(map(gzip.compress, members)), size):
        data += decompressor.decompress_sync(piece, limit)
        while decompressor.data_available:
            data += decompressor.decompress_sync(b"", limit)
    assert data == b"".join(members)


def test_members_without_number() -> None:
    member = gzip.compress(b"")
    assert ZLibDecompressor("gzip").decompress_sync(member * MAX_DECOMPRESS_MEMBERS) == b""
    with pytest.raises(TooManyMembersError, match="1024"):
        ZLibDecompressor("gzip").decompress_sync(member * (MAX_DECOMPRESS_MEMBERS + 1), 100)


def test_what_is_not_compressed() -> None:
    with pytest.raises(zlib.error):
        ZLibDecompressor("gzip").decompress_sync(b"plain text")


def test_another_backend(backend: None) -> None:
    module = types.ModuleType("another")
    module.__dict__.update(zlib.__dict__, __name__="another")
    used = []

    def compressobj(**options: int) -> object:
        used.append(options)
        return zlib.compressobj(**options)

    module.compressobj = compressobj  # type: ignore[attr-defined]
    set_zlib_backend(module)  # type: ignore[arg-type]
    assert ZLibBackend.name == "another"
    compressor = ZLibCompressor("gzip")
    assert used == [{"wbits": 31}]
    assert gzip.decompress(compressor.compress_sync(b"data") + compressor.flush()) == b"data"
