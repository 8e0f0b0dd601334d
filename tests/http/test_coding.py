"""Content codings: what compressors make is read in any pieces and within bounds; faults are told apart."""

import gzip
import random
import sys
import threading
import time
import zlib

import pytest

from whorl._core import Compressor, Decompressor

TEXT = b"The quick brown fox jumps over the lazy dog. " * 2000
# TEXT[:1800] by Brotli's own encoder.
BROTLI = bytes.fromhex(
    "1b0707882c0e78d3d0955d9710bb172ba9cad092cc8cad415ce6f236c8199e9e0a7b830d387048206f24bf41a715ce1c1e27aa2938"
    "c2a9749f0603"
)
# Ten million zeros.
BOMB = bytes.fromhex("cbffff3ff82700e2b14020f7fe2fff2c31f04f00c46111808e2306")
# b"whorl" as a zstd frame of one raw block.
ZSTD = bytes.fromhex("28b52ffd2005290000") + b"whorl"


def bare_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


ENCODED = {
    "gzip": ("gzip", gzip.compress(TEXT), TEXT),
    "x-gzip": ("x-gzip", gzip.compress(TEXT), TEXT),
    "zlib": ("deflate", zlib.compress(TEXT), TEXT),
    "bare deflate": ("deflate", bare_deflate(TEXT), TEXT),
    "br": ("br", BROTLI, TEXT[:1800]),
    "zstd": ("zstd", ZSTD, b"whorl"),
    "two": ("br, gzip", gzip.compress(BROTLI), TEXT[:1800]),
    "none": ("identity", TEXT, TEXT),
}
encoded = pytest.mark.parametrize(("encoding", "body", "text"), ENCODED.values(), ids=ENCODED)


@encoded
def test_whole(encoding: str, body: bytes, text: bytes) -> None:
    decompressor = Decompressor(encoding)
    assert decompressor.is_identity is (encoding == "identity")
    assert decompressor.decompress(body) == text
    assert decompressor.needs_input
    decompressor.finish()


@encoded
@pytest.mark.parametrize("max_length", [-1, 1, 100, 65_536])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_in_pieces_and_within_bounds(
    encoding: str, body: bytes, text: bytes, max_length: int, kind: type
) -> None:
    rng = random.Random(encoding)
    decompressor = Decompressor(encoding)
    found = bytearray()
    at = 0
    while at < len(body):
        # Whether or not there is room for what came before.
        size = rng.choice([1, 10, 5000])
        pieces = [kind(body[at : at + size])]
        at += size
        while pieces or (not decompressor.needs_input and rng.random() < 0.9):
            piece = decompressor.decompress(pieces.pop() if pieces else b"", max_length)
            assert max_length == -1 or len(piece) <= max_length
            found += piece
    while not decompressor.needs_input:
        found += decompressor.decompress(b"", max_length=max_length)
    assert found == text
    decompressor.finish()


def test_a_bomb_comes_in_pieces() -> None:
    decompressor = Decompressor("br")
    sizes = [len(decompressor.decompress(BOMB, 100_000))]
    while not decompressor.needs_input:
        sizes.append(len(decompressor.decompress(b"", 100_000)))
    assert max(sizes) <= 100_000
    assert sum(sizes) == 10_000_000
    assert len(Decompressor("br").decompress(BOMB)) == 10_000_000


def test_input_that_waits_is_not_moved_about_for_each_piece() -> None:
    """Megabytes would be copied with each call, and there are thousands of them: minutes of it."""
    noise = random.Random(1).randbytes(8 * 1024 * 1024)
    body = gzip.compress(noise, 0)
    decompressor = Decompressor("gzip")
    found = bytearray(decompressor.decompress(body, 1024))
    while not decompressor.needs_input:
        found += decompressor.decompress(b"", 1024)
    assert found == noise


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_no_body(encoding: str) -> None:
    decompressor = Decompressor(encoding)
    decompressor.finish()
    assert decompressor.decompress(b"") == b""
    decompressor.finish()


@pytest.mark.parametrize("name", sorted(ENCODED.keys() - {"none"}))
def test_a_body_that_is_cut(name: str) -> None:
    encoding, body, _ = ENCODED[name]
    decompressor = Decompressor(encoding)
    decompressor.decompress(body[:-1])
    with pytest.raises(EOFError, match="ends within the compressed data"):
        decompressor.finish()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_a_body_that_is_something_else(encoding: str) -> None:
    decompressor = Decompressor(encoding)
    for _ in range(2):
        with pytest.raises(ValueError, match=f"^{encoding}: "):
            decompressor.decompress(b"<html>not compressed at all</html>")
    with pytest.raises(ValueError, match=f"^{encoding}: "):
        decompressor.finish()


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"'compress'|\"compress\""):
        Decompressor("compress")
    with pytest.raises(ValueError, match="6 content codings"):
        Decompressor(", ".join(["gzip"] * 6))
    with pytest.raises(ValueError, match="max_length 0"):
        Decompressor("gzip").decompress(b"", 0)
    with pytest.raises(TypeError):
        Decompressor("gzip").decompress("text")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='not as "br"'):
        Compressor("br")
    for level in (-2, 10, 256):
        with pytest.raises(ValueError, match=f"not {level}"):
            Compressor("gzip", level)


@pytest.mark.parametrize(
    ("encoding", "decompress"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)]
)
@pytest.mark.parametrize("level", [-1, 0, 1, 9])
def test_the_interpreter_reads_what_we_write(encoding, decompress, level) -> None:  # type: ignore[no-untyped-def]
    compressor = Compressor(encoding, level)
    body = b"".join(compressor.compress(TEXT[at : at + 7000]) for at in range(0, len(TEXT), 7000))
    body += compressor.compress(bytearray(b"the end"))
    body += compressor.finish()
    assert decompress(body) == TEXT + b"the end"
    assert (len(body) < len(TEXT) / 10) == (level != 0)
    for late in (compressor.flush, compressor.finish, lambda: compressor.compress(b"more")):
        with pytest.raises(ValueError, match="finished"):
            late()


def test_a_flush_lets_the_receiver_read() -> None:
    compressor, decompressor = Compressor("gzip"), Decompressor("gzip")
    for line in (b"one\n", b"two\n"):
        assert decompressor.decompress(compressor.compress(line) + compressor.flush()) == line


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="there is no lock to let go of"
)
@pytest.mark.parametrize("direction", ["in", "bomb", "out"])
def test_large_work_lets_other_threads_run(direction: str) -> None:
    """A thread that needs the interpreter counts on while a call works."""
    count = 0
    done = threading.Event()

    def counts() -> None:
        nonlocal count
        while not done.is_set():
            count += 1
            time.sleep(0)

    noise = random.Random(2).randbytes(1 << 20) * 8
    bomb = gzip.compress(zlib.compress(bytes(20_000_000)))
    assert len(bomb) < 64 * 1024
    body = gzip.compress(noise, 1)
    work = {
        "in": lambda: Decompressor("gzip").decompress(body),
        "bomb": lambda: Decompressor("deflate, gzip").decompress(bomb),
        "out": lambda: Compressor("gzip", 1).compress(noise),
    }[direction]
    thread = threading.Thread(target=counts)
    # Longer than any call: only a lock that is let go of lets the other thread in.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    try:
        thread.start()
        for _ in range(50):
            before = count
            work()
            if count != before:
                break
        else:
            pytest.fail("the other thread stood still")
    finally:
        done.set()
        sys.setswitchinterval(interval)
        thread.join()
