"""Which of aiohttp's test files are run.

Left out are those about parts of the client that no program sees, with mocks in place of the others
(``test_connector``, ``test_client_request``, ``test_client_response``, ``test_client_proto``,
``test_client_connection``, ``test_client_ws``, ``test_proxy``, ``test_http_parser``, ``test_http_writer``,
``test_websocket_parser`` and the other parsers, ``test_compression_utils``), and those about the server that
make no request.
"""

#: The client.
CLIENT = (
    "test_client_exceptions",
    "test_client_fingerprint",
    "test_client_functional",
    "test_client_middleware",
    "test_client_middleware_digest_auth",
    "test_client_session",
    "test_client_ws_functional",
    "test_cookie_helpers",
    "test_cookiejar",
    "test_formdata",
    "test_helpers",
    "test_multipart",
    "test_multipart_helpers",
    "test_payload",
    "test_proxy_functional",
    "test_resolver",
    "test_streams",
    "test_tracing",
)

#: aiohttp's server, to which the client under test makes the requests.
SERVER = (
    "test_pytest_plugin",
    "test_run_app",
    "test_test_utils",
    "test_web_functional",
    "test_web_middleware",
    "test_web_sendfile_functional",
    "test_web_server",
    "test_web_urldispatcher",
    "test_web_websocket_functional",
)

FILES = CLIENT + SERVER

#: Files that take longest, started first so that they do not end the run alone.
LONG = (
    "test_client_functional",
    "test_client_ws_functional",
    "test_web_websocket_functional",
    "test_web_functional",
)
