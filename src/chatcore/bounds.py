"""Bounds of the use cases' parameters, as data: the use case that declares a bound checks it, and the edges describe it
to their users."""

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, TypeVar, cast
from urllib.parse import urlsplit

from chatcore.entities import (
    MAX_NAME,
    MAX_PASSWORD,
    MAX_TYPED,
    ROLES,
    Image,
    Profile,
    identity_key,
    normal_password,
)
from chatcore.errors import FieldError, ValidationFailed

V = TypeVar("V", contravariant=True)


def check(*broken: FieldError | None) -> None:
    """Raise `ValidationFailed` with every broken rule, if any."""
    errors = [error for error in broken if error is not None]
    if errors:
        raise ValidationFailed(errors)


def need(**values: object) -> None:
    """Raise `ValidationFailed` for what is absent."""
    check(*(FieldError(name, "is required") for name, value in values.items() if value is None))


class Bound(ABC, Generic[V]):
    """A rule for one value."""

    __slots__ = ()

    @abstractmethod
    def broken(self, value: V, field: str) -> FieldError | None:
        """Return the error of this value, which the caller calls `field`, or None."""


class Bounds(Mapping[str, Bound[Any]]):
    """The bounds of a use case's parameters, by name: `Bounds(limit=Range(1, 100))`."""

    def __init__(self, **bounds: Bound[Any]) -> None:
        self._bounds = bounds

    def __getitem__(self, name: str) -> Bound[Any]:
        return self._bounds[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._bounds)

    def __len__(self) -> int:
        return len(self._bounds)

    def broken(self, **values: object) -> Iterator[FieldError | None]:
        """Yield results for `check`. None is an absent value."""
        for name, value in values.items():
            yield None if value is None else self[name].broken(value, name)

    def check(self, **values: object) -> None:
        """Raise `ValidationFailed`."""
        check(*self.broken(**values))


# ---- kinds -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Range(Bound[float]):
    """A number from `minimum` to `maximum`."""

    minimum: float
    maximum: float

    def broken(self, value: Any, field: str) -> FieldError | None:
        if isinstance(value, int | float) and self.minimum <= value <= self.maximum:
            return None
        return FieldError(field, f"must be between {self.minimum} and {self.maximum}")


@dataclass(frozen=True, slots=True)
class Count(Bound[Sequence[object]]):
    """A list of `minimum` to `maximum` things."""

    minimum: int
    maximum: int

    def broken(self, value: Sequence[object], field: str) -> FieldError | None:
        if self.minimum <= len(value) <= self.maximum:
            return None
        return FieldError(field, f"must be {self.minimum} to {self.maximum} items")


@dataclass(frozen=True, slots=True)
class OneOf(Bound[str]):
    words: frozenset[str]

    def broken(self, value: str, field: str) -> FieldError | None:
        return None if value in self.words else FieldError(field, f"must be one of: {', '.join(sorted(self.words))}")


@dataclass(frozen=True, slots=True)
class Text(Bound[str]):
    """`minimum` to `maximum` code points; where there is a minimum, not only white space."""

    minimum: int
    maximum: int

    def broken(self, value: Any, field: str) -> FieldError | None:
        if not isinstance(value, str):
            return FieldError(field, "must be text")
        if len(value) > self.maximum:
            return FieldError(field, f"must be at most {self.maximum} characters")
        if not _storable(value):
            return FieldError(field, "must not contain NUL or unpaired surrogates")
        if self.minimum and not value.strip():
            return FieldError(field, "must not be empty")
        return None


@dataclass(frozen=True, slots=True)
class Pairs(Bound[Mapping[str, object]]):
    """At most `most` pairs: names of 1 to `name` code points, with values of at most `value`."""

    most: int
    name: int
    value: int

    def broken(self, value: Mapping[str, object], field: str) -> FieldError | None:
        name, said = Text(1, self.name), Text(0, self.value)
        if len(value) <= self.most and all(
            isinstance(text, str) and not name.broken(key, field) and not said.broken(text, field)
            for key, text in value.items()
        ):
            return None
        lengths = f"names of 1 to {self.name} characters and values of at most {self.value}"
        return FieldError(field, f"must be at most {self.most} pairs, with {lengths}")


@dataclass(frozen=True, slots=True)
class Images(Bound[Sequence[Image]]):
    """At most `most` images of these kinds (`image/png`), each of 1 to `size` bytes, all of them at most `total`."""

    kinds: frozenset[str]
    most: int
    size: int
    total: int

    def broken(self, value: Sequence[Image], field: str) -> FieldError | None:
        if len(value) > self.most:
            return FieldError(field, f"must be at most {self.most}")
        if not all(1 <= len(image.data) <= self.size for image in value):
            return FieldError(field, f"must each have 1 to {self.size} bytes")
        if sum(len(image.data) for image in value) > self.total:
            return FieldError(field, f"must have at most {self.total} bytes together")
        if not all(image.media_type in self.kinds for image in value):
            return FieldError(field, f"must be of these kinds: {', '.join(sorted(self.kinds))}")
        if not all(image.detail in (None, "auto", "low", "high") for image in value):
            return FieldError(field, "must have the detail auto, low or high, or none")
        return None


@dataclass(frozen=True, slots=True)
class Nested(Bound[object]):
    """JSON with at most `deepest` levels of lists and objects: what writes it takes a stack for each."""

    deepest: int

    def broken(self, value: object, field: str) -> FieldError | None:
        level = [value]
        for _ in range(self.deepest + 1):
            level = [below for each in level for below in _inside(each)]
            if not level:
                return None
        return FieldError(field, f"must be nested at most {self.deepest} deep")


def _inside(value: Any) -> Iterable[object]:
    """Return what a list or an object holds."""
    if isinstance(value, Mapping):
        return cast("Mapping[str, object]", value).values()
    return cast("Sequence[object]", value) if isinstance(value, list | tuple) else ()


class Said(Text):
    """What a message says. It may be empty where there are images."""

    __slots__ = ()


class Username(Text):
    """Visible characters, as many also once normalised; no `@`, so that a name is never taken for an address."""

    __slots__ = ()

    def broken(self, value: str, field: str) -> FieldError | None:
        if self._has_length(value) and self._is_visible(value, identity_key(value)):
            return None
        return FieldError(field, f"must be {self.minimum} to {self.maximum} visible characters without spaces or '@'")

    def _has_length(self, name: str) -> bool:
        return self.minimum <= len(name) <= self.maximum

    def _is_visible(self, name: str, key: str) -> bool:
        visible = all(unicodedata.category(character)[0] not in "CZ" for character in name + key)
        visible = visible and not _INVISIBLE.search(name + key)
        return visible and "@" not in key and self._has_length(key)


class Email(Text):
    """The form `local@domain.tld` (RFC 5321); its existence is not checked."""

    __slots__ = ()
    pattern: ClassVar[str] = r"[^\s@\x00-\x1f\x7f]{1,64}@[^\s@\x00-\x1f\x7f]{1,187}\.[^\s@.\x00-\x1f\x7f]{2,}"
    """A regular expression, also in JavaScript."""

    def broken(self, value: str, field: str) -> FieldError | None:
        wellformed = len(value) <= self.maximum and re.fullmatch(self.pattern, value) and _storable(value)
        if wellformed and len(identity_key(value)) <= self.maximum:
            return None
        return FieldError(field, f"must be an e-mail address of at most {self.maximum} characters")


class Password(Text):
    """As it is typed. After NFC it has at least `minimum` code points and at most 1,024; nothing is truncated, and any
    character will do (ASVS 6.2.1, 6.2.9)."""

    __slots__ = ()

    def broken(self, value: str, field: str) -> FieldError | None:
        if self.minimum <= len(normal_password(value)) <= MAX_PASSWORD and not _SURROGATE.search(value):
            return None
        return FieldError(field, f"must be {self.minimum} to {MAX_PASSWORD} characters")


class ModelUrl(Text):
    """An absolute http or https URL of printable ASCII characters.

    No user info, fragment, zone of a network or query but Azure's `api-version`: the gateway appends a path, and a
    secret in a URL ends up in logs. Whether the host may be called is the egress guard's question.
    """

    __slots__ = ()

    def broken(self, value: str, field: str) -> FieldError | None:
        if not self._is_absolute(value):
            return FieldError(field, "must be an http(s) URL such as https://api.openai.com/v1")
        if "?" in value and not _AZURE_QUERY.fullmatch(urlsplit(value).query):
            allowed = "but for Azure's ?api-version=…; the key is a field of its own"
            return FieldError(field, f"must have no query, {allowed}")
        return None

    def _is_absolute(self, url: str) -> bool:
        if len(url) > self.maximum or not re.fullmatch(r"[!-\[\]-~]+", url):
            return False
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            return False
        plain = "@" not in parts.netloc and "%" not in parts.netloc and "#" not in url
        return plain and parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0


class ModelName(Text):
    """On one line."""

    __slots__ = ()

    def broken(self, value: str, field: str) -> FieldError | None:
        broken = super().broken(value, field)
        if broken is None and not value.isprintable():
            return FieldError(field, "must be one line of visible characters, such as gpt-4o-mini")
        return broken


class MediaType(Text):
    """`type/subtype` (RFC 9110 §8.3.1), perhaps with parameters, on one line."""

    __slots__ = ()

    def broken(self, value: str, field: str) -> FieldError | None:
        if len(value) <= self.maximum and _MEDIA_TYPE.fullmatch(value):
            return None
        return FieldError(field, f"must be a media type such as text/plain, of at most {self.maximum} characters")


class ApiKey(Text):
    """Printable ASCII characters: it travels in an HTTP header."""

    __slots__ = ()

    def broken(self, value: str, field: str) -> FieldError | None:
        if len(value) <= self.maximum and value.isascii() and value.isprintable() and " " not in value:
            return None
        return FieldError(field, f"must be at most {self.maximum} printable ASCII characters without spaces")


# ---- what several use cases share ------------------------------------------------------------------------

USERNAME = Username(3, 64)
EMAIL = Email(6, MAX_NAME)
PASSWORD = Password(1, MAX_TYPED)
ROLE = OneOf(ROLES)
PROFILE = Bounds(**dict.fromkeys((field.name for field in fields(Profile)), Text(0, 200)))
MODEL = Bounds(model_url=ModelUrl(1, 2048), model_name=ModelName(1, 200), api_key=ApiKey(0, 4096))
METADATA = Pairs(16, 64, 512)
MAX_IMAGE = 5 * 1024 * 1024
"""Bytes of one image."""
IMAGES = Images(frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"}), 10, MAX_IMAGE, 20 * 1024 * 1024)
JSON = Nested(100)
PAGE = Bounds(limit=Range(1, 100), offset=Range(0, 1_000_000))


# ---- characters ------------------------------------------------------------------------------------------

# Letters, marks and symbols that show nothing: of Default_Ignorable_Code_Point (UAX #44) what is of none of the
# categories that are refused anyway, and the empty Braille pattern.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_AZURE_QUERY = re.compile(r"api-version=[\w.-]{1,64}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(; ?[ -~]*)?", re.ASCII)


def _storable(text: str) -> bool:
    if "\0" in text:
        return False
    try:
        text.encode()  # twenty times as fast as to search for what cannot be encoded
    except UnicodeEncodeError:
        return False
    return True
