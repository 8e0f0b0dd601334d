from whorl.http.compat.aiohttp.cookiejar import *
