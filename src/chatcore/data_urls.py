"""Images as clients send them: data URLs (RFC 2397)."""

import re
from asyncio import sleep
from binascii import a2b_base64
from collections.abc import Sequence

from chatcore.bounds import IMAGES, MAX_IMAGE, check
from chatcore.entities import Image
from chatcore.errors import FieldError, ValidationFailed

_HEAD = re.compile(r"data:(image/[a-z0-9.+-]{1,100});base64,", re.ASCII)
_LONGEST_HEAD = 200
_SLICE = 1024 * 1024  # characters that are decoded at once, a multiple of 4


async def image_of(url: str, *, name: str) -> Image:
    """Return the image of a data URL; other requests have their turn meanwhile. Raise `ValidationFailed`, which names
    the field `name`, for any other text."""
    head = _HEAD.match(url, 0, _LONGEST_HEAD)
    if url.startswith(("https:", "http:")):
        raise ValidationFailed([FieldError(name, "is not fetched: send the image itself, as a data URL")])
    if head is None:
        raise ValidationFailed([FieldError(name, "must be an image as a data URL: data:image/png;base64,…")])
    if (len(url) - head.end()) // 4 * 3 - 2 > MAX_IMAGE:
        raise ValidationFailed([FieldError(name, f"must be at most {MAX_IMAGE} bytes")])
    try:
        return Image(head[1], await decoded(url, head.end()))
    except ValueError:
        raise ValidationFailed([FieldError(name, "must be an image in valid base64")]) from None


async def decoded(text: str, start: int = 0) -> bytes:
    """Return what is base64 in a text from `start` on, in slices as `image_of`. Raise `ValueError`."""
    if "=" in text[start:-2]:
        raise ValueError
    parts = list[bytes]()
    for begin in range(start, len(text), _SLICE):
        parts.append(a2b_base64(text[begin : begin + _SLICE], strict_mode=True))
        await sleep(0)
    return b"".join(parts)


async def add_image(images: list[Image], url: str, *, name: str) -> None:
    """Append the image of a data URL. Raise `ValidationFailed`, also for one
    image too many."""
    check(FieldError(name, f"must be one of at most {IMAGES.most} images") if len(images) >= IMAGES.most else None)
    images.append(await image_of(url, name=name))


async def images_of(urls: Sequence[str], *, name: str) -> Sequence[Image]:
    """Return the images of data URLs. Raise `ValidationFailed`."""
    check(FieldError(name, f"must be at most {IMAGES.most}") if len(urls) > IMAGES.most else None)
    images = list[Image]()
    for number, url in enumerate(urls):
        await add_image(images, url, name=f"{name}[{number}]")
    return images
