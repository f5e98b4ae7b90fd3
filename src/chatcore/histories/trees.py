"""A conversation of another product as a tree of nodes, and the messages that it becomes here."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from chatcore.entities import (
    MAX_TITLE,
    Conversation,
    ConversationId,
    Failure,
    Message,
    MessageId,
    OwnerId,
    Role,
    Status,
    storable,
    title_from,
)
from chatcore.histories.notes import members, text_in
from chatcore.use_cases.own_data import Line
from chatcore.use_cases.read_import import OwnConversation

_NOBODY = OwnerId(0)
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Node:
    """A message of another product, or a part of one. `role` is None if nothing is to be shown of it: then what follows
    it follows the node before it. `left_out`: what of it is not taken over, in one word each.

    `part`: it and the parts that follow it without a fork are one message, up to the one that `ends` it.
    """

    parent: str | None
    role: Role | None = None
    content: str = ""
    reasoning: str = ""
    model: str | None = None
    created_at: datetime | None = None
    status: Status = Status.COMPLETE
    error: Failure | None = None
    part: bool = False
    ends: bool = False
    left_out: Sequence[str] = ()


@dataclass(slots=True)
class Tree:
    """`current`: the last node of the branch that was shown; None: the newest one."""

    title: str
    nodes: Mapping[str, Node]
    current: str | None
    created_at: datetime | None
    updated_at: datetime | None
    left_out: Counter[str] = field(default_factory=Counter[str])


def lines_of(tree: Tree, *, number: int, now: datetime) -> Iterator[Line]:
    """The conversation, which is number `number` of its export, and its messages, each after the one it follows."""
    arranged = _Arranged(tree.nodes)
    conversation_id = ConversationId(number)
    created_at = tree.created_at or _first_time(tree.nodes.values()) or tree.updated_at or now
    conversation = Conversation(
        id=conversation_id,
        user_id=_NOBODY,
        title=_title(tree),
        titled_by_user=True,
        created_at=created_at,
        updated_at=max(tree.updated_at or created_at, created_at),
    )
    left_out = tree.left_out + Counter(what for node in tree.nodes.values() for what in node.left_out)
    yield Line(None, OwnConversation(conversation, arranged.message_of(tree.current), left_out))
    for message in arranged.messages(conversation_id, created_at):
        yield Line(None, message)


class _Arranged:
    """Nodes without joints, before their children, and parts with the message that they belong to."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        self._shown_at = dict[str, str | None]()  # of each node itself, or the nearest one before it that is shown
        self._parents = dict[str, str | None]()  # of those that are shown
        self._children = Counter[str | None]()
        self._walk()
        self._heads = dict[str, str]()
        self._messages = defaultdict[str, list[str]](list)
        for id_ in self._parents:
            head = self._heads[id_] = self._head(id_)
            self._messages[head].append(id_)
        self._numbers = {head: MessageId(number) for number, head in enumerate(self._messages, start=1)}

    def message_of(self, current: str | None) -> MessageId | None:
        shown = self._shown_at.get(current or "")
        return None if shown is None else self._numbers[self._heads[shown]]

    def messages(self, conversation_id: ConversationId, created_at: datetime) -> Iterator[Message]:
        for head, ids in self._messages.items():
            parent = self._parents[head]
            nodes = [self._nodes[id_] for id_ in ids]
            created_at = _first_time(nodes) or created_at
            assert nodes[0].role is not None  # noqa: S101 - only what is shown is here
            yield Message(
                id=self._numbers[head],
                user_id=_NOBODY,
                conversation_id=conversation_id,
                parent_id=None if parent is None else self._numbers[self._heads[parent]],
                role=nodes[0].role,
                content=_joined(node.content for node in nodes),
                reasoning=_joined(node.reasoning for node in nodes) or None,
                model=next((storable(node.model)[:200] for node in reversed(nodes) if node.model), None),
                status=nodes[-1].status,
                error=_storable(nodes[-1].error),
                created_at=created_at,
            )

    def _walk(self) -> None:
        """From the roots; what no root leads to goes round in circles, and is begun anywhere."""
        children = defaultdict[str | None, list[str]](list)
        for id_, node in self._nodes.items():
            children[node.parent if node.parent in self._nodes else None].append(id_)
        for start in (*children[None], *self._nodes):
            stack = [(start, None)] if start not in self._shown_at else list[tuple[str, str | None]]()
            while stack:
                id_, before = stack.pop()
                if id_ in self._shown_at:
                    continue
                shown = self._shown(id_, before)
                stack += [(child, shown) for child in reversed(children[id_])]

    def _shown(self, id_: str, before: str | None) -> str | None:
        if self._nodes[id_].role is not None:
            self._parents[id_] = before
            self._children[before] += 1
            before = id_
        self._shown_at[id_] = before
        return before

    def _head(self, id_: str) -> str:
        before = self._parents[id_]
        if before is None or not self._nodes[id_].part or self._children[before] > 1:
            return id_
        node = self._nodes[before]
        return self._heads[before] if node.part and not node.ends else id_


def without_content(node: Node, why: str) -> Node:
    """A joint in its place."""
    return replace(node, role=None, content="", reasoning="", left_out=(*node.left_out, why))


def mapped_tree(value: Mapping[str, Any], *, current: str | None, created: str, updated: str) -> Tree | str:
    """Read a conversation whose nodes are in its `mapping`, by their ids; `created` and `updated` name its times.
    Or say why there is none."""
    if not isinstance(value.get("mapping"), dict):
        return "has no messages: mapping is no object"
    return Tree(
        title=text_in(value.get("title")),
        nodes={id_: node if isinstance(node, Node) else Node(None) for id_, node in members(value["mapping"]).items()},
        current=current,
        created_at=time_of(value.get(created)),
        updated_at=time_of(value.get(updated)),
    )


def time_of(value: Any) -> datetime | None:
    """ISO 8601, or a number of seconds since 1970, or of thousandths, millionths or billionths of them."""
    try:
        if isinstance(value, str):
            time = datetime.fromisoformat(value)
            time = time if time.tzinfo else time.replace(tzinfo=UTC)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            seconds = float(value)
            while seconds > 1e11:  # the year 5138
                seconds /= 1000
            time = datetime.fromtimestamp(seconds, UTC)
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    return time if _EARLIEST <= time < _LATEST else None


def _storable(error: Failure | None) -> Failure | None:
    return None if error is None else replace(error, detail=storable(error.detail))


def _first_time(nodes: Any) -> datetime | None:
    return next((node.created_at for node in nodes if node.created_at is not None), None)


def _joined(texts: Iterator[str]) -> str:
    return storable("\n\n".join(filter(None, texts)))


def _title(tree: Tree) -> str:
    title = " ".join(tree.title.split())[:MAX_TITLE].rstrip()
    if not title:
        said = (node.content for node in tree.nodes.values() if node.role is Role.USER)
        title = title_from(next(said, "")[:1000])
    return storable(title)
