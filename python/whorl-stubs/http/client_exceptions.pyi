from whorl.http.compat.aiohttp.client_exceptions import *
