"""A picture of an X window as a PNG file, by the X library that each Tk for X has loaded.

Tk itself has no such function.
"""

import ctypes
import ctypes.util
import struct
import zlib
from pathlib import Path

_Z_PIXMAP = 2
_ALL_PLANES = ctypes.c_ulong(-1)
_ERRORS_ARE_RESULTS = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(lambda *_: 0)


class ScreenshotError(Exception):
    """There is no picture to be had; the text says why."""


class _Image(ctypes.Structure):
    """The beginning of an ``XImage``."""

    _fields_ = (
        ("width", ctypes.c_int),
        ("height", ctypes.c_int),
        ("xoffset", ctypes.c_int),
        ("format", ctypes.c_int),
        ("data", ctypes.c_void_p),
        ("byte_order", ctypes.c_int),
        ("bitmap_unit", ctypes.c_int),
        ("bitmap_bit_order", ctypes.c_int),
        ("bitmap_pad", ctypes.c_int),
        ("depth", ctypes.c_int),
        ("bytes_per_line", ctypes.c_int),
        ("bits_per_pixel", ctypes.c_int),
    )


def save_window(window: int, width: int, height: int, path: Path) -> None:
    """Write the window with the X id *window*, all of which is on the screen, to *path* as a PNG file.

    Raises ScreenshotError where the system has no X, or shows the window in another way than 24 bits a pixel.
    """
    name = ctypes.util.find_library("X11")
    if name is None:
        raise ScreenshotError("there is no X library here")
    x11 = ctypes.CDLL(name)
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XGetImage.restype = ctypes.POINTER(_Image)
    x11.XSetErrorHandler.restype = ctypes.c_void_p
    display = ctypes.c_void_p(x11.XOpenDisplay(None))
    if not display:
        raise ScreenshotError("the X display cannot be opened")
    # The usual one ends the process, for a window that is not all on the screen.
    before = ctypes.c_void_p(x11.XSetErrorHandler(_ERRORS_ARE_RESULTS))
    try:
        area = (0, 0, ctypes.c_uint(width), ctypes.c_uint(height))
        image = x11.XGetImage(display, ctypes.c_ulong(window), *area, _ALL_PLANES, _Z_PIXMAP)
        if not image:
            raise ScreenshotError("the window is not all on the screen")
        try:
            path.write_bytes(_png(image.contents))
        finally:
            x11.XDestroyImage(image)
    finally:
        x11.XSetErrorHandler(before)
        x11.XCloseDisplay(display)


def _png(image: _Image) -> bytes:
    if image.bits_per_pixel != 32 or image.byte_order != 0 or image.depth not in (24, 32):
        raise ScreenshotError(f"no picture with {image.bits_per_pixel} bits for a pixel")
    stride, width = image.bytes_per_line, image.width
    memory = ctypes.string_at(image.data, stride * image.height)
    rows = bytearray()
    for start in range(0, stride * image.height, stride):
        line = memory[start : start + 4 * width]
        row = bytearray(3 * width)
        row[0::3], row[1::3], row[2::3] = line[2::4], line[1::4], line[0::4]
        # Each row of a PNG file begins with its filter: none.
        rows += b"\0" + row
    head = struct.pack(">IIBBBBB", width, image.height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
