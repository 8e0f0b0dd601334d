from whorl.http.compat.aiohttp.resolver import *
