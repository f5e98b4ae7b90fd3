"""Exports of other products, made after their formats: with branches, images, calls of tools, deleted and hidden nodes.

In each there is the same small talk (`TALK`), so that what becomes of it can be compared.
"""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

THEN = 1746327721.25
"""Seconds: 2025-05-04 03:02:01.25 UTC."""


# ---- ChatGPT ---------------------------------------------------------------------------------------------


def node(id_: str, parent: str | None, role: str = "user", text: str | None = None, **more: Any) -> dict[str, Any]:
    """A node of `mapping`, as it is in an export of 2026; `content`, `metadata` … replace what there is."""
    message: dict[str, Any] = {
        "id": id_,
        "author": {"role": role, "name": None, "metadata": {}},
        "create_time": THEN,
        "update_time": None,
        "content": {"content_type": "text", "parts": ["" if text is None else text]},
        "status": "finished_successfully",
        "end_turn": True if role == "assistant" else None,
        "weight": 1.0,
        "metadata": {},
        "recipient": "all",
        "channel": None,
    }
    metadata = {"request_id": "x" * 36, "parent_id": parent, "classifier": {"scores": [0.1, {"a": None}]}}
    if role == "assistant":
        metadata["model_slug"] = "gpt-5"
    message["metadata"] = {**metadata, **more.pop("metadata", {})}
    return {"id": id_, "message": {**message, **more}, "parent": parent, "children": []}


def joint(id_: str, parent: str | None) -> dict[str, Any]:
    """A node without a message: the root, or one that was deleted."""
    return {"id": id_, "message": None, "parent": parent, "children": []}


def hidden(id_: str, parent: str | None, role: str = "system", text: str = "") -> dict[str, Any]:
    return node(id_, parent, role, text, weight=0.0, metadata={"is_visually_hidden_from_conversation": True})


def tool_call(id_: str, parent: str, tool: str, text: str) -> dict[str, Any]:
    content = {"content_type": "code", "language": "unknown", "text": text}
    return node(id_, parent, "assistant", content=content, recipient=tool, end_turn=False)


def tool_result(id_: str, parent: str, tool: str, text: str) -> dict[str, Any]:
    content = {"content_type": "execution_output", "text": text}
    return node(id_, parent, "tool", author={"role": "tool", "name": tool, "metadata": {}}, content=content)


def thoughts(id_: str, parent: str, *told: tuple[str, str]) -> dict[str, Any]:
    listed = [{"summary": summary, "content": content, "chunks": [], "finished": True} for summary, content in told]
    content = {"content_type": "thoughts", "thoughts": listed, "source_analysis_msg_id": "x"}
    return node(id_, parent, "assistant", content=content, end_turn=False)


def image(asset: str = "sediment://file_0001") -> dict[str, Any]:
    return {
        "content_type": "image_asset_pointer",
        "asset_pointer": asset,
        "size_bytes": 221373,
        "width": 708,
        "height": 1536,
        "fovea": None,
        "metadata": {"sanitized": True, "dalle": None},
    }


def chatgpt(*nodes: Mapping[str, Any], title: str = "Paris", current: str | None = None, **more: Any) -> dict[str, Any]:
    mapping = {each["id"]: dict(each) for each in nodes}
    for each in nodes:
        if each["parent"] in mapping:
            parent = mapping[each["parent"]]
            parent["children"] = [*parent["children"], each["id"]]
    return {
        "title": title,
        "create_time": THEN,
        "update_time": THEN + 60,
        "mapping": mapping,
        "moderation_results": [],
        "current_node": current or nodes[-1]["id"],
        "plugin_ids": None,
        "conversation_id": "67a678d3-a274-8191-94ee-7ca817b25b36",
        "gizmo_id": None,
        "is_archived": False,
        "safe_urls": [],
        "default_model_slug": "gpt-5",
        "id": "67a678d3-a274-8191-94ee-7ca817b25b36",
        **more,
    }


def chatgpt_talk() -> dict[str, Any]:
    """A hidden start, two beginnings, two answers to the first, and the branch in the middle is shown."""
    return chatgpt(
        joint("root", None),
        hidden("system", "root"),
        node("q1", "system", text="我想去巴黎 🦄"),
        node("a1", "q1", "assistant", "To Paris!"),
        node("a2", "q1", "assistant", "Paris it is."),
        joint("gone", "a2"),
        node("q2", "gone", text="And then?"),
        node("a3", "q2", "assistant", "Rome."),
        node("q3", "system", text="To Rome"),
        node("a4", "q3", "assistant", "Rome it is."),
        current="a3",
    )


# ---- Open WebUI ------------------------------------------------------------------------------------------


def web_message(id_: str, parent: str | None, role: str, content: Any, **more: Any) -> dict[str, Any]:
    message = {
        "id": id_,
        "parentId": parent,
        "childrenIds": [],
        "role": role,
        "content": content,
        "timestamp": 1746327721,
    }
    if role == "assistant":
        message |= {"model": "llama3.1:8b", "modelName": "Llama", "modelIdx": 0, "done": True, "context": None}
    return {**message, **more}


def open_webui(
    *messages: Mapping[str, Any], title: str = "Paris", current: str | None = None, **more: Any
) -> dict[str, Any]:
    tree = {message["id"]: dict(message) for message in messages}
    for message in messages:
        if message["parentId"] in tree:
            tree[message["parentId"]]["childrenIds"] = [*tree[message["parentId"]]["childrenIds"], message["id"]]
    return {
        "id": "4a2b",
        "user_id": "u1",
        "title": title,
        "chat": {
            "id": "",
            "title": title,
            "models": ["llama3.1:8b"],
            "params": {},
            "history": {"messages": tree, "currentId": current or messages[-1]["id"]},
            "messages": list(messages)[:1],
            "tags": [],
            "timestamp": 1746327721000,
            "files": [],
            **more,
        },
        "updated_at": 1746327781,
        "created_at": 1746327721,
        "share_id": None,
        "archived": False,
        "pinned": False,
        "meta": {"tags": ["travel"]},
        "folder_id": None,
    }


def open_webui_talk() -> dict[str, Any]:
    return open_webui(
        web_message("q1", None, "user", "我想去巴黎 🦄"),
        web_message("a1", "q1", "assistant", "To Paris!"),
        web_message("a2", "q1", "assistant", "Paris it is."),
        web_message("q2", "a2", "user", "And then?"),
        web_message("a3", "q2", "assistant", "Rome."),
        web_message("q3", None, "user", "To Rome"),
        web_message("a4", "q3", "assistant", "Rome it is."),
        current="a3",
    )


# ---- LibreChat -------------------------------------------------------------------------------------------

NO_PARENT = "00000000-0000-0000-0000-000000000000"


def libre_message(id_: str, parent: str | None, role: str, text: str | None, **more: Any) -> dict[str, Any]:
    return {
        "_id": "66326f3f04bed94b7f5be68d",
        "messageId": id_,
        "__v": 0,
        "conversationId": "4a86c40e",
        "createdAt": "2025-05-04T03:02:01.250Z",
        "endpoint": "openAI",
        "error": False,
        "isCreatedByUser": role == "user",
        "model": None if role == "user" else "gpt-4o",
        "parentMessageId": parent or NO_PARENT,
        "sender": "User" if role == "user" else "GPT-4",
        "text": text,
        "unfinished": False,
        "updatedAt": "2025-05-04T03:02:05.000Z",
        **more,
    }


def librechat(
    *messages: dict[str, Any], title: str = "Paris", nested: str | None = None, **more: Any
) -> dict[str, Any]:
    """`nested`: the member in which messages are, each within the one that it follows."""
    exported: dict[str, Any] = {
        "conversationId": "4a86c40e",
        "endpoint": "openAI",
        "title": title,
        "exportAt": "13:18:04 GMT-0400 (Eastern Daylight Time)",
        "branches": True,
        "recursive": nested is not None,
        "options": {"presetId": None, "model": "gpt-4o", "temperature": 1},
        **more,
    }
    if nested is None:
        return {**exported, "messages": list(messages)}
    by_id = {message["messageId"]: {**message, "children": []} for message in messages}
    roots = list[Any]()
    for message in by_id.values():
        parent = by_id.get(message["parentMessageId"])
        (roots if parent is None else parent["children"]).append(message)
    return {**exported, nested: roots}


def librechat_talk(nested: str | None = None) -> dict[str, Any]:
    """Which branch is shown is not in it: the last one is."""
    return librechat(
        libre_message("q3", None, "user", "To Rome"),
        libre_message("a4", "q3", "assistant", "Rome it is."),
        libre_message("q1", None, "user", "我想去巴黎 🦄"),
        libre_message("a1", "q1", "assistant", "To Paris!"),
        libre_message("a2", "q1", "assistant", "Paris it is."),
        libre_message("q2", "a2", "user", "And then?"),
        libre_message("a3", "q2", "assistant", "Rome."),
        nested=nested,
    )


# ---- DeepSeek --------------------------------------------------------------------------------------------


def deepseek_node(id_: str, parent: str, *fragments: tuple[str, str], files: Sequence[str] = ()) -> dict[str, Any]:
    message = {
        "files": [{"id": f"file-{name}", "file_name": name} for name in files],
        "model": "deepseek-reasoner",
        "inserted_at": "2025-05-04T11:02:01.250000+08:00",
        "fragments": [{"type": type_, "content": content} for type_, content in fragments],
    }
    return {"id": id_, "parent": parent, "children": [], "message": message}


def deepseek(*nodes: dict[str, Any]) -> dict[str, Any]:
    root: dict[str, Any] = {"id": "root", "parent": None, "children": [], "message": None}
    times = dict.fromkeys(("inserted_at", "updated_at"), "2025-05-04T11:02:01.250000+08:00")
    return {"id": "x" * 36, "title": "Paris", **times, "mapping": {node["id"]: node for node in (root, *nodes)}}


def deepseek_talk() -> dict[str, Any]:
    return deepseek(
        deepseek_node("1", "root", ("REQUEST", "To Rome")),
        deepseek_node("2", "1", ("RESPONSE", "Rome it is.")),
        deepseek_node("3", "root", ("REQUEST", "我想去巴黎 🦄")),
        deepseek_node("4", "3", ("RESPONSE", "To Paris!")),
        deepseek_node("5", "3", ("RESPONSE", "Paris it is.")),
        deepseek_node("6", "5", ("REQUEST", "And then?")),
        deepseek_node("7", "6", ("RESPONSE", "Rome.")),
    )


# ---- all of them -----------------------------------------------------------------------------------------

TALK = {
    "我想去巴黎 🦄": None,
    "To Paris!": "我想去巴黎 🦄",
    "Paris it is.": "我想去巴黎 🦄",
    "And then?": "Paris it is.",
    "Rome.": "And then?",
    "To Rome": None,
    "Rome it is.": "To Rome",
}
"""Each text, and the one before it."""
SHOWN = ["我想去巴黎 🦄", "Paris it is.", "And then?", "Rome."]


def raw(export: object, *, escaped: bool = False) -> bytes:
    return json.dumps(export, ensure_ascii=escaped, separators=(",", ":")).encode()


def archive(files: Mapping[str, bytes], *, compression: int = ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with ZipFile(packed, "w", compression) as written:
        for name, content in files.items():
            written.writestr(name, content)
    return packed.getvalue()


def sharded(*shards: Sequence[object]) -> bytes:
    """The newer archive of ChatGPT's: many files, and what they refer to."""
    numbered = {f"export/conversations-{number:03}.json": raw(shard) for number, shard in enumerate(shards)}
    others = {"export/user.json": b"{}", "export/chat.html": b"<html></html>", "export/file_0001-sanitized.png": b"PNG"}
    return archive({**others, **numbered, "__MACOSX/export/._conversations-000.json": b"\0"})


TALKS = {
    "chatgpt": raw([chatgpt_talk()]),
    "chatgpt, escaped": raw([chatgpt_talk()], escaped=True),
    "chatgpt, one conversation": raw(chatgpt_talk()),
    "chatgpt, an archive": archive({"conversations.json": raw([chatgpt_talk()]), "message_feedback.json": b"[]"}),
    "chatgpt, the newer archive": sharded([chatgpt_talk()]),
    "openwebui": raw([open_webui_talk()]),
    "openwebui, its chat alone": raw(open_webui_talk()["chat"]),
    "deepseek": raw([deepseek_talk()]),
    "librechat": raw(librechat_talk()),
    "librechat, nested": raw(librechat_talk("messages")),
    "librechat, a tree": raw(librechat_talk("messagesTree")),
    "librechat, an archive": archive({"a/Paris.json": raw(librechat_talk())}),
}
