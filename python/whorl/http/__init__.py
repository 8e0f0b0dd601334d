"""The HTTP client: aiohttp's client API, its work done in Rust on the event loop's own thread."""
