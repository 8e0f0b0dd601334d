from whorl.http.compat.aiohttp.compression_utils import *
