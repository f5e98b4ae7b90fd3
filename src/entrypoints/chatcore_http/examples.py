"""What the API documentation shows of each schema: one user, one conversation, one reply."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

import msgspec

from chatcore import entities
from chatcore_http import schemas

_THEN = "2026-03-14T09:26:53Z"
_LATER = "2026-03-14T09:27:21Z"

_USER = {
    "id": 1,
    "username": "alice",
    "email": "alice@example.com",
    "roles": ["user"],
    "is_active": True,
    "profile": asdict(entities.Profile()),
    "created_at": _THEN,
    "updated_at": _THEN,
}
_TOKENS = {
    "user": _USER,
    "access_token": "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "refresh_token": "V2hvZXZlciBoYXMgdGhpcyBtYXkgYXNrIGZvciBhbm90aGVy",
    "expires_in": 3600,
    "token_type": "bearer",
}
_SESSION = {
    "id": "q83vEjRWeJCrze8SNFZ4kA",
    "login_time": _THEN,
    "logout_time": None,
    "last_used_at": _LATER,
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64)",
    "address": "203.0.113.7",
    "current": True,
}
_API_KEY = {
    "id": "2cJ0w8Yc0m3XkTqfW1y6Vg",
    "name": "laptop",
    "hint": "r5Zk",
    "scopes": ["chat"],
    "created_at": _THEN,
    "last_used_at": _LATER,
    "expires_at": None,
    "revoked_at": None,
}
_MODEL_CONFIG = {
    "id": 1,
    "model_url": "https://api.openai.com/v1",
    "model_name": "gpt-4o-mini",
    "api_key_hint": "wxyz",
    "created_at": _THEN,
    "updated_at": _THEN,
}
_CONVERSATION: dict[str, Any] = msgspec.to_builtins(
    schemas.Conversation.of(
        entities.Conversation(
            id=entities.ConversationId(7),
            user_id=entities.OwnerId(1),
            title="Why is the sky blue?",
            created_at=datetime.fromisoformat(_THEN),
            updated_at=datetime.fromisoformat(_LATER),
        )
    )
)
_MESSAGE: dict[str, Any] = {
    "id": 11,
    "conversation_id": 7,
    "parent_id": None,
    "siblings": [11],
    "role": "user",
    "content": "Why is the sky blue?",
    "reasoning": None,
    "status": "complete",
    "model": None,
    "usage": None,
    "finish_reason": None,
    "error": None,
    "metadata": {},
    "images": 0,
    "created_at": _THEN,
}
_REF = {name: _MESSAGE[name] for name in ("id", "role", "created_at")}
_USAGE = {"prompt_tokens": 27, "completion_tokens": 9, "total_tokens": 36, "estimated": False}
_REPLY = {
    **_MESSAGE,
    "id": 12,
    "parent_id": 11,
    "siblings": [12],
    "role": "assistant",
    "content": "Because air scatters blue light most. 🌈",
    "model": "gpt-4o-mini",
    "usage": _USAGE,
    "finish_reason": "stop",
}
_STARTED = {
    "type": "reply.started",
    "reply_id": 12,
    "offset": 0,
    "conversation_id": 7,
    "message_id": 11,
    "model": "gpt-4o-mini",
}
_TEXT = {"type": "reply.delta", "reply_id": 12, "offset": 39, "text": _REPLY["content"]}
_ENDED = {"type": "reply.completed", "reply_id": 12, "offset": 39, "message": _REPLY}
_FAILURE = {"code": "model_timeout", "detail": "The model took too long."}
_CUT = {"usage": None, "finish_reason": None}
_FAILED_REPLY = {**_REPLY, "content": "Because air", "status": "failed", **_CUT, "error": _FAILURE}
_ROLE = {"name": "admin", "description": "Administers all accounts."}

_REFUSED = "has no messages: mapping is no object"
_HIT = {
    "conversation": _CONVERSATION,
    "message": _REF,
    "excerpt": _MESSAGE["content"],
    "excerpt_start": 0,
    "hit_start": 0,
    "score": None,
}

_FILE = {
    "id": 3,
    "collection": "default",
    "name": "sky.txt",
    "media_type": "text/plain",
    "size": 16,
    "sha256": "35d091262b3dd7a9a8d1ebae70e0ff3a6e9bbbf7c6ceb7f1cd2d4ddf3ea25a23",
    "created_at": _THEN,
}
EXAMPLES: dict[str, Any] = {
    "File": _FILE,
    "Files": {"items": [_FILE], "has_more": False},
    "About": {"name": "chatcore", "version": "0.1.0", "status": "running"},
    "Ready": {"status": "ready", "old_keys": 0},
    "Said": {"message": "Signed out."},
    "User": _USER,
    "Tokens": _TOKENS,
    "Registration": {"username": "alice", "email": "alice@example.com", "password": "correct horse battery"},
    "Credentials": {"username": "alice", "password": "correct horse battery"},
    "RefreshRequest": {"refresh_token": _TOKENS["refresh_token"]},
    "CookieRefresh": {},
    "Logout": {},
    "AccountDeletion": {"current_password": "correct horse battery"},
    "Session": _SESSION,
    "Sessions": {"items": [_SESSION], "has_more": False, "limit": 20, "offset": 0},
    "ApiKey": _API_KEY,
    "ApiKeys": {"items": [_API_KEY], "has_more": False, "limit": 100, "offset": 0},
    "CreatedApiKey": {**_API_KEY, "last_used_at": None, "key": "ck-" + "Zm9yLXRoZS1kb2N1bWVudHMtYW5kLW5vYm9keS1y5Zk"},
    "NewApiKey": {"name": "laptop", "scopes": ["chat"]},
    "Users": {"items": [_USER], "has_more": False, "next_cursor": None, "limit": 20},
    "AccountRole": _ROLE,
    "AccountRoles": {"items": [_ROLE], "has_more": False},
    "RoleChange": {"role": "admin"},
    "ModelConfig": _MODEL_CONFIG,
    "ModelConfigs": {"items": [_MODEL_CONFIG], "has_more": False, "limit": 100, "offset": 0},
    "NewModelConfig": {
        "model_url": "https://api.openai.com/v1",
        "model_name": "gpt-4o-mini",
        "api_key": "sk-0123456789abcdefwxyz",
    },
    "ModelConfigChange": {"model_name": "gpt-4o"},
    "ModelCheck": {"ok": True, "models": ["gpt-4o", "gpt-4o-mini"]},
    "Conversation": _CONVERSATION,
    "Conversations": {"items": [_CONVERSATION], "has_more": False, "limit": 20, "offset": 0, "next_cursor": None},
    "NewConversation": {"title": "Travel plans 🏝️"},
    "Message": _REPLY,
    "History": {
        "conversation": _CONVERSATION,
        "messages": [_MESSAGE, _REPLY],
        "has_more": False,
        "next_before_id": None,
    },
    "ChatHistory": {**_CONVERSATION, "messages": [_MESSAGE, _REPLY]},
    "MessageRef": _REF,
    "Hit": _HIT,
    "Hits": {
        "items": [
            _HIT,
            {**_HIT, "message": None, "excerpt": _CONVERSATION["title"]},
        ],
        "has_more": True,
        "next_cursor": "m11",
        "limit": 20,
    },
    "Imported": {
        "conversations": 1,
        "messages": 34,
        "refusals": 1,
        "refused": [{"line": None, "title": "Plans", "reason": _REFUSED}],
        "taken": [{"id": 7, "title": "Why is the sky blue?", "messages": 34, "left_out": {"image": 2}}],
    },
    "Send": {"content": "Why is the sky blue?"},
    "Regenerate": {"message_id": 12},
    "Branch": {"message_id": 12},
    "Chat": {"message": _MESSAGE, "reply": _REPLY},
    "Saying": {"message": "Why is the sky blue?"},
    "Answered": {"conversation_id": 7, "message": _MESSAGE["content"], "response": _REPLY["content"]},
    "ReplyStarted": _STARTED,
    "ReplyText": _TEXT,
    "ConversationTitled": {
        "type": "conversation.titled",
        "reply_id": 12,
        "offset": 39,
        "title": "Why the sky is blue",
    },
    "EndedReply": _REPLY,
    "ReplyEnded": _ENDED,
    "ReplyFailed": {"type": "reply.failed", "reply_id": 12, "offset": 11, "message": _FAILED_REPLY, **_FAILURE},
}


def _server_sent(event: dict[str, Any]) -> str:
    data = msgspec.json.encode(event).decode()
    return f"event: {event['type']}\nid: {event['reply_id']}:{event['offset']}\ndata: {data}\n\n"


_EXPORTED = [
    {"kind": "export", "format": "chatcore export", "version": 1, "exported_at": _LATER},
    {"kind": "conversation", **_CONVERSATION, "titled_by_user": False, "current_message_id": 11},
    {"kind": "message", **{name: value for name, value in _MESSAGE.items() if name != "siblings"}},
    {"kind": "end", "conversations": 1, "messages": 1},
]
EXPORT = "".join(f"{msgspec.json.encode(line).decode()}\n" for line in _EXPORTED)
EVENT_STREAM = "".join(_server_sent(event) for event in (_STARTED, _TEXT, _ENDED))
