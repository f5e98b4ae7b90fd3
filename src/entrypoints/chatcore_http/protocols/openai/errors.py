"""Errors as OpenAI's clients read them: `{"error": {"message", "type", "param", "code"}}`."""

from chatcore.wire import Json, Problem, encoded
from chatcore_http.protocols.frames import frame
from chatcore_http.protocols.told import Told

LONGEST_WAIT = 120
"""Seconds of `Retry-After` beyond which the clients wait a moment of their own instead."""

_STATUS = {"model_refused": 400, "model_context_length": 400, "model_rate_limited": 429}
"""Where the clients have a class for what our status says of no model."""

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_MODEL = "model_not_found"
_RETRIED = (408, 409, 429)  # clients retry these and 5xx, unless a header says otherwise
_WORTH_ANOTHER_TRY = frozenset(
    {
        "conversation_busy",
        "internal",
        "model_rate_limited",
        "model_timeout",
        "model_unavailable",
        "rate_limited",
        "request_timeout",
        "unavailable",
    }
)


def told(problem: Problem) -> Told:
    status = status_of(problem)
    headers = {"X-Should-Retry": str(_is_worth_another_try(problem)).lower()} if _may_be_retried(status) else {}
    return Told(status, encoded({"error": error_object(problem)}), headers=headers)


def status_of(problem: Problem) -> int:
    return _STATUS.get(problem.code, problem.status)


def error_object(problem: Problem) -> Json:
    """Return the value of `error`, which an event of a stream may have, too."""
    return {
        "message": problem.detail,
        "type": type_of(status_of(problem)),
        "param": _param_of(problem),
        "code": problem.code,
    }


def error_event(problem: Problem) -> bytes:
    """Return the last event of a stream of chunks that breaks."""
    return frame(encoded({"error": error_object(problem)}).decode())


def type_of(status: int) -> str:
    return "server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error")


def _param_of(problem: Problem) -> str | None:
    """Return the first field that breaks a rule."""
    if problem.errors:
        return problem.errors[0].field
    return "model" if problem.code == _MODEL else None


def _may_be_retried(status: int) -> bool:
    return status in _RETRIED or status >= 500


def _is_worth_another_try(problem: Problem) -> bool:
    return problem.code in _WORTH_ANOTHER_TRY and (problem.retry_after or 0) <= LONGEST_WAIT
