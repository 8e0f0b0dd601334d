from whorl.http.compat.aiohttp.tracing import *
