"""All errors that chatcore raises on purpose, as one tree.

    ChatcoreError
    ├── ValidationFailed           a value breaks a rule; names the fields
    ├── ModelNotConfigured         no model is configured
    ├── Unauthenticated            no valid session behind the request
    │   ├── InvalidCredentials     unknown name or wrong password: the same error for both
    │   └── InsufficientUserAuthentication   the last password check is too long ago (RFC 9470)
    ├── Forbidden
    │   ├── AccountDisabled
    │   ├── InsufficientScope      the personal API key does not open this
    │   └── Refused                an embedding program's hook refused; it chooses the code
    ├── NotFound                   missing, or another user's: the two look the same
    │   └── UnknownModel           a request names a model that neither the user nor the server has
    ├── Conflict
    │   ├── UsernameTaken
    │   ├── EmailTaken
    │   ├── TooManyApiKeys
    │   ├── LastAdmin              no active administrator would remain
    │   └── ConversationBusy       a reply is in progress there
    ├── IdempotencyKeyReused       the key was sent with another body
    ├── StorageFull                the user's storage is full
    ├── RateLimited                too many attempts, or too many at once
    ├── Unavailable                a part of the system is down or shutting down; try again later
    │   ├── ReadOnly               the database answers, but takes no changes
    │   ├── NotMigrated            the database's tables are missing or older than this release
    │   └── Contention             the database rolled the unit of work back because of another: nothing is stored
    └── ModelError                 the model failed; its partial text is kept
        ├── ModelUnauthorized      the endpoint refused the key
        ├── ModelPaymentRequired   the account there has no credit left
        ├── ModelNotFound          the endpoint has no such model or URL
        ├── ModelRateLimited
        ├── ModelRefused           the endpoint refused this request
        ├── ModelContextLength     the conversation is longer than the model's context
        ├── ModelEmpty             the model finished without an answer
        ├── ModelUnavailable       unreachable, or failing
        ├── ModelProtocolError     the answer is not an OpenAI-compatible stream
        ├── ModelURLRefused        the server may not call the URL
        └── ModelTimeout

Every class has a stable `code` for clients, and every instance a `detail`: a sentence for a person, without secrets and
without text of a foreign server.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias


class ChatcoreError(Exception):
    """The root. `code` is stable; `detail` may change with any release. `status`: the HTTP status that fits."""

    status: ClassVar[int] = 500
    code: str
    default_detail: ClassVar[str]

    def __init__(self, detail: str | None = None) -> None:
        self.detail: str = detail or self.default_detail
        super().__init__(self.detail)


Raises: TypeAlias = tuple[type[ChatcoreError], ...]
"""The errors that a use case declares; a class stands for all that have its `code`."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One broken rule: the field's name as the caller wrote it, and what its value must be."""

    field: str
    message: str


class ValidationFailed(ChatcoreError):
    """One or more values break a rule; `errors` names each field."""

    status = 400
    code = "validation_failed"
    default_detail = "The request is not valid."

    def __init__(self, errors: Sequence[FieldError] = (), detail: str | None = None) -> None:
        """Of `errors` the first 20 are kept, with names and messages of at most 500 characters: both may be a client's
        own words."""
        self.errors: tuple[FieldError, ...] = tuple(
            replace(each, field=each.field[:500], message=each.message[:500]) for each in errors[:20]
        )
        super().__init__(detail or "; ".join(f"{error.field}: {error.message}" for error in self.errors))

    def renamed(self, names: Mapping[str, str]) -> "ValidationFailed":
        """Return the error with a client's names of the fields."""
        if not self.errors or not names:
            return self
        return ValidationFailed([FieldError(names.get(each.field, each.field), each.message) for each in self.errors])


class ModelNotConfigured(ChatcoreError):
    status = 400
    code = "model_not_configured"
    default_detail = "No model is configured. Create a model configuration first."


class Unauthenticated(ChatcoreError):
    status = 401
    code = "unauthenticated"
    default_detail = "Sign in first: the token is missing, expired or revoked."


class InvalidCredentials(Unauthenticated):
    code = "invalid_credentials"
    default_detail = "The name or the password is wrong."


class InsufficientUserAuthentication(Unauthenticated):
    code = "insufficient_user_authentication"
    default_detail = "Send current_password as well: the last password check is too long ago."


class Forbidden(ChatcoreError):
    status = 403
    code = "forbidden"
    default_detail = "You may not do this."


class AccountDisabled(Forbidden):
    code = "account_disabled"
    default_detail = "This account is disabled."


class InsufficientScope(Forbidden):
    """`scope`: the one that would do; None where no API key would (RFC 6750 §3.1)."""

    code = "scope_missing"
    default_detail = "An API key does not open this. Sign in, and send the access token."

    def __init__(self, scope: str | None = None) -> None:
        self.scope = scope
        super().__init__(scope and f"The API key lacks the scope `{scope}`.")


class Refused(Forbidden):
    """What a hook raises to refuse a message, an answer or a call. `code`: one that the program's clients know."""

    code: str = "refused"
    default_detail = "This was refused."

    def __init__(self, detail: str | None = None, *, code: str = "refused") -> None:
        super().__init__(detail)
        self.code = code


class NotFound(ChatcoreError):
    status = 404
    code = "not_found"
    default_detail = "Not found."


class UnknownModel(NotFound):
    code = "model_not_found"
    default_detail = "There is no such model. GET /v1/models lists those that you have."


class Conflict(ChatcoreError):
    """The request conflicts with what is stored."""

    status = 409
    code = "conflict"
    default_detail = "This conflicts with what is stored."


class UsernameTaken(Conflict):
    code = "username_taken"
    default_detail = "This username is taken."


class EmailTaken(Conflict):
    code = "email_taken"
    default_detail = "This e-mail address is taken."


class LastAdmin(Conflict):
    code = "last_admin"
    default_detail = "This is the last active administrator. Make another one first."


class TooManyModelConfigs(Conflict):
    code = "too_many_model_configs"
    default_detail = "You have the maximum number of model configurations. Delete one first."


class TooManyApiKeys(Conflict):
    code = "too_many_api_keys"
    default_detail = "You have the maximum number of API keys. Revoke one first."


class TooManyFiles(Conflict):
    code = "too_many_files"
    default_detail = "You have the maximum number of files. Delete one first."


class ConversationBusy(Conflict):
    code = "conversation_busy"
    default_detail = "A reply is in progress in this conversation. Wait for it or stop it."


class IdempotencyKeyReused(ChatcoreError):
    status = 422
    code = "idempotency_key_reused"
    default_detail = "This idempotency key was sent with another body. Use a new key for a new message."


class StorageFull(ChatcoreError):
    status = 413
    code = "storage_full"
    default_detail = "Your storage is full. Delete conversations that you no longer need."


class FileTooLarge(ChatcoreError):
    """`at_most`: bytes that a file may have."""

    status = 413
    code = "file_too_large"
    default_detail = "The file is too large."

    def __init__(self, at_most: int | None = None) -> None:
        super().__init__(None if at_most is None else f"The file is too large: at most {at_most} bytes are stored.")


class RateLimited(ChatcoreError):
    """`retry_after`: whole seconds to wait before another attempt."""

    status = 429
    code = "rate_limited"
    default_detail = "Too many attempts. Try again later."

    def __init__(self, detail: str | None = None, retry_after: int = 60) -> None:
        self.retry_after = retry_after
        super().__init__(detail)


class Unavailable(ChatcoreError):
    """`retry_after`: whole seconds to wait before another attempt."""

    status = 503
    code = "unavailable"
    default_detail = "The service is not available right now. Try again shortly."

    def __init__(self, detail: str | None = None, *, retry_after: int = 2) -> None:
        self.retry_after = retry_after
        super().__init__(detail)


class ReadOnly(Unavailable):
    """The database answers but is read-only, as during a fail-over."""

    default_detail = "The service accepts no changes right now. Try again shortly."


class NotMigrated(Unavailable):
    """The database lacks tables or columns that this release needs, or has another program's under their names."""

    default_detail = "The database's tables are not up to date. Run: chatcore migrate"


class Contention(Unavailable):
    """The database rolled a unit of work back, because of a deadlock or a lock held too long by another. Nothing of it
    is stored, so it can run again (`shielding.retry_on_contention`)."""

    default_detail = "Too many changes to this at once. Try again shortly."


class ModelError(ChatcoreError):
    """The model failed. The reply keeps its partial text and stores `code` and `detail`."""

    status = 502
    code = "model_unavailable"
    default_detail = "The model is not available."


class ModelUnauthorized(ModelError):
    code = "model_unauthorized"
    default_detail = "The model endpoint refused the API key."


class ModelPaymentRequired(ModelError):
    code = "model_payment_required"
    default_detail = "The account at the model endpoint has no credit left."


class ModelNotFound(ModelError):
    code = "model_not_found"
    default_detail = "The model endpoint has no such model or URL."


class ModelRateLimited(ModelError):
    code = "model_rate_limited"
    default_detail = "The model endpoint limits the rate. Try again later."


class ModelRefused(ModelError):
    code = "model_refused"
    default_detail = "The model endpoint refused this request."


class ModelRefusesImages(ModelError):
    code = "model_no_images"
    default_detail = (
        "The model does not take the images of this conversation. Choose a model that reads images, or edit the message"
        " that has them."
    )


class ModelContextLength(ModelError):
    code = "model_context_length"
    default_detail = "The conversation is too long for this model. Start a new one, or use a model with more context."


class ModelEmpty(ModelError):
    code = "model_empty"
    default_detail = "The model finished without an answer."


class ModelUnavailable(ModelError):
    code = "model_unavailable"
    default_detail = "The model endpoint cannot be reached or is failing."


class ModelProtocolError(ModelError):
    code = "model_protocol"
    default_detail = "The model endpoint did not answer with an OpenAI-compatible stream."


class ModelURLRefused(ModelError):
    code = "model_url_refused"
    default_detail = "The server may not call this model URL."


class ModelTimeout(ModelError):
    status = 504
    code = "model_timeout"
    default_detail = "The model took too long."
