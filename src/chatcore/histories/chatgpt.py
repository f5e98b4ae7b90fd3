"""ChatGPT's export: `conversations.json`, or `conversations-000.json` and so on.

A list of conversations, each a `mapping` of nodes with `parent` and `children`, and `current_node`. What a person sees
as one answer is a chain of nodes there: thoughts, what tools are asked and answer, and texts in between. The format is
not documented by its maker; this is what exports have had from 2023 to 2026.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from chatcore.entities import Role, Status
from chatcore.histories.json_items import ANYTHING, Each, Fields, Text
from chatcore.histories.notes import as_json, elements, fenced, members, note, text_in
from chatcore.histories.trees import Node, Tree, mapped_tree, time_of, without_content

_HIDDEN = "hidden message"
_ROLES = {"user": Role.USER, "system": Role.SYSTEM}
_STATUSES = {"in_progress": Status.INTERRUPTED, "finished_partial_completion": Status.STOPPED}
_MEDIA = {"image": "Image", "audio": "Audio", "video": "Video"}
_OF_THE_USER = ("user_editable_context", "model_editable_context")
_FENCED = ("code", "execution_output", "computer_output", "system_error")
_KNOWN = ("", "text", "multimodal_text", "thoughts", "reasoning_recap", "tether_browsing_display", "tether_quote")
_TEXTS = ("text", "result", "summary", "content", "title", "url", "snippet")
_CITATION = re.compile("\ue200[^\ue200\ue201]{0,2000}+\ue201")
_MOST_REFERENCES, _LONGEST_WITH_REFERENCES = 200, 200_000


def tree_of(value: Mapping[str, Any]) -> Tree | str:
    """Or why there is none."""
    current = value.get("current_node")
    return mapped_tree(
        value, current=current if isinstance(current, str) else None, created="create_time", updated="update_time"
    )


def _node(value: dict[str, Any]) -> Node:
    message, parent = members(value.get("message")), value.get("parent")
    node = Node(parent if isinstance(parent, str) else None)
    if not message:
        return node
    metadata, author = members(message.get("metadata")), members(message.get("author"))
    node.role = _ROLES.get(text_in(author.get("role")), Role.ASSISTANT)
    node.part = node.role is Role.ASSISTANT
    node.ends = message.get("end_turn") is True
    node.model = text_in(metadata.get("model_slug")) or None
    node.created_at = time_of(message.get("create_time"))
    node.status = _STATUSES.get(text_in(message.get("status")), Status.COMPLETE) if node.part else Status.COMPLETE
    return _with_content(node, message, metadata)


def _with_content(node: Node, message: Mapping[str, Any], metadata: Mapping[str, Any]) -> Node:
    content = _Content(message, metadata)
    if content.type in _OF_THE_USER or metadata.get("is_user_system_message") is True:
        return without_content(node, "custom instructions")
    node.content, node.reasoning = content.text(), content.reasoning()
    node.left_out = tuple(content.left_out.elements())
    shown = bool(node.content.strip() or node.reasoning.strip())
    if metadata.get("is_visually_hidden_from_conversation") is True:
        return without_content(node, _HIDDEN) if shown else without_content(node, "empty message")
    return node if shown else without_content(node, "empty message")


class _Content:
    """What is said in one node."""

    def __init__(self, message: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        self._content = members(message.get("content"))
        self._metadata = metadata
        self._author = members(message.get("author"))
        self._recipient = text_in(message.get("recipient"))
        self.type = text_in(self._content.get("content_type"))
        self.left_out = Counter[str]()

    def reasoning(self) -> str:
        if self.type == "reasoning_recap":
            return text_in(self._content.get("content")) or "\n".join(self._parts())
        if self.type != "thoughts":
            return ""
        thoughts = [members(thought) for thought in elements(self._content.get("thoughts"))]
        told = (text_in(thought.get(name)) for thought in thoughts for name in ("summary", "content"))
        return "\n\n".join(filter(None, (*told, *self._parts())))

    def text(self) -> str:
        if self.type in ("thoughts", "reasoning_recap"):
            return ""
        text = self._with_links("\n".join(filter(None, self._parts())))
        text = "\n\n".join(filter(None, (text, *self._attached(text))))
        return self._as_tool(text) if text.strip() else ""

    def _parts(self) -> Iterator[str]:
        for part in elements(self._content.get("parts")):
            yield part if isinstance(part, str) else self._part(members(part))
        if self.type not in _FENCED:
            yield from self._texts(self._content)
        elif text := text_in(self._content.get("text")):
            yield fenced(text, self._content.get("language"))

    def _texts(self, value: Mapping[str, Any]) -> Iterator[str]:
        texts = [text for name in _TEXTS if (text := text_in(value.get(name)))]
        yield from texts
        if not texts and text_in(value.get("content_type")) not in _KNOWN:
            yield fenced(as_json(value), "json")

    def _part(self, part: Mapping[str, Any]) -> str:
        """An image, a recording, or what else stands between texts."""
        kind = text_in(part.get("content_type"))
        if kind == "audio_transcription" or not kind:
            return text_in(part.get("text")) or (as_json(part) if part else "")
        for word, name in _MEDIA.items():
            if word in kind:
                self.left_out[word] += 1
                return note(name, self._media(part))
        return "\n".join((note(kind), *self._texts(part)))

    def _media(self, part: Mapping[str, Any]) -> str:
        """Its address in the export; its size; of one that was painted, after which words."""
        asset = text_in(part.get("asset_pointer")) or text_in(
            members(part.get("audio_asset_pointer")).get("asset_pointer")
        )
        width, height = part.get("width"), part.get("height")
        size = f"{width}×{height}" if isinstance(width, int) and isinstance(height, int) else ""
        prompt = text_in(members(members(part.get("metadata")).get("dalle")).get("prompt"))
        return ", ".join(filter(None, (asset, size, prompt)))

    def _attached(self, text: str) -> Iterator[str]:
        """Files, but for images that are among the parts."""
        for attachment in elements(self._metadata.get("attachments")):
            file = members(attachment)
            if (id_ := text_in(file.get("id"))) and id_ in text[:100_000]:
                continue
            self.left_out["file"] += 1
            yield note("File", text_in(file.get("name")) or id_)

    def _as_tool(self, text: str) -> str:
        if self._author.get("role") not in ("user", "assistant", "system"):
            name = text_in(self._author.get("name")) or text_in(self._author.get("role"))
            return f"{note('Tool result', name)}\n\n{text}"
        if self._author.get("role") == "assistant" and self._recipient not in ("", "all"):
            body = text if self.type == "code" else fenced(text)
            return f"{note('Tool call', self._recipient)}\n\n{body}"
        return text

    def _with_links(self, text: str) -> str:
        """Citations as links, where it is said what they are."""
        if len(text) <= _LONGEST_WITH_REFERENCES:
            for reference in elements(self._metadata.get("content_references"))[:_MOST_REFERENCES]:
                marked, link = members(reference).get("matched_text"), members(reference).get("alt")
                if isinstance(marked, str) and marked.strip() and isinstance(link, str):
                    text = text.replace(marked, link, 1)
        return _CITATION.sub("", text) if "\ue200" in text else text


_METADATA = dict.fromkeys(("model_slug", "is_visually_hidden_from_conversation", "is_user_system_message"), ANYTHING)
_REFERENCE = Fields({"matched_text": Text(2000), "alt": Text(10_000)})
WANTED = Fields(
    {
        **{name: Text(2000) for name in ("title", "current_node")},
        **dict.fromkeys(("create_time", "update_time"), ANYTHING),
        "mapping": Each(
            Fields(
                {
                    "parent": ANYTHING,
                    "message": Fields(
                        {
                            **dict.fromkeys(("author", "create_time", "status", "end_turn", "recipient"), ANYTHING),
                            "content": ANYTHING,
                            "metadata": Fields(
                                {**_METADATA, "attachments": ANYTHING, "content_references": Each(_REFERENCE)}
                            ),
                        }
                    ),
                },
                make=_node,
            )
        ),
    }
)
