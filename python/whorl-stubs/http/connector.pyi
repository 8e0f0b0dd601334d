from whorl.http.compat.aiohttp.connector import *
