"""Media types other than JSON, for the OpenAPI document."""

from chatcore.histories.own import LONGEST_LINE
from chatcore_http import schemas
from chatcore_http.examples import EVENT_STREAM, EXPORT
from chatcore_http.export_lines import LINES
from chatcore_http.json_schema import Json, one_of, reference_to

FORM = "application/x-www-form-urlencoded"


_OPENAI: list[Json] = [{"title": "Why is the sky blue?", "mapping": {}, "current_node": "root"}]

STREAM: Json = {
    "text/event-stream": {
        "schema": {
            "type": "string",
            "description": "Server-Sent Events: `event` is the type, `id` the cursor `<reply id>:<offset>`, and `data` "
            "the JSON of one `Event`. The response ends after the reply's last event.",
            "contentMediaType": "text/event-stream",
            "contentSchema": {"$ref": "#/components/schemas/Event"},
        },
        "example": EVENT_STREAM,
    }
}
JSON_LINES: Json = {
    "schema": {
        "type": "string",
        "description": f"JSON Lines: on each line one `ExportLine`, at most {LONGEST_LINE} bytes. The first is "
        "an `ExportHeader`; a conversation is followed by its messages, each after its parent; the last "
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
"""`format`, or the beginning of the body, decides which it is; the Content-Type does not."""


FILE_FORM: Json = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["file"],
            "properties": {
                "collection": {"type": "string", "description": "`default` by default. Comes before the file."},
                "file": {"type": "string", "format": "binary"},
            },
        },
        "example": {"collection": "default", "file": "The sky is blue."},
    },
    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}, "example": "The sky is blue."},
}
FILE_CONTENT: Json = {
    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}, "example": "The sky is blue."}
}


def form_of(shape: type) -> Json:
    return {FORM: {"schema": {"$ref": reference_to(shape)}}}


SCHEMAS: Json = {
    "Event": one_of(
        "One event of a reply. `offset`: how many code points of the reply the client has after it.",
        "type",
        {
            "reply.started": schemas.ReplyStarted,
            "reply.reasoning": schemas.ReplyText,
            "reply.delta": schemas.ReplyText,
            "conversation.titled": schemas.ConversationTitled,
            "reply.completed": schemas.ReplyEnded,
            "reply.stopped": schemas.ReplyEnded,
            "reply.interrupted": schemas.ReplyEnded,
            "reply.failed": schemas.ReplyFailed,
        },
    ),
    "ExportLine": one_of(
        "One line of an export, by its `kind`. An import reads conversations and messages.",
        "kind",
        {str(kind.__struct_config__.tag): kind for kind in LINES},
    ),
}
