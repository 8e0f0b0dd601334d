from whorl.http.compat.aiohttp.http_writer import *
