"""DeepSeek's export: `conversations.json`, which is laid out as ChatGPT's and has other messages.

A list of conversations, each a `mapping` of nodes with `parent` and `children`. A message has `fragments`: `REQUEST` of
the user, `THINK` and `RESPONSE` of the model. The format is not documented by its maker; this is what exports of 2025
and 2026 have had.
"""

from collections.abc import Mapping
from typing import Any

from chatcore.entities import Role
from chatcore.histories.json_items import ANYTHING, Each, Fields, Text
from chatcore.histories.notes import elements, members, note, text_in
from chatcore.histories.trees import Node, Tree, mapped_tree, time_of, without_content

_ASKED, _THOUGHT, _ANSWERED = "REQUEST", "THINK", "RESPONSE"


def tree_of(value: Mapping[str, Any]) -> Tree | str:
    """Or why there is none. The export does not say which branch was shown."""
    ids = [*members(value.get("mapping"))]
    return mapped_tree(value, current=ids[-1] if ids else None, created="inserted_at", updated="updated_at")


def _node(value: dict[str, Any]) -> Node:
    message, parent = members(value.get("message")), value.get("parent")
    node = Node(parent if isinstance(parent, str) else None)
    if not message:
        return node
    fragments = [members(fragment) for fragment in elements(message.get("fragments"))]
    asked = any(fragment.get("type") == _ASKED for fragment in fragments)
    node.role = Role.USER if asked else Role.ASSISTANT
    node.model = None if asked else text_in(message.get("model")) or None
    node.created_at = time_of(message.get("inserted_at"))
    files = [note("File", text_in(members(file).get("file_name"))) for file in elements(message.get("files"))]
    node.content = "\n\n".join([*files, *_texts(fragments, _ASKED, _ANSWERED)])
    node.reasoning = "\n\n".join(_texts(fragments, _THOUGHT))
    node.left_out = (*["file"] * len(files), *_others(fragments))
    return node if node.content.strip() or node.reasoning.strip() else without_content(node, "empty message")


def _texts(fragments: list[Mapping[str, Any]], *kinds: str) -> list[str]:
    return [
        text for fragment in fragments if fragment.get("type") in kinds and (text := text_in(fragment.get("content")))
    ]


def _others(fragments: list[Mapping[str, Any]]) -> list[str]:
    """Searches on the web, and whatever else there will be, in one word each."""
    kinds = (text_in(fragment.get("type")) for fragment in fragments)
    return [kind.lower()[:50] for kind in kinds if kind not in ("", _ASKED, _THOUGHT, _ANSWERED)]


_FRAGMENT = Fields({"type": Text(100), "content": ANYTHING})
WANTED = Fields(
    {
        "title": Text(2000),
        **dict.fromkeys(("inserted_at", "updated_at"), ANYTHING),
        "mapping": Each(
            Fields(
                {
                    "parent": ANYTHING,
                    "message": Fields(
                        {
                            **dict.fromkeys(("inserted_at", "model"), ANYTHING),
                            "files": Each(Fields({"file_name": Text(1000)})),
                            "fragments": Each(_FRAGMENT),
                        }
                    ),
                },
                make=_node,
            )
        ),
    }
)
