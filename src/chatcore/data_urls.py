"""Images as clients send them: data URLs (RFC 2397)."""

import binascii
import re
from asyncio import sleep
from base64 import b64decode
from collections.abc import Sequence

from chatcore.bounds import IMAGES, MAX_IMAGE, check
from chatcore.entities import Image
from chatcore.errors import FieldError, ValidationFailed

_HEAD = re.compile(r"data:(image/[a-z0-9.+-]{1,100});base64,", re.ASCII)
_LONGEST_HEAD = 200


def image_of(url: str, *, name: str) -> Image:
    """Return the image of a data URL. Raise `ValidationFailed`, which names the field `name`, for any other text."""
    head = _HEAD.match(url, 0, _LONGEST_HEAD)
    if url.startswith(("https:", "http:")):
        raise ValidationFailed([FieldError(name, "is not fetched: send the image itself, as a data URL")])
    if head is None:
        raise ValidationFailed([FieldError(name, "must be an image as a data URL: data:image/png;base64,…")])
    if (len(url) - head.end()) // 4 * 3 - 2 > MAX_IMAGE:
        raise ValidationFailed([FieldError(name, f"must be at most {MAX_IMAGE} bytes")])
    try:
        data = b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise ValidationFailed([FieldError(name, "must be an image in valid base64")]) from None
    return Image(head[1], data)


async def images_of(urls: Sequence[str], *, name: str) -> Sequence[Image]:
    """Return the images of data URLs; other requests have their turn after each. Raise `ValidationFailed`."""
    check(FieldError(name, f"must be at most {IMAGES.most}") if len(urls) > IMAGES.most else None)
    images = list[Image]()
    for number, url in enumerate(urls):
        images.append(image_of(url, name=f"{name}[{number}]"))
        await sleep(0)
    return images
