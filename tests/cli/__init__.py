"""Tests of the command line, the public functions and the examples."""
