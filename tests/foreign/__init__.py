"""Runs the public test-suites of other packages on whorl's loop and on stock asyncio, unedited."""
