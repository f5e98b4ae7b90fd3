"""What went wrong at a model endpoint, as the core's errors. The sentences are ours: nothing that the endpoint
wrote gets into an error, where it would be shown and stored. The log has it, without secrets (`words_for_log`)."""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from urllib.parse import urlsplit

import msgspec

from chatcore.errors import (
    ModelContextLength,
    ModelError,
    ModelNotFound,
    ModelPaymentRequired,
    ModelRateLimited,
    ModelRefused,
    ModelRefusesImages,
    ModelUnauthorized,
    ModelUnavailable,
    ModelURLRefused,
)
from chatcore.ports import ImagePart, ModelEndpoint, Prompt
from chatcore_openai.chunks import Fault, decode_odd

_BY_STATUS: Mapping[int, type[ModelError]] = {
    401: ModelUnauthorized,
    402: ModelPaymentRequired,
    403: ModelUnauthorized,
    404: ModelNotFound,
    413: ModelContextLength,
    429: ModelRateLimited,
}

# `code` and `type` of error objects, as OpenAI and those who follow it use them.
_BY_WORD: Mapping[str, type[ModelError]] = {
    "invalid_api_key": ModelUnauthorized,
    "authentication_error": ModelUnauthorized,
    "permission_error": ModelUnauthorized,
    "model_not_found": ModelNotFound,
    "model_decommissioned": ModelNotFound,
    "not_found_error": ModelNotFound,
    "rate_limit_exceeded": ModelRateLimited,
    "rate_limit_error": ModelRateLimited,
    "resource_exhausted": ModelRateLimited,
    "insufficient_quota": ModelPaymentRequired,
    "insufficient_balance": ModelPaymentRequired,
    "billing_hard_limit_reached": ModelPaymentRequired,
    "billing_not_active": ModelPaymentRequired,
    "budget_exceeded": ModelPaymentRequired,
    "1113": ModelPaymentRequired,  # Zhipu's
    "context_length_exceeded": ModelContextLength,
    "exceed_context_size_error": ModelContextLength,
    "string_above_max_length": ModelContextLength,
    "content_filter": ModelRefused,
    "content_policy_violation": ModelRefused,
}
_BY_TYPE: Mapping[str, type[ModelError]] = {"invalid_request_error": ModelRefused, "invalid_argument": ModelRefused}

# What servers write where the status says little.
_TELLING_LITTLE = (None, 400, 403, 422)
_SPENT = r"insufficient.{0,10}(balance|quota|credit|funds)|credit balance|out of credits|budget has been exceeded"
_BY_MESSAGE: Mapping[type[ModelError], Sequence[str]] = {
    ModelRefused: (r"requires moderation|input was flagged",),
    ModelContextLength: (
        r"context.?(length|window|size|limit)|maximum context|(prompt|input) is too long|too many tokens",
        r"(input|prompt) tokens? .{0,40}exceed|reduce the length of the (messages|prompt)",
        r"tokens . .max_new_tokens. must be",
    ),
    ModelUnauthorized: (
        r"api[ _-]?key.{0,20}\b(invalid|not valid|incorrect|missing|expired|required)",
        r"\b(invalid|incorrect|wrong|missing|no|expired) (x-)?api[ _-]?key|invalid (auth|access|bearer)",
        r"\b(unauthori[sz]ed|unauthenticated|authentication (failed|required))",
    ),
    ModelPaymentRequired: (
        _SPENT,
        r"billing|payment required|key limit exceeded",
    ),
    ModelNotFound: (
        r"model\b.{0,120}\b(does not exist|not found|is not a valid model|unknown model)",
        r"\b(unknown|invalid|no such) model\b|model\b.{0,120}\bis not loaded",
    ),
}
_PATTERNS = {kind: re.compile("|".join(parts), re.IGNORECASE) for kind, parts in _BY_MESSAGE.items()}

# What OpenAI, vLLM, llama.cpp, Ollama, Mistral, DeepSeek, OpenRouter and Groq say of images that a model does not take.
_OF_IMAGES = re.compile(
    r"image|vision|multi-?modal|content must be a string|(content|type)\W.{0,80}should be .{0,10}(string|'text')",
    re.IGNORECASE,
)
_REFUSING_IMAGES = (400, 404, 415, 422, 500)
_OUTPUT_LIMIT = re.compile(r"max_tokens or model output limit was reached", re.IGNORECASE)
_TOKENS = (
    r"\b(?:sk|pk|rk|gsk|xai|hf|ck|key)[-_][\w\-*.]{4,}|\b(?:AIza|eyJ)[\w\-.]{6,}",
    r"\bbearer \S{6,}|\b(?=\w*\d)[\w\-]{24,}",
)
_TOKEN = re.compile("|".join(_TOKENS), re.IGNORECASE)
_MAX_PAUSE = 60  # seconds
_LOGGED = 300  # characters
_READ = 4 * 1024  # characters that are looked through before the others are thrown away
_SHOWN = 2000
_TELLING = 32  # characters by which a secret is known that is cut
_MARK = "[redacted]"


class Refusal(Exception):
    """An answer with a status that is no success, and the beginning of its body. `retry_after`: seconds, if it says.
    `request_id`: the endpoint's own name for the call."""

    def __init__(self, status: int, body: bytes = b"", retry_after: float | None = None, request_id: str = "") -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.request_id = request_id
        self.words: str = body.decode(errors="replace")
        self.retry_after = retry_after
        self.fault: Fault = _fault_in(body)

    @property
    def failure(self) -> ModelError:
        return failure_of_fault(self.fault, self.status)

    def failure_for(self, prompt: Prompt) -> ModelError:
        """As `failure`, of the answer to this prompt."""
        failure = self.failure
        unclear = isinstance(failure, ModelRefused | ModelNotFound | ModelUnavailable)
        if unclear and self.status in _REFUSING_IMAGES and _has_images(prompt) and _OF_IMAGES.search(self.words):
            return ModelRefusesImages()
        return failure

    @property
    def pause(self) -> float:
        """Seconds after which it makes sense to ask once more; `inf` if it does not."""
        if self.status in (429, 503) and self.retry_after is not None and self.retry_after <= _MAX_PAUSE:
            return inf if isinstance(self.failure, ModelPaymentRequired) else self.retry_after
        return inf

    @property
    def ran_out_of_tokens(self) -> bool:
        """Whether the model did answer, with all the tokens that it had. OpenAI calls that a bad request."""
        return self.status == 400 and bool(_OUTPUT_LIMIT.search(self.words))


def failure_of_fault(fault: Fault, status: int | None = None) -> ModelError:
    """For the error object of an answer with this HTTP status, or of an event: what is most telling comes first."""
    for word in (fault.code, fault.type, fault.status):
        if isinstance(word, str) and (kind := _BY_WORD.get(word.lower())):
            return kind()
    status = next((found for found in map(_status, (fault.code, fault.status, status)) if found), None)
    message = f"{fault.code} {fault.message}"[:_SHOWN]
    if status in _TELLING_LITTLE and (kind := _kind_of_message(message)):
        return kind()
    if status == 429 and re.search(_SPENT, message, re.IGNORECASE):
        return ModelPaymentRequired()
    if status is not None:
        return failure_of_status(status)
    if kind := _BY_TYPE.get((fault.type or "").lower()):
        return kind()
    return ModelUnavailable("The model endpoint reported a failure in the middle of the reply.")


def failure_of_status(status: int) -> ModelError:
    """For any HTTP status but a success. Redirects are not followed: where they lead is the endpoint's choice."""
    if status in _BY_STATUS:
        return _BY_STATUS[status]()
    if 300 <= status < 400:
        return ModelURLRefused("The model URL redirects elsewhere. Configure the URL that it leads to.")
    if 400 <= status < 500:
        return ModelRefused()
    return ModelUnavailable()


def words_for_log(words: str, endpoint: ModelEndpoint, prompt: Prompt | None = None) -> str:
    """What an endpoint wrote, on one line, cut, and without the key or what it was sent. Where only the beginning of
    that is there, what follows is left out."""
    words = words[:_READ]
    for secret in _secrets(endpoint, prompt):
        words = words.replace(secret, _MARK)
        known, cut, _ = words.partition(secret[:_TELLING])
        words = known + _MARK if cut else words
    words = _TOKEN.sub(_MARK, words[:_SHOWN])
    shown = "".join(" " if unicodedata.category(character)[0] in "CZ" else character for character in words)
    return " ".join(shown.split())[:_LOGGED]


def host_of(endpoint: ModelEndpoint) -> str:
    return urlsplit(endpoint.url).hostname or ""


def _secrets(endpoint: ModelEndpoint, prompt: Prompt | None) -> Iterable[str]:
    if endpoint.api_key:
        yield endpoint.api_key
    for message in prompt.messages if prompt else ():
        if len(text := message.text) >= 8:  # shorter ones are words that anybody uses
            yield text[:_READ]
            yield json.dumps(text[:_READ])[1:-1]


def _has_images(prompt: Prompt) -> bool:
    return any(isinstance(part, ImagePart) for message in prompt.messages for part in message.content)


def _kind_of_message(message: str) -> type[ModelError] | None:
    return next((kind for kind, pattern in _PATTERNS.items() if pattern.search(message)), None)


class _Problem(msgspec.Struct):
    msg: str = ""


class _Details(msgspec.Struct):
    """FastAPI's form; what it says of the input is not taken, for that is the prompt."""

    detail: str | list[_Problem] = ""
    message: str = ""


def _fault_in(body: bytes) -> Fault:
    """Of a body that holds no error object the details are the message; of one that is no JSON, all of it."""
    try:
        return decode_odd(body).fault or Fault(message=_details_in(body))
    except (ValueError, RecursionError):
        return Fault(message=body.decode(errors="replace"))


def _details_in(body: bytes) -> str:
    try:
        found = msgspec.json.decode(body, type=_Details)
    except msgspec.ValidationError:
        return ""
    parts = [found.detail] if isinstance(found.detail, str) else [problem.msg for problem in found.detail]
    return " ".join([*parts, found.message])


def _status(word: object) -> int | None:
    if isinstance(word, str) and len(word) == 3 and word.isascii() and word.isdigit():
        word = int(word)
    return word if isinstance(word, int) and 300 <= word < 600 else None
