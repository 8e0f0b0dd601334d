"""aiohttp under its own name: ``import aiohttp`` gives this client."""
