"""Bodies of requests: payloads, forms, multipart, and how they are written."""
