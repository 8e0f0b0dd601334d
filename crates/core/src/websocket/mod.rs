//! The WebSocket protocol (RFC 6455, RFC 7692) without I/O, for both roles.
