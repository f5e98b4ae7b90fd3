"""The images of messages."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate
from operator import itemgetter

from sqlalchemy import bindparam, delete, insert, select

from chatcore.entities import ConversationId, Image, Message, MessageId, OwnerId
from chatcore.storage import StorageLedger, images_size
from chatcore_sql.mapped import Mapped
from chatcore_sql.statements import Query, Row, Statements
from chatcore_sql.tables import Id, message_images

_i = message_images.c
_MAPPED = Mapped(Image, message_images)
_OF_CONVERSATION = (
    _i.user_id == bindparam("owner"),
    _i.conversation_id + 0 == bindparam("conversation"),  # or SQLite walks the conversation in search of the ids
)
_OF_MESSAGE = (*_OF_CONVERSATION, _i.message_id == bindparam("message"))
_OF_THESE = (*_OF_CONVERSATION, _i.message_id.in_(bindparam("these", expanding=True)))
_ADD = insert(message_images)
_GET = select(*_MAPPED.columns).where(*_OF_MESSAGE, _i.number == bindparam("place", type_=Id))
_SIZES = select(_i.message_id, _i.size).where(*_OF_THESE)
_ALL = select(_i.message_id, _i.number, *_MAPPED.columns).where(*_OF_THESE)
_DELETE = delete(message_images).where(*_OF_MESSAGE)


class SqlImages:
    def __init__(self, statements: Statements, ledger: StorageLedger) -> None:
        self._statements = statements
        self._ledger = ledger

    async def add(self, message: Message, images: Sequence[Image]) -> None:
        """One statement for each: what a server takes at once is bounded."""
        for number, image in enumerate(images):
            await self._statements.insert(
                _ADD,
                user_id=message.user_id,
                conversation_id=message.conversation_id,
                message_id=message.id,
                number=number,
                size=len(image.data),
                **_MAPPED.values(image),
            )
        self._ledger.ask(message.user_id, images_size(images))

    async def get(
        self, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId, number: int
    ) -> Image | None:
        this = {"owner": owner, "conversation": conversation_id, "message": message_id}
        row = await self._statements.first(_GET, **this, place=number)
        return _MAPPED.from_row(row) if row else None

    async def of(
        self, owner: OwnerId, conversation_id: ConversationId, message_ids: Sequence[MessageId], max_bytes: int
    ) -> Mapping[MessageId, Sequence[Image]]:
        these = {"owner": owner, "conversation": conversation_id}
        sizes = Counter[MessageId]()
        for message_id, size in await self._rows(_SIZES, message_ids, **these):
            sizes[message_id] += size
        known = [message_id for message_id in message_ids if message_id in sizes]
        totals = accumulate(sizes[message_id] for message_id in known)
        fit = [message_id for message_id, total in zip(known, totals, strict=True) if total <= max_bytes]
        found = defaultdict[MessageId, list[Image]](list)
        for message_id, _, *image in sorted(await self._rows(_ALL, fit, **these), key=itemgetter(0, 1)):
            found[message_id].append(_MAPPED.from_row(image))
        return found

    async def delete(self, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId) -> None:
        this = {"owner": owner, "conversation": conversation_id}
        for _, size in await self._rows(_SIZES, [message_id], **this):
            self._ledger.note(owner, -size)
        await self._statements.change(_DELETE, **this, message=message_id)

    async def _rows(self, query: Query, message_ids: Sequence[MessageId], **values: object) -> Sequence[Row]:
        return await self._statements.rows(query, **values, these=message_ids) if message_ids else ()
