from whorl.http.compat.aiohttp.client_ws import *
