"""What a program attaches to requests: tracing and middlewares."""
