"""The programs that the tests run, each in a process of its own: ``python -m tests.gui.cases TOOLKIT CASE``.

A case prints what the test expects, line by line, and asserts the rest.
"""
