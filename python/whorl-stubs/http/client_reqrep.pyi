from whorl.http.compat.aiohttp.client_reqrep import *
