"""The loggers of the client. Their names are aiohttp's, so that a configuration of logging written for it
holds."""

import logging

__all__ = ["client_logger", "internal_logger", "ws_logger"]

# Messages that the user may want to act on: a .netrc that cannot be read, a proxy that cannot be used.
client_logger = logging.getLogger("aiohttp.client")
# Input that was left out, such as malformed cookies.
internal_logger = logging.getLogger("aiohttp.internal")
ws_logger = logging.getLogger("aiohttp.websocket")
