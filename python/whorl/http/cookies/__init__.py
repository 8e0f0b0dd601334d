"""Cookies: the jar, its fields and its files."""
