"""Running test-suites that others wrote: a process for each module, limits, and rows for what does not apply.

``tests/conformance`` runs CPython's asyncio suite with it, ``tests/compat`` aiohttp's.
"""
