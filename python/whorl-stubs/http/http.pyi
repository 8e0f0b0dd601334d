from whorl.http.compat.aiohttp.http import *
