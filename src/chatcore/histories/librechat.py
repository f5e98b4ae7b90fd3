"""LibreChat's export of a conversation: its messages with `parentMessageId`, or each within the one that it follows."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chatcore.entities import Failure, Role, Status
from chatcore.histories.json_items import ANYTHING, Each, Fields, Text
from chatcore.histories.notes import as_json, elements, fenced, is_list, members, note, text_in
from chatcore.histories.trees import Node, Tree, time_of, without_content

_THINKING, _END_OF_THINKING = ":::thinking", "\n:::"


class _Message:
    """A node with its id, and those that were exported within it."""

    def __init__(self, value: dict[str, Any]) -> None:
        self.id = text_in(value.get("messageId"))
        self.node = _node(value)
        self.children = elements(value.get("children"))


def tree_of(value: Mapping[str, Any]) -> Tree | str:
    """Or why there is none."""
    messages = value.get("messagesTree", value.get("messages"))
    if not is_list(messages):
        return "has no messages: neither messages nor messagesTree is a list"
    nodes = dict(_flat(messages))
    options = members(value.get("options"))
    return Tree(
        title=text_in(value.get("title")),
        nodes=nodes,
        current=_last_leaf(nodes),
        created_at=None,
        updated_at=max((node.created_at for node in nodes.values() if node.created_at), default=None),
        left_out=Counter({"system prompt": 1} if text_in(options.get("promptPrefix")).strip() else {}),
    )


def _flat(messages: Sequence[Any]) -> Iterator[tuple[str, Node]]:
    stack: list[tuple[Any, str | None]] = [(message, None) for message in reversed(messages)]
    number = 0
    while stack:
        message, parent = stack.pop()
        if isinstance(message, _Message):
            number += 1
            id_ = message.id or f"message {number}"
            message.node.parent = parent or message.node.parent
            yield id_, message.node
            stack += [(child, id_) for child in reversed(message.children)]


def _last_leaf(nodes: Mapping[str, Node]) -> str | None:
    """The export does not say which branch was shown; without a choice that is the last one, at each fork."""
    last = dict[str | None, str]()
    for id_, node in nodes.items():
        last[node.parent if node.parent in nodes else None] = id_
    at, seen = last.get(None), set[str | None]()
    while at in last and at not in seen:
        seen.add(at)
        at = last[at]
    return at


def _node(value: dict[str, Any]) -> Node:
    parent = value.get("parentMessageId")
    said_by_user = value.get("isCreatedByUser") is True or text_in(value.get("sender")).lower() == "user"
    node = Node(parent if isinstance(parent, str) else None, Role.USER if said_by_user else Role.ASSISTANT)
    node.model = text_in(value.get("model")) or None
    node.created_at = time_of(value.get("createdAt"))
    content = _Content(value)
    node.content, node.reasoning = content.text, content.reasoning
    node.left_out = content.left_out
    if not said_by_user:
        _note_end(node, value, content.error)
    empty = not node.content.strip() and not node.reasoning.strip() and node.error is None
    return without_content(node, "empty message") if empty else node


def _note_end(node: Node, value: Mapping[str, Any], error: str) -> None:
    if value.get("error") is True or error:
        detail = error or node.content or "It failed."
        node.status, node.error = Status.FAILED, Failure(code="imported", detail=detail[:2000])
    elif value.get("unfinished") is True:
        node.status = Status.STOPPED


class _Content:
    """What is said in a message: in `text`, in parts, or both."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        self.error = ""
        self._reasoning = list[str]()
        self._left_out = list[str]()
        parts = [self._part(members(part)) for part in elements(value.get("content"))]
        text, thinking = _without_thinking(text_in(value.get("text")))
        said = [part for part in parts if part] or [text]
        self.text = "\n\n".join(filter(None, (*self._files(value), *said)))
        self.reasoning = "\n\n".join(filter(None, self._reasoning or [thinking]))
        self.left_out = tuple(self._left_out)

    def _part(self, part: Mapping[str, Any]) -> str:
        match part.get("type"):
            case "text":
                return _text(part.get("text"))
            case "think":
                self._reasoning.append(_text(part.get("think")))
                return ""
            case "tool_call":
                return "\n\n".join(_tool(members(part.get("tool_call"))))
            case "error":
                self.error = _text(part.get("error")) or _text(part.get("text")) or "It failed."
                return ""
            case str(kind) if kind.startswith("image"):
                return self._image(members(part.get(kind)))
            case _:
                return as_json(part) if part else ""

    def _image(self, image: Mapping[str, Any]) -> str:
        self._left_out.append("image")
        url = text_in(image.get("filepath")) or text_in(image.get("url"))
        return note("Image", text_in(image.get("filename")) or ("" if url.startswith("data:") else url))

    def _files(self, value: Mapping[str, Any]) -> Iterator[str]:
        for name in ("files", "attachments"):
            for file in map(members, elements(value.get(name))):
                if text_in(file.get("type")).startswith("image"):
                    yield self._image(file)
                else:
                    self._left_out.append("file")
                    yield note("File", text_in(file.get("filename")))


def _text(value: object) -> str:
    """In one of its forms there is an object around it."""
    return text_in(value) or text_in(members(value).get("value"))


def _without_thinking(text: str) -> tuple[str, str]:
    if not text.startswith(_THINKING) or (end := text.find(_END_OF_THINKING, len(_THINKING))) < 0:
        return text, ""
    return text[end + len(_END_OF_THINKING) :].lstrip("\n"), text[len(_THINKING) : end].strip()


def _tool(call: Mapping[str, Any]) -> Iterator[str]:
    """A call of a tool, of a function, or of the interpreter, and the answer."""
    function = members(call.get("function")) or members(call.get("code_interpreter")) or call
    yield note("Tool call", text_in(function.get("name")) or text_in(call.get("type")))
    for value in (function.get("args", function.get("arguments", function.get("input"))), function.get("output")):
        if value:
            yield fenced(value if isinstance(value, str) else as_json(value))


_FILE = Fields({name: Text(1000) for name in ("type", "filename", "filepath")})
_IMAGE = Fields({name: Text(1000) for name in ("filename", "filepath", "url")})
_PART = Fields({"image_file": _IMAGE, "image_url": _IMAGE}, rest=ANYTHING)
_OWN = (
    "messageId",
    "parentMessageId",
    "sender",
    "isCreatedByUser",
    "text",
    "model",
    "createdAt",
    "error",
    "unfinished",
)
_members: dict[str, Any] = {
    **dict.fromkeys(_OWN, ANYTHING),
    "content": Each(_PART),
    "files": Each(_FILE),
    "attachments": Each(_FILE),
}
_MESSAGE = Fields(_members, make=_Message)
_members["children"] = Each(_MESSAGE)  # which makes it a tree
WANTED = Fields(
    {
        "title": Text(2000),
        "messages": Each(_MESSAGE),
        "messagesTree": Each(_MESSAGE),
        "options": Fields({"promptPrefix": Text(100_000)}),
    }
)
