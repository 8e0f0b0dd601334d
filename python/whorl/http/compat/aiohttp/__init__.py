"""aiohttp's modules, by their names: what a program imports from ``aiohttp.client_exceptions`` and the like.

This directory is part of ``whorl.http.__path__``: its modules are modules of :mod:`whorl.http`, imported when
a program imports them. Those that have the same names there (``abc``, ``hdrs``, ``helpers`` …) are not here.
Type checkers find them by the partial stubs in ``whorl-stubs``.
"""
