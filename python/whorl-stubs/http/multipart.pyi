from whorl.http.compat.aiohttp.multipart import *
