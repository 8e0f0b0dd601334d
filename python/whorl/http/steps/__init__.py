"""The steps of a call that are Python.

A call is native (``crates/python/src/http/client``). It calls these functions, by name, where a step needs a
class of this package, or code of the program's: what is not there costs nothing. A function that returns an
awaitable is a step that is awaited.
"""

from __future__ import annotations

import sys

from whorl import _core

from ..arguments import check_list, check_names, check_sizes, header_fields, params_error
from ..connect.native import connect_failed, connection_timeout, connector_error, dial_plan
from ..connect.tls import keep_tls_session
from ..connect.tunnel import begin_tunnel, check_tunnel
from ..options import unknown_option
from ..urls import host_field
from .call_options import (
    DEPRECATED,
    check_auth,
    check_proxy,
    deprecated,
    headers_for_proxy,
    proxy_url,
    timeout,
    tls_setting,
)
from .connecting import acquire, connect, connection, proxy_request
from .making import (
    begin_upload,
    bytes_payload,
    construct,
    cookie_field,
    cookies_for,
    environment,
    payload,
    target,
    through_middlewares,
)
from .overrides import check_session, configure, is_request_replaced, note_session_class, replaced_request
from .responding import (
    answer_of,
    close_before_retry,
    failure,
    let_go,
    note_origin,
    redirect_target,
    response_error,
    start,
    too_many_redirects,
)
from .signals import clean_up, make_traces, send_signal, start_traces, warn_unclosed

__all__ = [
    "DEPRECATED",
    "acquire",
    "answer_of",
    "begin_tunnel",
    "begin_upload",
    "bytes_payload",
    "check_auth",
    "check_list",
    "check_names",
    "check_proxy",
    "check_session",
    "check_sizes",
    "check_tunnel",
    "clean_up",
    "close_before_retry",
    "configure",
    "connect",
    "connect_failed",
    "connection",
    "connection_timeout",
    "connector_error",
    "construct",
    "cookie_field",
    "cookies_for",
    "deprecated",
    "dial_plan",
    "environment",
    "failure",
    "header_fields",
    "headers_for_proxy",
    "host_field",
    "is_request_replaced",
    "keep_tls_session",
    "let_go",
    "make_traces",
    "note_origin",
    "note_session_class",
    "params_error",
    "payload",
    "proxy_request",
    "proxy_url",
    "redirect_target",
    "replaced_request",
    "response_error",
    "send_signal",
    "start",
    "start_traces",
    "target",
    "through_middlewares",
    "timeout",
    "tls_setting",
    "too_many_redirects",
    "unknown_option",
    "warn_unclosed",
]

_core.give_steps(sys.modules[__name__])
