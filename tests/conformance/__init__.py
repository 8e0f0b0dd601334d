"""The running interpreter's own asyncio test-suite, run on a chosen event loop.

``python -m tests.conformance --help`` says how to use it; README.md next to this file says how it works.
"""
