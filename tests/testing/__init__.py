"""Tests of ``whorl.testing``."""
