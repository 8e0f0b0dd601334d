from whorl.http.compat.aiohttp.http_websocket import *
