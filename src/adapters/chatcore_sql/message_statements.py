"""The statements of the messages' repository, and messages from their rows.

A branch has the order of its depths; ids decide only where depths are not known (`UNKNOWN_DEPTH`).
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Integer,
    Select,
    String,
    Subquery,
    and_,
    bindparam,
    case,
    cast,
    func,
    insert,
    literal_column,
    select,
    true,
    tuple_,
    update,
)

from chatcore.entities import SPOKEN, Failure, Message, Role, Status, Usage
from chatcore.ports import Node
from chatcore_sql.conversations import CONVERSATION, IN_ORDER, THIS_CONVERSATION
from chatcore_sql.dialects.mysql import by_index
from chatcore_sql.functions import LowestFirst
from chatcore_sql.mapped import Mapped
from chatcore_sql.pages import LIMIT, newest_first, sized
from chatcore_sql.statements import Row
from chatcore_sql.storage import CONTENT_SIZE, TEXT_SIZE
from chatcore_sql.tables import UNKNOWN_DEPTH, Id, conversations, messages

_m = messages.c
_OTHER = messages.alias("other")
_other = _OTHER.c
_COMMA: Any = literal_column("','", String())  # a value would be put into the text anew each time
_SIBLINGS = (
    select(func.aggregate_strings(cast(_other.id, String(20)), _COMMA))
    .with_hint(_OTHER, **by_index("ix_messages_user_id_parent_id_conversation_id_id"))
    .where(
        _other.user_id == _m.user_id,
        _other.parent_id == _m.parent_id,
        _other.conversation_id == _m.conversation_id,
    )
    .scalar_subquery()
    .correlate(messages)
)
_PARTS: Any = {"usage": Mapped(Usage, messages), "error": Mapped(Failure, messages, prefix="error_")}
MAPPED = Mapped(Message, messages, **_PARTS)
END = Mapped(Message, messages, only=("content", "reasoning", "status", "finish_reason"), **_PARTS)
HEAD = Mapped(Message, messages, only=("id", "parent_id", "role", "status", "created_at"))
NODE = Mapped(Node, messages)
MESSAGE_ALONE = MAPPED.columns
message_from: Callable[..., Message] = MAPPED.from_row
MESSAGE = (*MESSAGE_ALONE, _SIBLINGS)
_OF_CONVERSATION = (_m.user_id == bindparam("owner"), _m.conversation_id == bindparam("conversation"))
_ACTIVE = (*_OF_CONVERSATION, _m.active == true())


def with_siblings(row: Row) -> Message:
    """From the columns `MESSAGE`."""
    siblings = tuple(sorted(map(int, row[-1].split(","))))
    return message_from(row[:-1], siblings=siblings)


# ---- one message -----------------------------------------------------------------------------------------

_PARENT = (
    # In a table of its own: MySQL does not insert into a table that it reads.
    select(case((_other.depth < UNKNOWN_DEPTH, _other.depth + 1), else_=UNKNOWN_DEPTH).label("below"))
    .where(
        _other.user_id == bindparam("owner"),
        _other.conversation_id == bindparam("conversation"),
        _other.id == bindparam("parent"),
    )
    .limit(literal_column("1"))
    .subquery("parent")
)
ADD = insert(messages).values(depth=func.coalesce(select(_PARENT.c.below).scalar_subquery(), literal_column("0")))
GET = select(*MESSAGE).where(*_OF_CONVERSATION, _m.id == bindparam("message"))
PLACE = select(*NODE.columns).where(*_OF_CONVERSATION, _m.id == bindparam("message"))
_NAMED = (
    _m.user_id == bindparam("owner"),
    _m.idempotency_key == bindparam("key"),
    _m.conversation_id + 0 == bindparam("conversation"),  # or PostgreSQL walks the conversation in search of the key
)
SENT_WITH = select(*MESSAGE, _m.idempotency_digest).where(*_NAMED)
FORGET_KEY = (
    update(messages)
    .where(*_NAMED, _m.created_at < bindparam("before"))
    .values(idempotency_key=None, idempotency_digest=None)
)
_REPLIES = (
    _other.user_id == bindparam("owner"),
    _other.parent_id == bindparam("message"),
    _other.conversation_id == bindparam("conversation"),
    _other.role == Role.ASSISTANT,
)
REPLY_TO = (
    select(*MESSAGE)
    .where(
        *_OF_CONVERSATION,
        _m.parent_id == bindparam("message"),
        _m.role == Role.ASSISTANT,
        _m.created_at == select(func.min(_other.created_at)).where(*_REPLIES).scalar_subquery(),
    )
    .order_by(LowestFirst(_m.id))
    .limit(1)
)
CUTS = select(_m.cuts).where(*_OF_CONVERSATION, _m.id == bindparam("message"))
LOCK = select(_m.status, _m.images).where(*_OF_CONVERSATION, _m.id == bindparam("message")).with_for_update()
_EMPTY: dict[str, Any] = {
    "content": "",
    "content_bytes": 0,
    "reasoning_bytes": 0,
    "status": Status.DELETED,
    **dict.fromkeys(("reasoning", "cuts", "error_code", "error_detail", "metadata", "images")),
}
ERASE = update(messages).where(*_OF_CONVERSATION, _m.id == bindparam("message")).values(_EMPTY)
FINISH = update(messages).where(_m.user_id == bindparam("owner"), _m.id == bindparam("message"))

# ---- the active branch -----------------------------------------------------------------------------------


def _depth_of(message: str, *, active: bool) -> ColumnElement[int]:
    """Of the message that the parameter names, if there is one, else `otherwise`. `active`: -1 if it is in another
    branch."""
    depth = case((_other.active == true(), _other.depth), else_=-1) if active else _other.depth
    found = select(depth).where(
        _other.user_id == bindparam("owner"),
        _other.conversation_id == bindparam("conversation"),
        _other.id == bindparam(message, type_=Id),
    )
    return func.coalesce(found.scalar_subquery(), bindparam("otherwise", type_=Integer))


def _branch(*columns: ColumnElement[Any]) -> Select[*tuple[Any, ...]]:
    """The last of the active branch, the deepest first."""
    hinted = select(*columns).with_hint(messages, **IN_ORDER)
    return hinted.where(*_ACTIVE).order_by(_m.depth.desc(), _m.id.desc()).limit(LIMIT)


LAST = _branch(_m.id)

# The last page has a range too: without one PostgreSQL expects a tenth of the conversation, and reads the whole table.
_TO_THE_END = _m.depth <= bindparam("otherwise", type_=Integer)


def _history(*places: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    """The conversation, and of the messages at these places the last ones, with their order from the end. How long
    their texts are is known beside them; only those that fit are read."""
    page, fits = sized(_branch(_m.id, _m.depth, TEXT_SIZE.label("size")).where(*places).subquery("page"), "depth", "id")
    joined = conversations.outerjoin(page, and_(true(), fits)).outerjoin(messages, _m.id == page.c.id)
    return select(*CONVERSATION, page.c.place, *MESSAGE).select_from(joined).where(*THIS_CONVERSATION)


_BEFORE = _depth_of("before", active=True)
HISTORY = _history(_TO_THE_END)
HISTORY_BEFORE = _history(  # MySQL sees no range in a row's comparison
    _m.depth <= _BEFORE, tuple_(_m.depth, _m.id) < tuple_(_BEFORE, bindparam("before", type_=Id))
)

_THESE = (
    _m.user_id == bindparam("owner"),
    _m.conversation_id + 0 == bindparam("conversation"),  # or SQLite walks the conversation in search of the ids
    _m.id.in_(bindparam("these", expanding=True)),
)
_HEAD = (*HEAD.columns, _m.depth, CONTENT_SIZE.label("size"))


def _told(heads: Subquery) -> Select[*tuple[Any, ...]]:
    """The columns `HEAD`, depth, content and images."""
    order = (heads.c.depth.desc(), heads.c.id.desc())
    total = func.sum(case((_spoken(heads), heads.c.size), else_=0)).over(order_by=order)
    told = select(*heads.c, total.label("total")).subquery("told")
    fits = and_(_spoken(told), told.c.total <= bindparam("max_bytes", type_=BigInteger))
    columns = (told.c[column.name] for column in (*HEAD.columns, _m.depth))
    return select(*columns, _m.content, _m.images).select_from(told.outerjoin(messages, and_(_m.id == told.c.id, fits)))


def _spoken(heads: Subquery) -> ColumnElement[bool]:
    return and_(*(heads.c.status != status for status in Status if status not in SPOKEN))


_THROUGH = _depth_of("through", active=True)
TOLD = _told(_branch(*_HEAD).where(_TO_THE_END).subquery("heads"))
TOLD_THROUGH = _told(
    _branch(*_HEAD)
    .where(_m.depth <= _THROUGH, tuple_(_m.depth, _m.id) <= tuple_(_THROUGH, bindparam("through", type_=Id)))
    .subquery("heads")
)
TOLD_AMONG = _told(select(*_HEAD).where(*_THESE).limit(LIMIT).subquery("heads"))

LAST_REPLY = select(*MESSAGE).where(
    *_OF_CONVERSATION,
    _m.id
    == func.coalesce(
        select(conversations.c.writing_reply_id).where(*THIS_CONVERSATION).scalar_subquery(),
        select(_other.id)
        .with_hint(_OTHER, **IN_ORDER)
        .where(
            _other.user_id == bindparam("owner"),
            _other.conversation_id == bindparam("conversation"),
            _other.active == true(),
            _other.role == Role.ASSISTANT,
        )
        .order_by(_other.depth.desc(), _other.id.desc())
        .limit(1)
        .scalar_subquery(),
    ),
)

# ---- all branches ----------------------------------------------------------------------------------------

TREE = select(*NODE.columns).with_hint(messages, **IN_ORDER).where(*_OF_CONVERSATION)
DEACTIVATE = (
    update(messages)
    .with_hint(**IN_ORDER)
    .where(
        *_ACTIVE,
        _m.depth >= bindparam("below", type_=Integer),
        tuple_(_m.depth, _m.id) > tuple_(bindparam("below", type_=Integer), bindparam("after", type_=Id)),
    )
    .values(active=False)
)
ACTIVATE = update(messages).where(*_OF_CONVERSATION, _m.id.in_(bindparam("path", expanding=True))).values(active=True)

# Of each half of the branches the index has the order; of both together a page is taken.
_AFTER = _depth_of("after", active=False)
BY_DEPTH = (
    select(_m.depth, _m.id, TEXT_SIZE.label("size"))
    .with_hint(messages, **IN_ORDER)
    .where(
        *_OF_CONVERSATION,
        _m.active == bindparam("active", type_=Boolean),
        _m.depth >= _AFTER,
        tuple_(_m.depth, _m.id) > tuple_(_AFTER, bindparam("after", type_=Id)),
    )
    .order_by(_m.depth, _m.id)
    .limit(LIMIT)
)
ALL_OF_THESE = select(*MESSAGE_ALONE).where(*_THESE)

# ---- search, across conversations ------------------------------------------------------------------------

_OWN = newest_first(
    select(_m.id, CONTENT_SIZE.label("size")).with_hint(messages, **by_index("ix_messages_user_id_id")),
    {_m.user_id: bindparam("owner")},
    _m.id,
)
_TEXTS, _TEXTS_FIT = sized(_OWN.limit(LIMIT).subquery("page"), "id")
SEARCHED = select(_TEXTS.c.id, _m.conversation_id, _m.role, _m.created_at, _m.content).select_from(
    _TEXTS.outerjoin(messages, and_(_m.id == _TEXTS.c.id, _TEXTS_FIT))
)
BEGUN_WITH = (
    select(_m.conversation_id, _m.content)
    .where(
        _m.user_id == bindparam("owner"),
        _m.conversation_id.in_(bindparam("among", expanding=True)),
        _m.parent_id == 0,
        CONTENT_SIZE <= 16_384,
    )
    .limit(200)
)
