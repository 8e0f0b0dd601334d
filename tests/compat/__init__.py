"""aiohttp's own tests, run with whorl's client in place of aiohttp's.

``python -m tests.compat --help`` says how to use it; README.md next to this file says how it works.
"""
