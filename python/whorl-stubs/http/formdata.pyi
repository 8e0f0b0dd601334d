from whorl.http.compat.aiohttp.formdata import *
