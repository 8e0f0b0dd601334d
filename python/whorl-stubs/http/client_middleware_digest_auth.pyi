from whorl.http.compat.aiohttp.client_middleware_digest_auth import *
