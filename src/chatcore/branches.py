"""A conversation is a tree: a message follows another, and several may follow the same one. One path through it, from a
first message down, is the active branch, which the history shows and the next message continues."""

from collections.abc import Sequence
from operator import attrgetter

from chatcore.entities import MessageId
from chatcore.ports import Node


def path_to(tree: Sequence[Node], message_id: MessageId) -> tuple[Node | None, tuple[MessageId, ...]]:
    """How to make a message the active branch's last one: the last active message on the way to it from the top (None:
    not even the first is), and those after it, down to the message."""
    nodes = {node.id: node for node in tree}
    node, path = nodes.get(message_id), list[MessageId]()
    while node is not None and not node.active:
        path.append(node.id)
        node = None if node.parent_id is None else nodes.get(node.parent_id)
    return node, tuple(reversed(path))


def ancestors(tree: Sequence[Node], message_id: MessageId) -> Sequence[MessageId]:
    """The path from the top to this message, which is the last of it."""
    parents = {node.id: node.parent_id for node in tree}
    path, at = list[MessageId](), message_id if message_id in parents else None
    while at is not None:
        path.append(at)
        at = parents.get(at)
    return path[::-1]


def newest_below(tree: Sequence[Node], message_id: MessageId) -> MessageId:
    """The newest leaf of those that descend from the message; the message itself, if it is one. In `tree` each message
    comes after the one that it follows."""
    parents, below = {node.parent_id for node in tree}, {message_id}
    leaves = list[Node]()
    for node in tree:
        if node.parent_id in below:
            below.add(node.id)
            leaves += [node] if node.id not in parents else []
    return max(leaves, key=attrgetter("created_at", "id")).id if leaves else message_id
