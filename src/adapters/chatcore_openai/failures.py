"""What went wrong at a model endpoint, as the core's errors. The sentences are ours: nothing that the endpoint
wrote gets into an error, where it would be shown, stored and logged."""

from collections.abc import Mapping
from typing import Any, cast

from chatcore.errors import (
    ModelError,
    ModelNotFound,
    ModelRateLimited,
    ModelRefused,
    ModelUnauthorized,
    ModelUnavailable,
    ModelURLRefused,
)

_BY_STATUS: Mapping[int, type[ModelError]] = {
    401: ModelUnauthorized,
    403: ModelUnauthorized,
    404: ModelNotFound,
    429: ModelRateLimited,
}

# `code` and `type` of error objects, as OpenAI and those who follow it use them.
_BY_WORD: Mapping[str, type[ModelError]] = {
    "invalid_api_key": ModelUnauthorized,
    "authentication_error": ModelUnauthorized,
    "permission_error": ModelUnauthorized,
    "model_not_found": ModelNotFound,
    "not_found_error": ModelNotFound,
    "rate_limit_exceeded": ModelRateLimited,
    "rate_limit_error": ModelRateLimited,
    "insufficient_quota": ModelRateLimited,
    "invalid_request_error": ModelRefused,
    "context_length_exceeded": ModelRefused,
    "content_filter": ModelRefused,
    "content_policy_violation": ModelRefused,
}


def failure_of_status(status: int) -> ModelError:
    """For any HTTP status but a success. Redirects are not followed: where they lead is the endpoint's choice."""
    if status in _BY_STATUS:
        return _BY_STATUS[status]()
    if 300 <= status < 400:
        return ModelURLRefused("The model URL redirects elsewhere. Configure the URL that it leads to.")
    if 400 <= status < 500:
        return ModelRefused()
    return ModelUnavailable()


def failure_of_error(error: object) -> ModelError:
    """For the `error` of an event: an object with a `code` (a word or an HTTP status) and a `type`, or anything."""
    if isinstance(error, dict):
        fields = cast("dict[str, Any]", error)
        for word in (fields.get("code"), fields.get("type")):
            if isinstance(word, str) and word in _BY_WORD:
                return _BY_WORD[word]()
            if (status := _status(word)) is not None:
                return failure_of_status(status)
    return ModelUnavailable("The model endpoint reported a failure in the middle of the reply.")


def _status(word: object) -> int | None:
    if isinstance(word, str) and len(word) == 3 and word.isascii() and word.isdigit():
        word = int(word)
    return word if isinstance(word, int) and 400 <= word < 600 else None
