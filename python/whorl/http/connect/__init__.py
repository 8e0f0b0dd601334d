"""Connecting: connectors, lookups, addresses, proxies and TLS."""
