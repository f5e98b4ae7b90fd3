"""Open WebUI's export: a list of chats, each with `chat.history`, a tree of messages and the last one shown."""

import html
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from chatcore.entities import Failure, Role, Status
from chatcore.histories.json_items import ANYTHING, Each, Fields, Text, Wanted
from chatcore.histories.notes import as_json, elements, fenced, members, note, parted, text_in
from chatcore.histories.trees import Node, Tree, time_of, without_content

_ROLES = {"user": Role.USER, "system": Role.SYSTEM}
_SUMMARY = re.compile(r"<summary>[^<]{0,1000}</summary>\s*")
_ATTRIBUTE = re.compile(r'(\w{1,40})="([^"]*)"')
_QUOTED = re.compile("^> ?", re.MULTILINE)


def tree_of(value: Mapping[str, Any]) -> Tree | str:
    """Or why there is none."""
    chat = members(value.get("chat")) or value
    history = members(chat.get("history"))
    nodes = _nodes(history.get("messages")) or _chain(chat.get("messages"))
    if not nodes and not isinstance(history.get("messages"), dict) and not isinstance(chat.get("messages"), list):
        return "has no messages: neither history.messages nor messages is there"
    current = history.get("currentId")
    return Tree(
        title=text_in(value.get("title")) or text_in(chat.get("title")),
        nodes=nodes,
        current=current if isinstance(current, str) else next(reversed(nodes), None),
        created_at=time_of(value.get("created_at")) or time_of(chat.get("timestamp")),
        updated_at=time_of(value.get("updated_at")),
        left_out=Counter({"system prompt": 1} if _prompt(chat) else {}),
    )


def _prompt(chat: Mapping[str, Any]) -> bool:
    return any(text_in(part.get("system")).strip() for part in (chat, members(chat.get("params"))))


def _nodes(messages: object) -> dict[str, Node]:
    return {id_: node if isinstance(node, Node) else Node(None) for id_, node in members(messages).items()}


def _chain(messages: object) -> dict[str, Node]:
    """As it was before there were branches: one after the other."""
    nodes = dict[str, Node]()
    for number, node in enumerate(elements(messages)):
        if isinstance(node, Node):
            node.parent = next(reversed(nodes), None)
            nodes[str(number)] = node
    return nodes


def _node(value: dict[str, Any]) -> Node:
    parent = value.get("parentId")
    node = Node(parent if isinstance(parent, str) else None, _ROLES.get(text_in(value.get("role")), Role.ASSISTANT))
    node.model = text_in(value.get("model")) or None
    node.created_at = time_of(value.get("timestamp"))
    texts, node.reasoning = _content(value)
    if node.role is Role.ASSISTANT:
        _note_end(node, value)
    files, node.left_out = _files(value)
    node.content = "\n\n".join(filter(None, (*files, texts, _sources(value))))
    empty = not node.content.strip() and not node.reasoning.strip() and node.error is None
    return without_content(node, "empty message") if empty else node


def _note_end(node: Node, value: Mapping[str, Any]) -> None:
    error = value.get("error")
    if error:
        told = members(error)
        detail = text_in(error) or text_in(told.get("content")) or text_in(told.get("message"))
        node.status, node.error = Status.FAILED, Failure(code="imported", detail=(detail or "It failed.")[:2000])
    elif value.get("done") is False:
        node.status = Status.INTERRUPTED


def _content(value: Mapping[str, Any]) -> tuple[str, str]:
    """What is said, and the reasoning."""
    content = value.get("content")
    text = content if isinstance(content, str) else "\n".join(_part(members(part)) for part in elements(content))
    text, reasoning = _without_reasoning(text)
    if not text.strip() and not reasoning.strip():
        return _output(value.get("output"))
    return _with_tools(text).strip(), reasoning


def _part(part: Mapping[str, Any]) -> str:
    if "text" in part:
        return text_in(part["text"])
    return note("Image") if part.get("type") == "image_url" else as_json(part)


def _without_reasoning(text: str) -> tuple[str, str]:
    left, reasoning = list[str](), list[str]()
    for is_details, part in parted(text, "reasoning"):
        (reasoning if is_details else left).append(_reasoning(part) if is_details else part)
    return "".join(left), "\n\n".join(reasoning)


def _reasoning(details: str) -> str:
    inside = details[details.find(">") + 1 : -len("</details>")]
    return _QUOTED.sub("", html.unescape(_SUMMARY.sub("", inside, count=1))).strip()


def _with_tools(text: str) -> str:
    parts = (_tool(part) if is_details else part.strip("\n") for is_details, part in parted(text, "tool_calls"))
    return "\n\n".join(filter(None, parts))


def _tool(details: str) -> str:
    tag, _, inside = details.partition(">")
    told = {name: html.unescape(value) for name, value in _ATTRIBUTE.findall(tag)}
    result = told.get("result") or html.unescape(_SUMMARY.sub("", inside.removesuffix("</details>"), count=1)).strip()
    return "\n\n".join(_call(told.get("name", ""), told.get("arguments", ""), result))


def _call(name: str, arguments: str, result: str) -> Iterator[str]:
    yield note("Tool call", name)
    yield from (fenced(text) for text in (arguments, result) if text)


def _output(output: object) -> tuple[str, str]:
    """The newer form, where it is all there is."""
    texts, reasoning = list[str](), list[str]()
    for item in map(members, elements(output)):
        told = "\n".join(text_in(members(part).get("text")) for part in elements(item.get("content")))
        match item.get("type"):
            case "reasoning":
                reasoning.append(told)
            case "function_call":
                texts += _call(text_in(item.get("name")), text_in(item.get("arguments")), "")
            case "function_call_output":
                results = (text_in(members(part).get("text")) for part in elements(item.get("output")))
                texts += (note("Tool result"), fenced("\n".join(results)))
            case _:
                texts.append(told or as_json(item))
    return "\n\n".join(texts), "\n\n".join(reasoning)


def _files(value: Mapping[str, Any]) -> tuple[list[str], tuple[str, ...]]:
    files = [members(file) for file in elements(value.get("files"))]
    kinds = ["image" if text_in(file.get("type")).startswith("image") else "file" for file in files]
    return [_file(kind, file) for kind, file in zip(kinds, files, strict=True)], tuple(kinds)


def _file(kind: str, file: Mapping[str, Any]) -> str:
    url = text_in(file.get("url"))
    return note(kind.capitalize(), text_in(file.get("name")) or ("" if url.startswith("data:") else url))


def _sources(value: Mapping[str, Any]) -> str:
    sources = [members(members(each).get("source")) for each in elements(value.get("sources"))]
    named = [text_in(source.get("name")) or text_in(source.get("url")) for source in sources]
    return note("Sources", ", ".join(filter(None, named))) if any(named) else ""


_FILE = Fields({"type": Text(100), "name": Text(1000), "url": Text(1000)})
_SOURCE = Fields({"source": Fields({"name": Text(1000), "url": Text(1000)})})
_MESSAGE = Fields(
    {
        **dict.fromkeys(("parentId", "role", "model", "timestamp", "content", "output", "error", "done"), ANYTHING),
        "files": Each(_FILE),
        "sources": Each(_SOURCE),
    },
    make=_node,
)
_CHAT: dict[str, Wanted] = {
    "title": Text(2000),
    "timestamp": ANYTHING,
    "system": Text(100_000),
    "params": Fields({"system": Text(100_000)}),
    "history": Fields({"currentId": ANYTHING, "messages": Each(_MESSAGE)}),
    "messages": Each(_MESSAGE),
}
WANTED = Fields({**_CHAT, "chat": Fields(_CHAT), "created_at": ANYTHING, "updated_at": ANYTHING})
