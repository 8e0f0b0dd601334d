from whorl.http.compat.aiohttp.client_middlewares import *
