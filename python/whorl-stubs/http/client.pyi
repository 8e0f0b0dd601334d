from whorl.http.compat.aiohttp.client import *
