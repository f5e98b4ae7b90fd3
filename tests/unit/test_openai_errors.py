"""Errors in the form of OpenAI's clients."""

import json
from typing import Any

import pytest

from chatcore import errors
from chatcore.errors import ChatcoreError, FieldError
from chatcore.wire import problem
from chatcore_http.error_forms import form_of
from chatcore_http.protocols.openai.errors import told


def every(kind: type[ChatcoreError]) -> list[type[ChatcoreError]]:
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in every(child))]


@pytest.mark.parametrize("kind", [kind for kind in every(ChatcoreError) if hasattr(kind, "code")])
def test_each_error_has_the_form(kind: type[ChatcoreError]) -> None:
    error = kind()
    answer = told(problem(error))
    assert answer.media_type == "application/json"
    assert answer.status in (error.status, 400, 429)
    shown = json.loads(answer.body)
    assert set(shown) == {"error"}
    assert shown["error"]["message"] == error.detail
    assert (shown["error"]["code"], shown["error"]["type"]) == (error.code, shown["error"]["type"])
    assert shown["error"]["type"].endswith("_error")
    retried = answer.status in (408, 409, 429) or answer.status >= 500
    assert ("X-Should-Retry" in answer.headers) is retried


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (errors.ConversationBusy(), "true"),
        (errors.UsernameTaken(), "false"),
        (errors.RateLimited(retry_after=2), "true"),
        (errors.RateLimited(retry_after=3600), "false"),
        (errors.Unavailable(), "true"),
        (errors.ModelUnavailable(), "true"),
        (errors.ModelTimeout(), "true"),
        (errors.ModelUnauthorized(), "false"),
        (errors.ModelURLRefused(), "false"),
    ],
)
def test_it_says_whether_waiting_helps(error: ChatcoreError, again: str) -> None:
    assert told(problem(error)).headers["X-Should-Retry"] == again


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.ValidationFailed([FieldError("store", "is not supported")]), (400, "invalid_request_error", "store")),
        (errors.Unauthenticated(), (401, "authentication_error", None)),
        (errors.Forbidden(), (403, "permission_error", None)),
        (errors.RateLimited(), (429, "rate_limit_error", None)),
        (errors.ModelContextLength(), (400, "invalid_request_error", None)),
        (errors.ModelRateLimited(), (429, "rate_limit_error", None)),
        (errors.ModelNotFound(), (502, "server_error", "model")),
        (ValueError("a secret"), (500, "server_error", None)),
    ],
)
def test_status_type_and_param(error: Exception, expected: tuple[Any, ...]) -> None:
    answer = told(problem(error))
    shown = json.loads(answer.body)["error"]
    assert (answer.status, shown["type"], shown["param"]) == expected
    assert "a secret" not in shown["message"]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/v1/unknown", "/v1/chatsome", "/v1/a\nb"])
def test_routes_of_openai_have_their_own_form(path: str) -> None:
    assert form_of(path) is told


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/v1/auth/token", "/v1/chats", "/v1/chats/1", "/chat", "/v10/x"])
def test_all_others_have_problems(path: str) -> None:
    assert form_of(path) is None
