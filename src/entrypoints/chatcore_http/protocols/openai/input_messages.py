"""Messages as OpenAI's clients send them: items of a response's input, and messages of Chat Completions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

import msgspec

from chatcore import Earlier, Role
from chatcore.bounds import IMAGES, check
from chatcore.data_urls import add_image
from chatcore.entities import Image
from chatcore.errors import FieldError
from chatcore.use_cases.sending import EARLIER_TEXT, TOO_MUCH_EARLIER
from chatcore_http.protocols.openai.fields import broken

_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM, "developer": Role.SYSTEM}
_TEXTS = ("input_text", "output_text", "text", "refusal")
_DETAILS = ("low", "high", "auto")


class Picture(NamedTuple):
    """An image as a client sent it. `name`: that of its field."""

    name: str
    url: str
    detail: Any


Part: TypeAlias = str | Picture


@dataclass(frozen=True, slots=True)
class Said:
    """A message. `pictures`: its images, which are not read yet; `images`: those that are."""

    role: Role
    content: str
    pictures: Sequence[Picture] = ()
    images: Sequence[Image] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Spoken:
    """The last message, which the reply answers, and those before it."""

    content: str
    images: Sequence[Image] = ()
    earlier: Sequence[Earlier] = ()


async def spoken(said: Sequence[Said], name: str) -> Spoken:
    """Read the images of all. `name`: of the field that has the messages. Raise `ValidationFailed`."""
    if not said or said[-1].role is not Role.USER:
        raise broken(name, "must end with a message of the user")
    check_room(said, name)
    *earlier, last = [await heard(each) for each in said]
    return Spoken(last.content, last.images, earlier)


def check_room(said: Sequence[Said], name: str) -> None:
    """Raise `ValidationFailed` before more is read than a request may have."""
    check(FieldError(name, TOO_MUCH_EARLIER) if sum(len(each.content) for each in said[:-1]) > EARLIER_TEXT else None)
    encoded = sum(len(picture.url) for each in said for picture in each.pictures)
    stored = sum(len(image.data) for each in said for image in each.images)
    size = encoded // 4 * 3 + stored
    check(FieldError(name, f"must have at most {IMAGES.total} bytes of images") if size > IMAGES.total else None)


async def heard(said: Said) -> Earlier:
    """Return a message with its images. Raise `ValidationFailed`."""
    images = list(said.images)
    for picture in said.pictures:
        await add_image(images, picture.url, name=picture.name)
        images[-1] = replace(images[-1], detail=picture.detail if picture.detail in _DETAILS else None)
    return Earlier(said.role, said.content, images)


def is_thought(item: Mapping[str, Any]) -> bool:
    """Return whether an item is what a model thought, which is no message."""
    return item.get("type") == "reasoning"


def message_of(item: Mapping[str, Any], name: str) -> Said:
    """Return the message that an item is. Raise `ValidationFailed`."""
    kind = item.get("type", "message")
    if kind != "message":
        raise broken(name, f"is a {str(kind)[:50]}, which is not stored: with store: false it passes through")
    return said_by(item, name)


def said_by(message: Mapping[str, Any], name: str) -> Said:
    """Read role and content of a message; a refusal is what an assistant said. Raise `ValidationFailed`."""
    role = _ROLES.get(str(message.get("role")))
    if role is None:
        raise broken(f"{name}.role", f"must be one of: {', '.join(_ROLES)}")
    content, refusal = message.get("content"), message.get("refusal")
    if role is Role.ASSISTANT and content is None and isinstance(refusal, str):
        content = refusal
    parts = [content] if isinstance(content, str) else list(_parts(content, f"{name}.content"))
    pictures = [part for part in parts if isinstance(part, Picture)]
    if pictures and role is not Role.USER:
        raise broken(pictures[0].name, "is an image, which only a message of the user may have")
    return Said(role, "\n".join(part for part in parts if isinstance(part, str)), pictures)


def _parts(content: Any, name: str) -> Iterator[Part]:
    for number, part in enumerate(_objects(content, name)):
        place = f"{name}[{number}]"
        match part:
            case {"type": str(kind), "text": str(text)} if kind in _TEXTS:
                yield text
            case {"type": "refusal", "refusal": str(text)}:
                yield text
            case {"type": "input_image"}:
                yield Picture(place, str(part.get("image_url") or ""), part.get("detail"))
            case {"type": "image_url", "image_url": {"url": str(url), **more}}:
                yield Picture(place, url, more.get("detail"))
            case {"type": str(kind)}:
                raise broken(place, f"is {kind[:50]}, which is not supported")
            case _:
                raise broken(name, "must be text, or a list of parts")


def _objects(content: Any, name: str) -> Sequence[Mapping[str, Any]]:
    try:
        return msgspec.convert(content, list[dict[str, Any]])
    except msgspec.ValidationError:
        raise broken(name, "must be text, or a list of parts") from None
