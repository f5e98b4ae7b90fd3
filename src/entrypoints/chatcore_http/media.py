"""What is sent or answered and is no plain JSON, as the OpenAPI document shows it."""

from typing import Any

from chatcore.histories.own import LONGEST_LINE
from chatcore_http.examples import EVENT_STREAM, EXPORT

FORM = "application/x-www-form-urlencoded"

Json = dict[str, Any]

_OPENAI: list[Json] = [{"title": "Why is the sky blue?", "mapping": {}, "current_node": "root"}]

STREAM: Json = {
    "schema": {
        "type": "string",
        "description": "Server-Sent Events: `event` is the type, `id` the cursor `<reply id>:<offset>`, and `data` the "
        "JSON of one `Event`. The response ends after the reply's last event.",
        "contentMediaType": "text/event-stream",
        "contentSchema": {"$ref": "#/components/schemas/Event"},
    },
    "example": EVENT_STREAM,
}
JSON_LINES: Json = {
    "schema": {
        "type": "string",
        "description": f"JSON Lines: on each line one `ExportLine`, at most {LONGEST_LINE} bytes. The first is "
        "an `ExportHeader`; a conversation is followed by its messages, each after the one that it follows; the last "
        "is an `ExportEnd`.",
        "contentMediaType": "application/jsonl",
        "contentSchema": {"$ref": "#/components/schemas/ExportLine"},
    },
    "example": EXPORT,
}
EXPORTS: Json = {
    "application/jsonl": JSON_LINES,
    "application/json": {
        "schema": {"type": "array", "description": "`openai`: as ChatGPT exports conversations.", "items": {}},
        "example": _OPENAI,
    },
    "text/markdown": {
        "schema": {"type": "string", "description": "`markdown`.", "contentMediaType": "text/markdown"},
        "example": "# Conversations",
    },
}
IMPORTS: Json = {
    "application/jsonl": JSON_LINES,
    "application/json": {
        "schema": {
            "description": "An export of ChatGPT (`conversations.json`), Open WebUI, LibreChat or DeepSeek.",
        },
        "example": _OPENAI,
    },
    "application/zip": {
        "schema": {"description": "The archive that ChatGPT exports.", "contentMediaType": "application/zip"},
        "example": "PK\u0003\u0004",
    },
}
"""Which of them it is, is told by `format`, or by what comes first; the Content-Type is not looked at."""


def form_of(shape: type) -> Json:
    return {FORM: {"schema": {"$ref": f"#/components/schemas/{shape.__name__}"}}}
