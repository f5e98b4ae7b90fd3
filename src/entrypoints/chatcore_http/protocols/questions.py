"""A user's message as a client sends it, and its images, which are data URLs (RFC 2397)."""

import binascii
import re
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field

from chatcore.errors import FieldError, ValidationFailed

MAX_IMAGE = 5 * 1024 * 1024
"""Bytes of one image."""

_HEAD = re.compile(r"data:(image/[a-z0-9.+-]{1,100});base64,", re.ASCII)
_LONGEST_HEAD = 200


@dataclass(frozen=True, slots=True)
class Image:
    media_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Question:
    """The user's message. `id` is the client's name for it."""

    id: str
    text: str
    images: Sequence[Image] = ()


def image_of(url: str, *, name: str) -> Image:
    """Return the image of a data URL. Raise `ValidationFailed`, which names the field `name`, for any other text."""
    head = _HEAD.match(url, 0, _LONGEST_HEAD)
    if head is None:
        raise ValidationFailed([FieldError(name, "must be an image as a data URL: data:image/png;base64,…")])
    if (len(url) - head.end()) // 4 * 3 - 2 > MAX_IMAGE:
        raise ValidationFailed([FieldError(name, f"must be at most {MAX_IMAGE} bytes")])
    try:
        data = b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise ValidationFailed([FieldError(name, "must be an image in valid base64")]) from None
    return Image(head[1], data)
