"""aiohttp under its own name: ``import aiohttp`` gives this client."""

#: The version of aiohttp whose client API :mod:`whorl.http` has. Programs compare it to know what there is.
AIOHTTP_VERSION = "3.14.5"
