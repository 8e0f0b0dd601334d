from whorl.http.compat.aiohttp.payload_streamer import *
