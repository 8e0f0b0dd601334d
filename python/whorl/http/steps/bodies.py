"""Bodies of requests, where they are more than bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..body import payload as payloads
from ..body.formdata import FormData, is_form

if TYPE_CHECKING:
    from ..body.upload import UploadTracker
    from ..client_request import ClientRequest


def payload(data: Any) -> tuple[payloads.Payload, bytes | None]:
    """The payload for ``data``, and its bytes if they are here already.

    :raises LookupError: for a value that is no body
    """
    body = data() if is_form(data) else data
    made = payloads.PAYLOAD_REGISTRY.find(body, disposition=None)
    if made is None:
        fields: Any = body
        made = FormData(fields)()
    if type(made) in _OF_BYTES and isinstance(made._value, bytes):
        return made, made._value
    return made, None


# Payloads that are their bytes, with header fields.
_OF_BYTES: Final = frozenset(
    {payloads.BytesPayload, payloads.StringPayload, payloads.JsonPayload, payloads.JsonBytesPayload}
)


def bytes_payload(data: bytes, media_type: str) -> payloads.Payload:
    """A payload for bytes, for a program that looks at the body."""
    return payloads.BytesPayload(data, content_type=media_type)


def begin_upload(request: ClientRequest, tracker: UploadTracker) -> None:
    """The tracker follows a new attempt to send the request's body."""
    request._attempt = tracker._begin()
