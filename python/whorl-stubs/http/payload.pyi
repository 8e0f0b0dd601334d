from whorl.http.compat.aiohttp.payload import *
