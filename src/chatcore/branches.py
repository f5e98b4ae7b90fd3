"""A conversation is a tree: a message follows another, and several may follow the same one. One path through it, from a
first message down, is the active branch, which the history shows and the next message continues."""

from collections.abc import Sequence

from chatcore.entities import MessageId
from chatcore.ports import Node


def path_to(tree: Sequence[Node], message_id: MessageId) -> tuple[MessageId | None, tuple[MessageId, ...]]:
    """How to make a message the active branch's last one: the last active message on the way to it from the top (None:
    not even the first is), and those after it, down to the message."""
    nodes = {node.id: node for node in tree}
    node, path = nodes.get(message_id), list[MessageId]()
    while node is not None and not node.active:
        path.append(node.id)
        node = None if node.parent_id is None else nodes.get(node.parent_id)
    return (None if node is None else node.id), tuple(reversed(path))


def ancestors(tree: Sequence[Node], message_id: MessageId) -> Sequence[MessageId]:
    """The path from the top to this message, which is the last of it."""
    parents = {node.id: node.parent_id for node in tree}
    path, at = list[MessageId](), message_id if message_id in parents else None
    while at is not None:
        path.append(at)
        at = parents.get(at)
    return path[::-1]


def newest_below(tree: Sequence[Node], message_id: MessageId) -> MessageId:
    """The newest of those that descend from the message; it is a leaf. The message itself, if it is one. `tree` is
    ordered by id, so that each message comes after the one that it follows."""
    newest, below = message_id, {message_id}
    for node in tree:
        if node.parent_id in below:
            below.add(node.id)
            newest = node.id
    return newest
