from whorl.http.compat.aiohttp.client_proto import *
