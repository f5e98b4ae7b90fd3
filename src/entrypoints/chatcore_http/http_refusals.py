"""Refusals at the socket: problems (RFC 9457) for requests that the application does not see."""

import uuid
from dataclasses import dataclass
from http import HTTPStatus

import structlog

from chatcore.wire import Problem
from chatcore_app import Settings
from chatcore_http._internals import ServerState
from chatcore_http.envelope import in_envelope
from chatcore_http.error_forms import form_of
from chatcore_http.errors import problem_response
from chatcore_http.hardening import ALWAYS
from chatcore_http.protocols.told import Told

MAX_REQUEST_LINE = 8 * 1024
"""Bytes of the target (RFC 9112 §3 recommends at least 8,000 for the line)."""

_log = structlog.stdlib.get_logger("chatcore.request")


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    code: str
    detail: str

    def answer(self, server: ServerState, settings: Settings, target: bytes, address: str | None) -> bytes:
        """Return the whole answer, and log it. `target`: as much of the request's as has arrived."""
        request_id = uuid.uuid4().hex
        _log.info("request", status=self.status, code=self.code, address=address, request_id=request_id)
        told = self._told(settings, target.partition(b"?")[0].decode("latin-1"))
        headers = [
            *server.default_headers,
            *ALWAYS.items(),
            (b"content-type", told.media_type.encode()),
            (b"content-length", b"%d" % len(told.body)),
            *((name.lower().encode(), value.encode()) for name, value in told.headers.items()),
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        status = b"HTTP/1.1 %d %b\r\n" % (told.status, HTTPStatus(told.status).phrase.encode())
        return status + b"".join(b"%b: %b\r\n" % pair for pair in headers) + b"\r\n" + told.body

    def _told(self, settings: Settings, path: str) -> Told:
        if form := form_of(path):
            return form(Problem(self.status, self.code, self.detail))
        body = problem_response(self.status, self.code, self.detail).content
        if settings.response_envelope == "code":
            return Told(self.status, in_envelope(body, is_problem=True))
        return Told(self.status, body, Problem.media_type)


TOO_LONG = Refusal(414, "uri_too_long", f"The request target is longer than {MAX_REQUEST_LINE} bytes.")
TOO_LARGE = Refusal(431, "headers_too_large", "The headers are too large, or there are too many of them.")
TOO_SLOW = Refusal(408, "request_timeout", "The request did not arrive in time.")
REFUSALS = (TOO_SLOW, TOO_LONG, TOO_LARGE)
"""Refusals of well-formed requests, on any path."""
ONE_HOST = Refusal(400, "malformed_request", "A request has exactly one Host header (RFC 9112 §3.2).")
MALFORMED = Refusal(400, "malformed_request", "This is not a valid HTTP/1.1 request.")
