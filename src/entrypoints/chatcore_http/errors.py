"""Every error as RFC 9457 `application/problem+json`, with a stable `code`."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.response.base import ASGIResponse
from litestar.types import HTTPScope, Receive, Send

from chatcore import errors
from chatcore.entities import INTERNAL, Message, MessageId
from chatcore.errors import FieldError
from chatcore.wire import Problem, failure
from chatcore_http.field_names import called
from chatcore_http.json_schema import Json, reference_to
from chatcore_http.request_limit import LIMITED
from chatcore_http.schemas import Problem as ProblemShape

_log = logging.getLogger("chatcore.http")

_HTTP_CODES = {
    400: ("validation_failed", "The request is not valid."),
    404: ("not_found", "There is no such route."),
    405: ("method_not_allowed", "This route does not support this method."),
    408: ("request_timeout", "The request's body did not arrive in time."),
    413: ("payload_too_large", "The request body is too large."),
}
_INTERNAL_DETAIL = "Internal server error. Quote the X-Request-ID when you report it."
_ABSENT = re.compile(r"Missing required \w+ parameter '([^']+)'")
_MISSING = re.compile(r"missing required field `([^`]+)`")


class ClientLeft(Exception):
    """The client left before its request was complete."""


def problem_response(
    status: int,
    code: str,
    detail: str,
    *,
    headers: dict[str, str] | None = None,
    broken: Sequence[FieldError] = (),
    reply_id: MessageId | None = None,
) -> Response[bytes]:
    """`broken`: the rules that are broken. `reply_id`: the reply that failed."""
    problem = Problem(status, code, detail, errors=tuple(broken), reply_id=reply_id)
    return Response(problem.json(), status_code=status, media_type=problem.media_type, headers=headers)


async def send_problem(problem: Response[bytes], scope: HTTPScope, receive: Receive, send: Send) -> None:
    """Send a problem from outside the framework."""
    answer = ASGIResponse(
        body=problem.content,
        status_code=problem.status_code,
        media_type=problem.media_type,
        headers=problem.headers,
    )
    await answer(scope, receive, send)


def failed_reply(reply: Message) -> Response[bytes]:
    """Return the answer to a JSON chat whose reply failed. Its partial text is in the history."""
    failed = failure(reply)
    return problem_response(failed.status, failed.code, failed.detail, reply_id=reply.id)


def _chatcore_error(request: Request[Any, Any, Any], error: errors.ChatcoreError) -> Response[bytes]:
    headers: dict[str, str] = {}
    broken: Sequence[FieldError] = ()
    match error:
        case errors.ValidationFailed():
            error = error.renamed(called(request.route_handler))
            broken = error.errors
        case errors.Unauthenticated():
            headers["WWW-Authenticate"] = _challenge(request, error)
        case errors.InsufficientScope():
            headers["WWW-Authenticate"] = _scope_challenge(error)
        case errors.Unavailable():
            _log.warning("unavailable: %s", type(error.__cause__ or error).__name__)
            headers["Retry-After"] = str(error.retry_after)
        case errors.RateLimited():
            headers["Retry-After"] = str(error.retry_after)
        case _:
            pass
    return problem_response(error.status, error.code, error.detail, headers=headers, broken=broken)


def _challenge(request: Request[Any, Any, Any], error: errors.Unauthenticated) -> str:
    """RFC 6750 §3, RFC 9470 §3: an error code only for requests with a token."""
    if isinstance(error, errors.InsufficientUserAuthentication):
        return 'Bearer error="insufficient_user_authentication"'
    return 'Bearer error="invalid_token"' if "authorization" in request.headers else "Bearer"


def _scope_challenge(error: errors.InsufficientScope) -> str:
    """RFC 6750 §3.1."""
    return 'Bearer error="insufficient_scope"' + (f', scope="{error.scope}"' if error.scope else "")


def _validation(_: Request[Any, Any, Any], error: ValidationException) -> Response[bytes]:
    """Translate the framework's errors of parameters and bodies, with the field's name."""
    found = error.extra if isinstance(error.extra, list) else []
    if any(item.get("source") == "path" for item in found):
        return problem_response(404, errors.NotFound.code, errors.NotFound.default_detail)
    problems = [_field_problem(str(item.get("key", "")), str(item.get("message", ""))) for item in found]
    if absent := _ABSENT.match(error.detail):
        problems.append(FieldError(absent[1], "is required"))
    detail = "; ".join(f"{problem.field}: {problem.message}" for problem in problems)
    return problem_response(400, "validation_failed", detail or _HTTP_CODES[400][1], broken=problems)


def _field_problem(key: str, message: str) -> FieldError:
    if missing := _MISSING.search(message):
        return FieldError(missing[1], "is required")
    field = "body" if key == "data" else key.removeprefix("data.")
    return FieldError(field, "a JSON object is required" if message == "'data'" else message)


def _http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    if limited := cast("dict[str, Any]", request.scope).get(LIMITED):
        return _chatcore_error(request, limited)
    status = error.status_code
    if status >= 500:
        return _server_error(request, error)
    code, detail = _HTTP_CODES.get(status, ("validation_failed", HTTPStatus(status).phrase))
    if status == 400:  # a body that is no JSON: the parser's own words say where
        detail = str(error.detail)
    return problem_response(status, code, detail, headers=dict(error.headers or {}))


def _client_left(_: Request[Any, Any, Any], error: ClientLeft) -> Response[bytes]:
    """Only the log has this."""
    return problem_response(400, "client_left", "The request was not complete when its client left.")


def _not_utf8(_: Request[Any, Any, Any], error: UnicodeDecodeError) -> Response[bytes]:
    return problem_response(400, "validation_failed", "The request is not valid UTF-8.")


def _too_deep(request: Request[Any, Any, Any], error: RecursionError) -> Response[bytes]:
    if "deserializing" not in str(error):  # msgspec's word: anything else is a fault of ours
        return _server_error(request, error)
    return problem_response(400, "validation_failed", "The JSON is nested too deeply.")


def _server_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem_response(500, INTERNAL.code, _INTERNAL_DETAIL)


def exception_handlers() -> dict[int | type[Exception], Any]:
    return {
        errors.ChatcoreError: _chatcore_error,
        ValidationException: _validation,
        HTTPException: _http_exception,
        ClientLeft: _client_left,
        UnicodeDecodeError: _not_utf8,
        RecursionError: _too_deep,
        Exception: _server_error,
    }


# ---- in the OpenAPI document -----------------------------------------------------------------------------

Error = tuple[int, str, str]  # status, code, detail

TOO_LARGE: Error = (413, *_HTTP_CODES[413])


def described_problems(failures: Iterable[Error]) -> Json:
    """The responses of an operation that can fail so."""
    by_status: dict[int, dict[str, str]] = {}
    for status, code, detail in sorted(failures):
        by_status.setdefault(status, {})[code] = detail
    return {str(status): _problem(status, details) for status, details in by_status.items()}


def _problem(status: int, details: Mapping[str, str]) -> Json:
    """`details`: a sentence for each code that can come with this status."""
    title = HTTPStatus(status).phrase
    examples = {code: {"value": _problem_example(status, title, code, detail)} for code, detail in details.items()}
    codes = {"properties": {"code": {"enum": list(details)}}}
    response: Json = {
        "description": title + ": " + ", ".join(f"`{code}`" for code in details),
        "content": {
            "application/problem+json": {
                "schema": {"allOf": [{"$ref": reference_to(ProblemShape)}, codes]},
                "examples": examples,
            }
        },
    }
    if header := {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}.get(status):
        response["headers"] = {header: {"schema": {"type": "string"}}}
    return response


def _problem_example(status: int, title: str, code: str, detail: str) -> Json:
    problem: Json = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    if code == errors.ValidationFailed.code:
        problem["detail"] = "name_of_the_field: what it must be"
        problem["errors"] = [{"field": "name_of_the_field", "message": "what it must be"}]
    return problem
