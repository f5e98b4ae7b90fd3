"""The input of a response: messages, and names of messages that are stored."""

from collections.abc import Mapping, Sequence
from typing import Any

from chatcore import Message, Owner, ReadImage, ReadItem, Role
from chatcore.bounds import check
from chatcore.entities import Image
from chatcore.errors import FieldError, NotFound
from chatcore.use_cases.sending import EARLIER
from chatcore_http.protocols.openai.fields import broken
from chatcore_http.protocols.openai.ids import message_of_item, reply_of_reasoning
from chatcore_http.protocols.openai.input_messages import Said, check_room, is_thought, message_of

Item = Mapping[str, Any]


class References:
    """Puts messages in the place of their names."""

    def __init__(self, read_item: ReadItem, read_image: ReadImage) -> None:
        self._read_item = read_item
        self._read_image = read_image

    async def resolved(self, caller: Owner, items: Sequence[Item]) -> Sequence[Said]:
        """Return the messages without what a model thought, the rules before what the user said last. Raise
        `ValidationFailed`."""
        spoken = [each for each in enumerate(items) if not _is_thought(each[1])]
        most = EARLIER + 1
        check(FieldError("input", f"must be at most {most} messages") if len(spoken) > most else None)
        said, named = list[Said](), list[Said]()
        for number, item in spoken:
            name = f"input[{number}]"
            if is_reference(item):
                named.append(await self._named(caller, item, f"{name}.id"))
                check_room(named, "input")
                said.append(named[-1])
            else:
                said.append(message_of(item, name))
        return rules_first(said)

    async def _named(self, caller: Owner, item: Item, name: str) -> Said:
        message = await self._message(caller, str(item.get("id")))
        if message is None:
            raise broken(name, "names no item")
        return Said(message.role, message.content, images=await self._images(message))

    async def _message(self, caller: Owner, name: str) -> Message | None:
        named = message_of_item(name)
        if named is None:
            return None
        try:
            return await self._read_item(
                owner=caller.owner, conversation_id=named.conversation_id, message_id=named.message_id
            )
        except NotFound:
            return None

    async def _images(self, message: Message) -> Sequence[Image]:
        its: Any = {"owner": message.user_id, "conversation_id": message.conversation_id, "message_id": message.id}
        return [await self._read_image(**its, number=number) for number in range(message.images)]


def is_reference(item: Item) -> bool:
    """Return whether an item is but the id of another."""
    return item.get("type") == "item_reference" or set(item) == {"id"}


def _is_thought(item: Item) -> bool:
    if is_reference(item):
        return reply_of_reasoning(str(item.get("id"))) is not None
    return is_thought(item)


def rules_first(said: Sequence[Said]) -> Sequence[Said]:
    """Put system messages that end a list before the user's last message."""
    end = len(said)
    while end and said[end - 1].role is Role.SYSTEM:
        end -= 1
    return [*said[: end - 1], *said[end:], *said[end - 1 : end]] if end else said
